//! Relays as an operator runs them: the demonstration in one process, or one process for each node
//! with certificates of its own and a real etcd.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use livekit_token::{AccessToken, VideoGrants};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use crate::etcd::Etcd;
use crate::node_files::{self, Addresses};
use crate::output_lines::Lines;
use crate::process::{Owned, built, eventually, log_file, port_block};
use crate::scenario;

/// How long a node may take to start, or to notice another one.
const PATIENCE: Duration = Duration::from_secs(45);

/// A token of institution `ku.dk`.
///
/// # Errors
/// When none can be made.
pub fn token(room: &str, identity: &str) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
    Ok(AccessToken::with_api_key("devkey", "secret")
        .with_identity(identity)
        .with_name(identity)
        .with_grants(grants)
        .to_jwt()?)
}

pub(crate) fn admin_token() -> Result<String> {
    let grants = VideoGrants { room_list: true, room_admin: true, ..Default::default() };
    Ok(AccessToken::with_api_key("devkey", "secret")
        .with_identity("operator")
        .with_grants(grants)
        .to_jwt()?)
}

/// Three nodes; which process runs them depends on how the cluster was started.
#[derive(Debug)]
pub struct Cluster {
    base: u16,
    processes: BTreeMap<String, Owned>,
    folder: Option<TempDir>,
    client: reqwest::Client,
    said: Vec<String>,
    // Whoever writes to a pipe that nobody reads is ended.
    _words: Option<Lines>,
    // Given back last, when the processes have ended.
    _turn: Option<OwnedMutexGuard<()>>,
}

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];

impl Cluster {
    /// `systir-relay demo` on free ports.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn demo(capacities: &[(&str, u32)]) -> Result<Self> {
        let turn = scenario::turn_of_cluster().await?;
        let base = port_block()?;
        let mut command = Command::new(built("systir-relay")?);
        command.args(["demo", "--ports", &base.to_string()]);
        for (node, count) in capacities {
            command.arg("--capacity").arg(format!("{node}={count}"));
        }
        // Its log, and what it says on the terminal, in one file.
        command.arg("--log").arg(scenario::artefacts()?.join("demo.log"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file("demo")?);
        let mut child = Owned::start(&mut command, "cargo build --workspace")?;
        // The page's address is printed last, once everything listens.
        let lines = Lines::of(child.0.stdout.take().context("no standard output")?);
        let (lines, said) = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            while let Some(line) = lines.next("the demonstration's last line", PATIENCE)? {
                let last = line.contains("Meeting page: ");
                said.push(line);
                if last {
                    return Ok((lines, said));
                }
            }
            anyhow::bail!("the demonstration ended before it began; its log says why")
        })
        .await??;
        let processes = BTreeMap::from([("demo".to_owned(), child)]);
        let cluster =
            Self { base, processes, folder: None, client: client()?, said, _words: Some(lines), _turn: turn };
        cluster.ready(&NODES).await?;
        Ok(cluster)
    }

    /// One process for each node, with the registry in an etcd of their own.
    ///
    /// # Errors
    /// When a process does not start.
    pub async fn three(capacities: &[(&str, u32)]) -> Result<(Etcd, Self)> {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let cluster = Self::with_etcd(&etcd.url(), base, capacities).await?;
        Ok((etcd, cluster))
    }

    /// One process for each node, with the registry in etcd.
    ///
    /// # Errors
    /// When a node does not start.
    pub async fn with_etcd(etcd: &str, base: u16, capacities: &[(&str, u32)]) -> Result<Self> {
        let mut cluster = Self::prepared(etcd, base, capacities).await?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.ready(&NODES).await?;
        Ok(cluster)
    }

    /// Certificates and configurations of three nodes; none is started.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn prepared(etcd: &str, base: u16, capacities: &[(&str, u32)]) -> Result<Self> {
        let turn = scenario::turn_of_cluster().await?;
        let folder = tempfile::tempdir()?;
        node_files::write_texts(folder.path(), &NODES)?;
        for (index, node) in NODES.iter().enumerate() {
            let capacity = capacities.iter().find(|(name, _)| name == node).map_or(6, |(_, count)| *count);
            let text =
                node_files::config(node, etcd, &Addresses::on_loopback(base + 100 * index as u16), capacity)
                    + GUESTS;
            std::fs::write(folder.path().join(format!("{node}.toml")), text)?;
        }
        let (processes, folder) = (BTreeMap::new(), Some(folder));
        Ok(Self { base, processes, folder, client: client()?, said: Vec::new(), _words: None, _turn: turn })
    }

    /// Where certificates and configurations lie; nowhere for the demonstration.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.path()
    }

    /// What the demonstration told people to do, line by line.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// One of a node's ports: the block's first port of the node is 0, for QUIC.
    #[must_use]
    pub fn port(&self, node: &str, offset: u16) -> u16 {
        self.base + 100 * Self::index(node) + offset
    }

    /// What the process of a node, or of the demonstration, logged until now.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self, process: &str) -> Result<String> {
        let path = scenario::artefacts()?.join(format!("{process}.log"));
        let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Does the process of a node, or of the demonstration, still run?
    #[must_use]
    pub fn runs(&mut self, process: &str) -> bool {
        self.processes.get_mut(process).is_some_and(|process| matches!(process.0.try_wait(), Ok(None)))
    }

    fn path(&self) -> PathBuf {
        self.folder.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default()
    }

    /// Starts a node that was stopped or killed.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(&mut self, node: &str) -> Result<()> {
        let file = self.path().join(format!("{node}.toml"));
        let mut command = Command::new(built("systir-relay")?);
        command.arg("--config").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(node)?);
        self.processes.insert(node.to_owned(), Owned::start(&mut command, "cargo build --workspace")?);
        Ok(())
    }

    /// Kills a node, as a power cut would.
    pub fn kill(&mut self, node: &str) {
        self.processes.remove(node);
    }

    /// Sends a signal to the process of a node, or of the demonstration.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&self, node: &str, signal: &str) -> Result<()> {
        self.processes.get(node).context("no such process")?.signal(signal)
    }

    /// Waits for the end of the process of a node after a signal: true for a good one.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub fn wait(&mut self, node: &str) -> Result<bool> {
        let mut process = self.processes.remove(node).context("no such process")?;
        Ok(process.wait(Duration::from_secs(20))?.success())
    }

    /// The id of a node's process.
    ///
    /// # Errors
    /// When there is none.
    pub fn pid(&self, node: &str) -> Result<u32> {
        Ok(self.processes.get(node).context("no such process")?.0.id())
    }

    fn index(node: &str) -> u16 {
        NODES.iter().position(|name| *name == node).unwrap_or_default() as u16
    }

    /// A node's front door.
    #[must_use]
    pub fn url(&self, node: &str) -> String {
        format!("http://127.0.0.1:{}", self.base + 100 * Self::index(node) + 10)
    }

    fn telemetry(&self, node: &str) -> String {
        format!("http://127.0.0.1:{}", self.base + 100 * Self::index(node) + 2)
    }

    /// Waits until the nodes take joins and know of each other.
    ///
    /// # Errors
    /// When they do not.
    pub async fn ready(&self, nodes: &[&str]) -> Result<()> {
        for node in nodes {
            let address = format!("{}/readyz", self.telemetry(node));
            eventually(&format!("{node} takes joins"), PATIENCE, || async {
                self.client.get(&address).send().await.ok().filter(|answer| answer.status().is_success())
            })
            .await?;
        }
        let first = nodes.first().context("no nodes")?;
        eventually("the nodes know of each other", PATIENCE, || async {
            let answer = self.admin(first, "nodes").await.ok()?;
            let alive = |node: &&&str| {
                answer["nodes"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["node"] == ***node && one["alive"] == true))
            };
            (nodes.iter().filter(alive).count() == nodes.len()).then_some(())
        })
        .await
    }

    /// One of a node's counters, over all its labels.
    ///
    /// # Errors
    /// When the node does not answer, or knows no such counter: a zero must mean something.
    pub async fn counter(&self, node: &str, name: &str) -> Result<u64> {
        self.counter_with(node, name, "").await
    }

    /// One of a node's counters, over those of its labels that have `label`, such as
    /// `outcome="refused"`.
    ///
    /// # Errors
    /// When the node does not answer, or knows no such counter.
    pub async fn counter_with(&self, node: &str, name: &str, label: &str) -> Result<u64> {
        let text = self.client.get(format!("{}/metrics", self.telemetry(node))).send().await?.text().await?;
        let family = format!("# TYPE {} ", name.strip_suffix("_total").unwrap_or(name));
        ensure!(text.lines().any(|line| line.starts_with(&family)), "{node} has no metric {name}");
        let values = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(label))
        });
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// What an operator asks: `nodes`, `rooms`, `rooms/NAME/explain`.
    ///
    /// # Errors
    /// What the front door answered.
    pub async fn admin(&self, node: &str, path: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/{path}", self.url(node));
        let answer = self.client.get(address).bearer_auth(admin_token()?).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// What a participant asks.
    ///
    /// # Errors
    /// What the front door answered.
    pub async fn whereabouts(&self, node: &str, room: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/rooms/{room}/where", self.url(node));
        let answer = self.client.get(address).bearer_auth(token(room, "looker")?).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Would this person be let in? The status and the words.
    ///
    /// # Errors
    /// When the front door does not answer.
    pub async fn validate(&self, node: &str, room: &str, identity: &str) -> Result<(u16, String)> {
        let address = format!("{}/rtc/validate", self.url(node));
        let answer = self.client.get(address).bearer_auth(token(room, identity)?).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?)
}

/// Whoever opens the meeting page may join.
const GUESTS: &str = "
        [page]
        guest_key = \"devkey\"
        ";
