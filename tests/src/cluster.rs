//! A cluster of three nodes as an operator runs it: `systir-relay demo` in one process, or a process
//! for each node, with certificates and a real etcd.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use livekit_token::{AccessToken, VideoGrants};
use serde_json::Value;
use systir_policy::demo::signed::SignedDemo;
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use crate::etcd::Etcd;
use crate::load_balancer::Gateway;
use crate::node_files::{self, Addresses};
use crate::output_lines::OutputLines;
use crate::process::{ChildProcess, built, eventually, log_file, port_block};
use crate::scenario;
use crate::secure_etcd::SecureEtcd;
use crate::wrong_clock::WrongClock;

/// Limit for a node to start, or to see another node.
const TIMEOUT: Duration = Duration::from_secs(45);

/// API key and secret of the demo, which the nodes of [`Cluster`] hold.
const DEMO_KEY: [&str; 2] = ["devkey", "secret"];

/// A participant's token of institution `ku.dk`.
///
/// # Errors
/// When it cannot be signed.
pub fn token(room: &str, identity: &str) -> Result<String> {
    token_with(DEMO_KEY, room, identity)
}

/// As [`token`], with another API key and secret.
///
/// # Errors
/// When it cannot be signed.
pub fn token_with([key, secret]: [&str; 2], room: &str, identity: &str) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
    Ok(AccessToken::with_api_key(key, secret)
        .with_identity(identity)
        .with_name(identity)
        .with_grants(grants)
        .to_jwt()?)
}

fn admin_token() -> Result<String> {
    admin_token_with(DEMO_KEY)
}

pub(crate) fn admin_token_with([key, secret]: [&str; 2]) -> Result<String> {
    let grants = VideoGrants { room_list: true, room_admin: true, ..Default::default() };
    Ok(AccessToken::with_api_key(key, secret).with_identity("operator").with_grants(grants).to_jwt()?)
}

/// Three nodes, in one process or in a process each.
#[derive(Debug)]
pub struct Cluster {
    base: u16,
    processes: BTreeMap<String, ChildProcess>,
    /// Clocks of nodes that tests set.
    clocks: BTreeMap<String, WrongClock>,
    folder: Option<TempDir>,
    /// The keys that sign the nodes' documents; not of the demo, which keeps its keys.
    documents: Option<SignedDemo>,
    client: reqwest::Client,
    terminal_output: Vec<String>,
    // Kept open: printing to a closed pipe would fail in the process.
    _stdout: Option<OutputLines>,
    // Dropped last, after the processes have ended.
    _lock: Option<OwnedMutexGuard<()>>,
}

/// The nodes. `ku.dk` does not approve the last one.
pub(crate) const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];

impl Cluster {
    /// `systir-relay demo` on free ports.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn demo(capacities: &[(&str, u32)]) -> Result<Self> {
        let lock = scenario::lock_for_cluster().await?;
        let base = port_block()?;
        let mut command = Command::new(built("systir-relay")?);
        command.args(["demo", "--ports", &base.to_string()]);
        for (node, count) in capacities {
            command.arg("--capacity").arg(format!("{node}={count}"));
        }
        // Its log and its standard error go to the same file.
        command.arg("--log").arg(scenario::artefacts()?.join("demo.log"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file("demo")?);
        let mut child = ChildProcess::start(&mut command, "cargo build --workspace")?;
        // It prints the page's address last, once every port is open.
        let lines = OutputLines::of(child.0.stdout.take().context("no standard output")?);
        let (lines, terminal_output) = tokio::task::spawn_blocking(move || {
            let mut printed = Vec::new();
            while let Some(line) = lines.next("the last line of the demo's output", TIMEOUT)? {
                let last = line.contains("Meeting page: ");
                printed.push(line);
                if last {
                    return Ok((lines, printed));
                }
            }
            anyhow::bail!("the demo ended before it was ready; see its log")
        })
        .await??;
        let processes = BTreeMap::from([("demo".to_owned(), child)]);
        let cluster = Self {
            base,
            processes,
            clocks: BTreeMap::new(),
            folder: None,
            documents: None,
            client: client()?,
            terminal_output,
            _stdout: Some(lines),
            _lock: lock,
        };
        cluster.wait_ready(&NODES).await?;
        Ok(cluster)
    }

    /// A process for each node, with a new etcd.
    ///
    /// # Errors
    /// When a process does not start.
    pub async fn three_nodes(capacities: &[(&str, u32)]) -> Result<(Etcd, Self)> {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let cluster = Self::with_etcd(&etcd.url(), base, capacities).await?;
        Ok((etcd, cluster))
    }

    /// A process for each node, with the etcd at this URL.
    ///
    /// # Errors
    /// When a node does not start.
    pub async fn with_etcd(etcd: &str, base: u16, capacities: &[(&str, u32)]) -> Result<Self> {
        let mut cluster = Self::prepare(etcd, base, capacities).await?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.wait_ready(&NODES).await?;
        Ok(cluster)
    }

    /// Writes certificates and configurations of three nodes and starts none.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn prepare(etcd: &str, base: u16, capacities: &[(&str, u32)]) -> Result<Self> {
        let lock = scenario::lock_for_cluster().await?;
        let folder = tempfile::tempdir()?;
        let documents = node_files::write_shared_files(folder.path(), &NODES, &[])?;
        for (index, node) in NODES.iter().enumerate() {
            let capacity = capacities.iter().find(|(name, _)| name == node).map_or(6, |(_, count)| *count);
            let text = node_files::config(
                node,
                etcd,
                &Addresses::on_loopback(base + 100 * index as u16),
                capacity,
                &documents,
            );
            let page = if *node == node_files::UNAPPROVED { "" } else { GUEST_PAGE };
            let text = text + page;
            std::fs::write(folder.path().join(format!("{node}.toml")), text)?;
        }
        Ok(Self {
            base,
            processes: BTreeMap::new(),
            clocks: BTreeMap::new(),
            folder: Some(folder),
            documents: Some(documents),
            client: client()?,
            terminal_output: Vec::new(),
            _stdout: None,
            _lock: lock,
        })
    }

    /// Sets a field in the configuration of all nodes. They must not run yet.
    ///
    /// # Errors
    /// When a configuration cannot be written.
    pub fn set(&self, section: &str, field: &str, value: &str) -> Result<()> {
        for node in NODES {
            let file = self.path().join(format!("{node}.toml"));
            let text = std::fs::read_to_string(&file)?;
            let changed =
                text.replacen(&format!("[{section}]\n"), &format!("[{section}]\n{field} = {value}\n"), 1);
            anyhow::ensure!(changed != text, "{} has no section [{section}]", file.display());
            std::fs::write(&file, changed)?;
        }
        Ok(())
    }

    /// Replaces a node's configuration file, as an editor does. It takes some changes while it runs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, node: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
        let file = self.path().join(format!("{node}.toml"));
        let new = file.with_extension("new");
        std::fs::write(&new, change(&std::fs::read_to_string(&file)?))?;
        Ok(std::fs::rename(new, file)?)
    }

    /// Lets the nodes connect to an etcd that demands client certificates: to be called before they start.
    ///
    /// # Errors
    /// When their certificates or configurations cannot be written.
    pub fn use_certificates_of(&self, etcd: &SecureEtcd) -> Result<()> {
        for node in NODES {
            etcd.write_client(node, &self.path(), node)?;
            let file = self.path().join(format!("{node}.toml"));
            let text = std::fs::read_to_string(&file)?;
            let files = node_files::etcd_files(node);
            std::fs::write(file, text.replace("[registry]\n", &format!("[registry]\n{files}")))?;
        }
        Ok(())
    }

    /// The folder of certificates and configurations; empty for the demo.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.path()
    }

    /// The keys of `ku.dk`, `nordunet` and the nodes.
    ///
    /// # Errors
    /// For the demo, which keeps its keys.
    pub fn documents(&self) -> Result<&SignedDemo> {
        self.documents.as_ref().context("the demo keeps its keys")
    }

    /// Signs a version of the bundle of `ku.dk` with changed rules, and puts it into the nodes' folder of
    /// documents.
    ///
    /// # Errors
    /// When the rules stay the same, or cannot be signed.
    pub fn publish_rules(&self, version: u64, change: impl FnOnce(&str) -> String) -> Result<()> {
        let mut changed = false;
        let note = self.documents()?.bundle(version, |bundle| {
            let rules = change(&bundle.policy);
            changed = rules != bundle.policy;
            bundle.policy = rules;
        })?;
        ensure!(changed, "the rules stay the same");
        self.publish("ku.dk.note", &note)
    }

    /// Puts a note into the nodes' folder of documents.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn publish(&self, file: &str, note: &str) -> Result<()> {
        // By renaming, so that no node reads half a file.
        let (path, whole) = (self.path().join("documents").join(file), self.path().join("note-new"));
        std::fs::write(&whole, note)?;
        Ok(std::fs::rename(whole, path)?)
    }

    /// Gives the API key and the room key of `ku.dk` to the node that does not have it, for tests whose rules approve it.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn approve_keys(&self) -> Result<()> {
        let file = self.path().join(format!("{}.toml", node_files::UNAPPROVED));
        let text = std::fs::read_to_string(&file)?;
        Ok(std::fs::write(file, text + node_files::API_KEY + node_files::ROOM_KEY + GUEST_PAGE)?)
    }

    /// The lines that the demo printed when it started.
    #[must_use]
    pub fn terminal_output(&self) -> &[String] {
        &self.terminal_output
    }

    /// One of a node's ports; offset 0 is QUIC.
    #[must_use]
    pub fn port(&self, node: &str, offset: u16) -> u16 {
        self.base + 100 * Self::index(node) + offset
    }

    /// The log so far of a node's process, or of `demo`.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self, process: &str) -> Result<String> {
        let path = scenario::artefacts()?.join(format!("{process}.log"));
        let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Does the process of a node, or of `demo`, still run?
    #[must_use]
    pub fn is_running(&mut self, process: &str) -> bool {
        self.processes.get_mut(process).is_some_and(|process| matches!(process.0.try_wait(), Ok(None)))
    }

    fn path(&self) -> PathBuf {
        self.folder.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default()
    }

    /// Starts a node that was stopped or killed.
    ///
    /// # Errors
    /// When the relay was not built.
    pub fn start(&mut self, node: &str) -> Result<()> {
        let file = self.path().join(format!("{node}.toml"));
        let mut command = Command::new(built("systir-relay")?);
        command.arg("--config").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(node)?);
        if let Some(clock) = self.clocks.get(node) {
            clock.give_to(&mut command);
        }
        self.processes.insert(node.to_owned(), ChildProcess::start(&mut command, "cargo build --workspace")?);
        Ok(())
    }

    /// Sets a node's wall clock so many seconds after the right time, or before it if negative: for its next start, and at
    /// once if it was started with a clock that was set.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn set_clock(&mut self, node: &str, seconds: i64) -> Result<()> {
        if let Some(clock) = self.clocks.get(node) {
            return clock.set(seconds);
        }
        let clock = WrongClock::new(self.path().join(format!("{node}.clock")), seconds)?;
        self.clocks.insert(node.to_owned(), clock);
        Ok(())
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, node: &str) {
        self.processes.remove(node);
    }

    /// Sends a signal to the process of a node, or of `demo`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, node: &str, signal: &str) -> Result<()> {
        self.processes.get(node).context("no such process")?.signal(signal)
    }

    /// Waits until a node's process has ended after a signal: true when its status is a success.
    ///
    /// # Errors
    /// When there is no such process, or it does not end.
    pub fn wait_for_exit(&mut self, node: &str) -> Result<bool> {
        let mut process = self.processes.remove(node).context("no such process")?;
        Ok(process.wait(Duration::from_secs(20))?.success())
    }

    /// The id of a node's process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn pid(&self, node: &str) -> Result<u32> {
        Ok(self.processes.get(node).context("no such process")?.0.id())
    }

    pub(crate) fn index(node: &str) -> u16 {
        NODES.iter().position(|name| *name == node).unwrap_or_default() as u16
    }

    /// The URL of a node's gateway.
    #[must_use]
    pub fn url(&self, node: &str) -> String {
        format!("http://127.0.0.1:{}", self.base + 100 * Self::index(node) + 10)
    }

    fn metrics_url(&self, node: &str) -> String {
        format!("http://127.0.0.1:{}", self.base + 100 * Self::index(node) + 2)
    }

    /// The node's gateway, for a load balancer in front of it.
    ///
    /// # Errors
    /// When its address cannot be read.
    pub fn gateway(&self, node: &str) -> Result<Gateway> {
        let address = format!("127.0.0.1:{}", self.port(node, 10)).parse()?;
        Ok(Gateway { address, ready: format!("{}/readyz", self.metrics_url(node)) })
    }

    /// Status of `/readyz` or `/healthz` of a node.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn probe(&self, node: &str, path: &str) -> Result<u16> {
        let answer = self.client.get(format!("{}{path}", self.metrics_url(node))).send().await?;
        Ok(answer.status().as_u16())
    }

    /// Waits until the nodes are ready and see each other. Each has a copy of etcd of its own, and may be the gateway of the
    /// first join.
    ///
    /// # Errors
    /// When they do not.
    pub async fn wait_ready(&self, nodes: &[&str]) -> Result<()> {
        // The unapproved node has no API key, and is not asked which nodes it sees.
        for node in nodes.iter().filter(|node| **node != node_files::UNAPPROVED) {
            self.wait_ready_as_seen_by(node, nodes).await?;
        }
        Ok(())
    }

    /// Waits until the nodes are ready and this one sees them.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_ready_as_seen_by(&self, observer: &str, nodes: &[&str]) -> Result<()> {
        for node in nodes {
            let address = format!("{}/readyz", self.metrics_url(node));
            eventually(&format!("{node} is ready"), TIMEOUT, || async {
                self.client.get(&address).send().await.ok().filter(|answer| answer.status().is_success())
            })
            .await?;
        }
        eventually(&format!("{observer} sees {nodes:?}"), TIMEOUT, || async {
            let answer = self.admin(observer, "nodes").await.ok()?;
            let alive = |node: &&&str| {
                answer["nodes"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["node"] == ***node && one["alive"] == true))
            };
            (nodes.iter().filter(alive).count() == nodes.len()).then_some(())
        })
        .await
    }

    /// The value of a node's metric, summed over all labels.
    ///
    /// # Errors
    /// When the node does not answer, or has no such metric: a misspelt name must not count as zero.
    pub async fn counter(&self, node: &str, name: &str) -> Result<u64> {
        self.counter_with(node, name, "").await
    }

    /// The value of a node's metric, summed over the series with `label`, such as
    /// `outcome="refused"`.
    ///
    /// # Errors
    /// When the node does not answer, or has no such metric.
    pub async fn counter_with(&self, node: &str, name: &str, label: &str) -> Result<u64> {
        let text =
            self.client.get(format!("{}/metrics", self.metrics_url(node))).send().await?.text().await?;
        let family = format!("# TYPE {} ", name.strip_suffix("_total").unwrap_or(name));
        ensure!(text.lines().any(|line| line.starts_with(&family)), "{node} has no metric {name}");
        let values = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(label))
        });
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// An operator's request: `nodes`, `rooms`, `rooms/NAME/explain`.
    ///
    /// # Errors
    /// When the gateway answers with an error.
    pub async fn admin(&self, node: &str, path: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/{path}", self.url(node));
        let answer = self.client.get(address).bearer_auth(admin_token()?).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Publishes a signed document through a gateway: the status and the text of the answer.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn publish_over_http(&self, node: &str, note: &str) -> Result<(u16, String)> {
        let address = format!("{}/systir/v1/documents", self.url(node));
        let request = self.client.post(address).bearer_auth(admin_token()?).body(note.to_owned());
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The residency of a room, as a participant requests it.
    ///
    /// # Errors
    /// When the gateway answers with an error.
    pub async fn residency(&self, node: &str, room: &str) -> Result<Value> {
        let address = format!("{}/systir/v1/rooms/{room}/where", self.url(node));
        let answer = self.client.get(address).bearer_auth(token(room, "observer")?).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Whether the gateway would accept this participant: the status and the text of `/rtc/validate`.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn validate(&self, node: &str, room: &str, identity: &str) -> Result<(u16, String)> {
        self.validate_token(node, &token(room, identity)?).await
    }

    /// As [`Cluster::validate`], for any token.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn validate_token(&self, node: &str, token: &str) -> Result<(u16, String)> {
        let address = format!("{}/rtc/validate", self.url(node));
        let answer = self.client.get(address).bearer_auth(token).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?)
}

/// The meeting page gets tokens for guests.
const GUEST_PAGE: &str = "
        [page]
        guest_key = \"devkey\"
        ";
