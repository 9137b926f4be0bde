//! A home and its sister in different places, with nothing between them but a [`Line`].

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use systir_load::Config;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::cluster::token;
use crate::lossy_path::{Line, Place, Trouble};
use crate::native::Native;
use crate::node_files::{self, Addresses};
use crate::process::{Owned, built, eventually, folder_in_memory, log_file};

/// How long a node may take for anything that it is asked.
const PATIENCE: Duration = Duration::from_secs(45);
const PLACES: [(Place, &str); 2] = [(Place::Near, "cph-1"), (Place::Far, "sto-1")];

/// Two nodes, each with people beside it, and their registry.
#[derive(Debug)]
pub struct Afar {
    // Processes end before the network that they are in.
    nodes: BTreeMap<&'static str, Owned>,
    _etcd: Owned,
    folder: TempDir,
    client: reqwest::Client,
    /// What is between the nodes.
    pub line: Line,
}

impl Afar {
    /// Starts `cph-1` near and `sto-1` far, each for so many people, on a line that packets of up
    /// to `mtu` bytes pass.
    ///
    /// # Errors
    /// When something is missing or does not start.
    pub async fn start(mtu: u16, seats: [u32; 2]) -> Result<Self> {
        let line = Line::new(mtu)?;
        let folder = folder_in_memory()?;
        let here = line.here();
        let (clients, peers) = (format!("http://{here}:2379"), format!("http://{here}:2380"));
        let etcd = Owned::start(
            std::process::Command::new("etcd")
                .args(["--name", "one", "--data-dir"])
                .arg(folder.path().join("etcd"))
                .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("one={peers}")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log_file("etcd")?),
            "apt-get install etcd-server",
        )?;
        node_files::write_texts(folder.path(), &PLACES.map(|(_, node)| node))?;
        for ((place, node), capacity) in PLACES.into_iter().zip(seats) {
            let text = node_files::config(node, &clients, &addresses(&line, place), capacity);
            std::fs::write(folder.path().join(format!("{node}.toml")), text)?;
        }
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let mut afar = Self { nodes: BTreeMap::new(), _etcd: etcd, folder, client, line };
        for (place, _) in PLACES {
            afar.start_node(place)?;
        }
        for (place, node) in PLACES {
            let ready = format!("{}/readyz", afar.telemetry(place));
            eventually(&format!("{node} takes joins"), PATIENCE, || async {
                afar.client.get(&ready).send().await.ok().filter(|answer| answer.status().is_success())
            })
            .await?;
            eventually(&format!("{node} knows of both nodes"), PATIENCE, || async {
                let answer = afar.ask(place, "nodes").await.ok()?;
                let nodes = answer["nodes"].as_array()?;
                let alive = |name| nodes.iter().any(|node| node["node"] == name && node["alive"] == true);
                (alive("cph-1") && alive("sto-1")).then_some(())
            })
            .await?;
        }
        Ok(afar)
    }

    /// Starts the node of a place.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start_node(&mut self, place: Place) -> Result<()> {
        let node = name(place);
        let mut command = self.line.command(place, built("systir-relay")?);
        command.arg("--config").arg(self.folder.path().join(format!("{node}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(node)?);
        self.nodes.insert(node, Owned::start(&mut command, "cargo build --workspace")?);
        Ok(())
    }

    /// The front door of a place, for people beside it.
    #[must_use]
    pub fn url(&self, place: Place) -> String {
        format!("http://{}:7880", self.line.door(place))
    }

    fn telemetry(&self, place: Place) -> String {
        format!("http://{}:7872", self.line.door(place))
    }

    /// People who join at a place.
    #[must_use]
    pub fn people(&self, place: Place, room: &str, count: usize) -> Config {
        Config {
            url: self.url(place),
            room: room.to_owned(),
            identity_prefix: if place == Place::Near { "near" } else { "far" }.to_owned(),
            participants: count,
            audio: true,
            video: true,
            ..Config::default()
        }
    }

    /// What a node counts, over all labels.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn counter(&self, place: Place, metric: &str) -> Result<u64> {
        let address = format!("{}/metrics", self.telemetry(place));
        let text = self.client.get(address).send().await?.error_for_status()?.text().await?;
        let values = text.lines().filter(|line| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until a gauge or counter is what it should be.
    ///
    /// # Errors
    /// When it is not within the limit.
    pub async fn until(
        &self,
        place: Place,
        metric: &str,
        limit: Duration,
        fits: impl Fn(u64) -> bool,
    ) -> Result<()> {
        eventually(&format!("{metric} of {}", name(place)), limit, || async {
            self.counter(place, metric).await.ok().filter(|value| fits(*value)).map(drop)
        })
        .await
    }

    /// What an operator asks of a node's front door.
    ///
    /// # Errors
    /// What the front door answered.
    pub async fn ask(&self, place: Place, path: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/{path}", self.url(place));
        let bearer = crate::cluster::admin_token()?;
        let answer = self.client.get(address).bearer_auth(bearer).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Is the room carried by both, with a link between them that stands, as this node sees it?
    pub async fn linked(&self, place: Place, room: &str) -> Option<()> {
        let address = format!("{}/systir/v1/rooms/{room}/where", self.url(place));
        let bearer = token(room, "looker").ok()?;
        let answer = self.client.get(address).bearer_auth(bearer).send().await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        let up = |link: &Value| link["state"] == "up";
        answer["links"].as_array()?.iter().any(up).then_some(())
    }

    /// Waits until the line's trouble has done something.
    ///
    /// # Errors
    /// When nothing was lost.
    pub async fn lost_more_than(&self, before: u64) -> Result<u64> {
        eventually("packets lost on the line", PATIENCE, || async {
            self.line.lost().ok().filter(|lost| *lost > before)
        })
        .await
    }

    /// From now on no UDP passes between a place and the people beside it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn wall(&self, place: Place) -> Result<()> {
        self.line.wall(place).context("a wall around a place")
    }

    /// From now on this is the line's trouble, and no other.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn trouble(&self, troubles: &[Trouble]) -> Result<()> {
        self.line.trouble(troubles).context("trouble on the line")
    }
}

/// Anna comes near with Chromium, and Bo far with the native client; both publish. Blocks.
///
/// # Errors
/// When one of them does not get in.
pub fn anna_and_bo(near: &str, far: &str, room: &str) -> Result<(Browser, Native)> {
    let mut anna = Browser::start_for(near)?;
    anna.join_with(near, room, "anna", &token(room, "anna")?)?;
    let door = far.replace("http", "ws");
    let mut bo = Native::join(&door, &token(room, "bo")?, &["--publish", "--hold"])?;
    bo.until("published")?;
    Ok((anna, bo))
}

fn name(place: Place) -> &'static str {
    if place == Place::Near { "cph-1" } else { "sto-1" }
}

fn addresses(line: &Line, place: Place) -> Addresses {
    let (door, end) = (line.door(place), line.end(place));
    Addresses {
        http: format!("{door}:7880"),
        media: format!("{door}:7882"),
        tcp: Some(format!("{door}:7881")),
        quic: format!("{end}:7870"),
        grpc: format!("{end}:7871"),
        telemetry: format!("{door}:7872"),
    }
}
