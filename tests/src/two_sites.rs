//! Two nodes at two sites, connected only by a [`LossyPath`]: the home node `cph-1` and its sister
//! `sto-1`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use systir_load::Config;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::cluster::{admin_token_with, token_with};
use crate::lossy_path::{Impairment, LossyPath, Site};
use crate::meeting::Member;
use crate::native::NativeClient;
use crate::node_files::{self, Addresses, STRONG_KEY};
use crate::process::{ChildProcess, built, eventually, log_file, memory_folder};
use crate::scripted::{ScriptedClient, ScriptedCodec};
use crate::secure_etcd::SecureEtcd;

/// Limit of each wait for a node.
const TIMEOUT: Duration = Duration::from_secs(45);
const SITES: [(Site, &str); 2] = [(Site::Near, "cph-1"), (Site::Far, "sto-1")];

/// The two nodes and their etcd.
#[derive(Debug)]
pub struct TwoSites {
    // Dropped before `path`: the processes run in its network namespaces.
    nodes: BTreeMap<&'static str, ChildProcess>,
    _etcd: SecureEtcd,
    folder: TempDir,
    client: reqwest::Client,
    /// The network between the nodes.
    pub path: LossyPath,
}

impl TwoSites {
    /// Starts `cph-1` at the near site and `sto-1` at the far site. `capacities` are the seats of the
    /// two nodes, `mtu` is the path's MTU in bytes.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub async fn start(mtu: u16, capacities: [u32; 2]) -> Result<Self> {
        Self::start_with(mtu, capacities, "", str::to_owned).await
    }

    /// As [`TwoSites::start`], with further lines of `[policy]` in each configuration, and with changed rules of
    /// `ku.dk`.
    ///
    /// # Errors
    /// When a program is missing or does not start, or the rules cannot be signed.
    pub async fn start_with(
        mtu: u16,
        capacities: [u32; 2],
        policy: &str,
        rules: impl FnOnce(&str) -> String,
    ) -> Result<Self> {
        let path = LossyPath::new(mtu)?;
        let folder = memory_folder()?;
        let host = path.host_address();
        let etcd = SecureEtcd::start(&host.to_string(), 2379).await?;
        let prefix = |site| format!("{}/32", path.path_address(site));
        let prefixes = [prefix(Site::Near), prefix(Site::Far)];
        let prefixes = prefixes.each_ref().map(String::as_str);
        let documents =
            node_files::write_shared_files(folder.path(), &SITES.map(|(_, node)| node), &prefixes)?;
        let bundle = documents.bundle(1, |bundle| bundle.policy = rules(&bundle.policy))?;
        std::fs::write(folder.path().join("documents/ku.dk.note"), bundle)?;
        for ((site, node), capacity) in SITES.into_iter().zip(capacities) {
            let text = node_files::config(node, etcd.url(), &addresses(&path, site), capacity, &documents);
            etcd.write_client(node, folder.path(), node)?;
            let text = text.replace("[policy]\n", &format!("[policy]\n{policy}\n"));
            let text = text.replace("[registry]\n", &format!("[registry]\n{}", node_files::etcd_files(node)));
            std::fs::write(folder.path().join(format!("{node}.toml")), text)?;
        }
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let mut sites = Self { nodes: BTreeMap::new(), _etcd: etcd, folder, client, path };
        for (site, _) in SITES {
            sites.start_node(site)?;
        }
        for (site, node) in SITES {
            let ready = format!("{}/readyz", sites.metrics_url(site));
            eventually(&format!("{node} is ready"), TIMEOUT, || async {
                sites.client.get(&ready).send().await.ok().filter(|answer| answer.status().is_success())
            })
            .await?;
            eventually(&format!("{node} sees both nodes alive"), TIMEOUT, || async {
                let answer = sites.admin(site, "nodes").await.ok()?;
                let nodes = answer["nodes"].as_array()?;
                let alive = |name| nodes.iter().any(|node| node["node"] == name && node["alive"] == true);
                (alive("cph-1") && alive("sto-1")).then_some(())
            })
            .await?;
        }
        Ok(sites)
    }

    /// Starts the node of a site.
    ///
    /// # Errors
    /// When the relay was not built.
    pub fn start_node(&mut self, site: Site) -> Result<()> {
        let node = name(site);
        let mut command = self.path.command(site, built("systir-relay")?);
        command.arg("--config").arg(self.folder.path().join(format!("{node}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(node)?);
        self.nodes.insert(node, ChildProcess::start(&mut command, "cargo build --workspace")?);
        Ok(())
    }

    /// The gateway of a site, for clients.
    #[must_use]
    pub fn url(&self, site: Site) -> String {
        format!("http://{}:7880", self.path.client_address(site))
    }

    fn metrics_url(&self, site: Site) -> String {
        format!("http://{}:7872", self.path.client_address(site))
    }

    /// Load of `count` participants who join at a site and publish audio and video.
    #[must_use]
    pub fn load_config(&self, site: Site, room: &str, count: usize) -> Config {
        Config {
            url: self.url(site),
            api_key: STRONG_KEY[0].to_owned(),
            api_secret: STRONG_KEY[1].to_owned(),
            room: room.to_owned(),
            identity_prefix: if site == Site::Near { "near" } else { "far" }.to_owned(),
            participants: count,
            audio: true,
            video: true,
            ..Config::default()
        }
    }

    /// The value of a node's metric, summed over all labels.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn counter(&self, site: Site, metric: &str) -> Result<u64> {
        let address = format!("{}/metrics", self.metrics_url(site));
        let text = self.client.get(address).send().await?.error_for_status()?.text().await?;
        let values = text.lines().filter(|line| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until the value of a metric meets the condition.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn wait_for_metric(
        &self,
        site: Site,
        metric: &str,
        limit: Duration,
        condition: impl Fn(u64) -> bool,
    ) -> Result<()> {
        eventually(&format!("{metric} of {}", name(site)), limit, || async {
            self.counter(site, metric).await.ok().filter(|value| condition(*value)).map(drop)
        })
        .await
    }

    /// Sends an operator's request to the gateway of a site.
    ///
    /// # Errors
    /// When the gateway answers with an error.
    pub async fn admin(&self, site: Site, path: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/{path}", self.url(site));
        let bearer = admin_token_with(STRONG_KEY)?;
        let answer = self.client.get(address).bearer_auth(bearer).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Joins at a site and publishes these tracks.
    ///
    /// # Errors
    /// When the join is refused, or fails.
    pub async fn join(
        &self,
        site: Site,
        room: &str,
        identity: &str,
        codecs: &[ScriptedCodec],
    ) -> Result<Member> {
        let token = token_with(STRONG_KEY, room, identity)?;
        let client = ScriptedClient::join_and_connect(&self.url(site), &token, "").await?;
        Member::publishing(client, identity, codecs).await
    }

    /// The residency of a room, as a participant requests it at a site.
    ///
    /// # Errors
    /// When the gateway answers with an error.
    pub async fn residency(&self, site: Site, room: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/rooms/{room}/where", self.url(site));
        let bearer = token_with(STRONG_KEY, room, "observer")?;
        let answer = self.client.get(address).bearer_auth(bearer).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Whether this node reports a link of the room that is up.
    pub async fn has_link(&self, site: Site, room: &str) -> Option<()> {
        let answer = self.residency(site, room).await.ok()?;
        let up = |link: &Value| link["state"] == "up";
        answer["links"].as_array()?.iter().any(up).then_some(())
    }

    /// Waits until the path has dropped more than `before` packets; returns how many.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_for_loss(&self, before: u64) -> Result<u64> {
        eventually("packets dropped on the path", TIMEOUT, || async {
            self.path.lost_packets().ok().filter(|lost| *lost > before)
        })
        .await
    }

    /// Blocks UDP between a site and its clients.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn block_udp(&self, site: Site) -> Result<()> {
        self.path.block_udp(site).context("blocking UDP of a site")
    }

    /// Replaces the impairments of the path.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn impair(&self, impairments: &[Impairment]) -> Result<()> {
        self.path.impair(impairments).context("impairing the path")
    }
}

/// Anna joins at the near site with Chromium, Bo at the far site with the native client; both publish.
/// Blocks.
///
/// # Errors
/// When one of them cannot join.
pub fn anna_and_bo(near: &str, far: &str, room: &str) -> Result<(Browser, NativeClient)> {
    let mut anna = Browser::start_for(near)?;
    anna.join_with_token(near, room, "anna", &token_with(STRONG_KEY, room, "anna")?)?;
    let url = far.replace("http", "ws");
    let mut bo = NativeClient::join(&url, &token_with(STRONG_KEY, room, "bo")?, &["--publish", "--hold"])?;
    bo.wait_for("published")?;
    Ok((anna, bo))
}

fn name(site: Site) -> &'static str {
    if site == Site::Near { "cph-1" } else { "sto-1" }
}

fn addresses(path: &LossyPath, site: Site) -> Addresses {
    let (clients, peers) = (path.client_address(site), path.path_address(site));
    Addresses {
        http: format!("{clients}:7880"),
        media: format!("{clients}:7882"),
        tcp: Some(format!("{clients}:7881")),
        quic: format!("{peers}:7870"),
        grpc: format!("{peers}:7871"),
        telemetry: format!("{clients}:7872"),
    }
}
