//! Single relays on this host, each a process with its own log file. A test overrides fields of the
//! configuration with environment variables, as an operator can.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use livekit_token::{AccessToken, VideoGrants};
use tempfile::TempDir;

use crate::node_files::{self, Addresses};
use crate::process::{ChildProcess, built, eventually};
use crate::scenario;

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];

/// The files of three nodes, and their block of ports.
#[derive(Debug)]
pub struct RelayConfigs {
    folder: TempDir,
    base: u16,
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    /// Its process.
    pub process: ChildProcess,
    log: PathBuf,
    base: u16,
    tls: bool,
}

impl RelayConfigs {
    /// Writes policy, certificates and a configuration for each node.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(base: u16) -> Result<Self> {
        let configs = Self { folder: tempfile::tempdir()?, base };
        let documents = node_files::write_shared_files(configs.path(), &NODES, &[])?;
        for (index, node) in NODES.iter().enumerate() {
            let text = node_files::config(
                node,
                "http://127.0.0.1:1",
                &Addresses::on_loopback(base + 100 * index as u16),
                4,
                &documents,
            );
            std::fs::write(configs.path().join(format!("{node}.toml")), text)?;
        }
        Ok(configs)
    }

    /// The folder of the files.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a node; variables in `environment` override its file.
    ///
    /// # Errors
    /// When there is no such node, or the relay was not built.
    pub fn start(&self, node: &str, environment: &[(&str, &str)]) -> Result<Relay> {
        let index = NODES.iter().position(|name| *name == node).context("no such node")?;
        let log = scenario::artefacts()?.join(format!("{node}.log"));
        let out = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(built("systir-relay")?);
        command
            .arg("--config")
            .arg(self.path().join(format!("{node}.toml")))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::from(out.try_clone()?))
            .stderr(Stdio::from(out));
        let process = ChildProcess::start(&mut command, "cargo build --workspace")?;
        let tls = environment.iter().any(|(name, _)| *name == "SYSTIR_HTTP__CERTIFICATE");
        Ok(Relay { process, log, base: self.base + 100 * index as u16, tls })
    }
}

impl Relay {
    /// The URL of its gateway.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.base + 10)
    }

    /// `/metrics`, `/healthz` or `/readyz`: status and text.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn telemetry(&self, path: &str) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.base + 2)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; with its log.
    pub async fn wait_ready(&self) -> Result<()> {
        let ready = eventually("readiness", Duration::from_secs(60), || async {
            self.telemetry("/readyz").await.ok().filter(|(status, _)| *status == 200).map(|_| ())
        });
        ready.await.with_context(|| format!("its log: {}", self.log()))
    }

    /// Waits until it sees that another node is alive.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_until_sees(&self, node: &str) -> Result<()> {
        self.wait_until_sees_with(node, "secret").await
    }

    /// As [`Relay::wait_until_sees`], with another API secret.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_until_sees_with(&self, node: &str, secret: &str) -> Result<()> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let token = AccessToken::with_api_key("devkey", secret).with_identity("operator").with_grants(grants);
        let (token, address) = (token.to_jwt()?, format!("{}/systir/v1/nodes", self.url()));
        eventually(&format!("{node} is alive"), Duration::from_secs(45), || async {
            let answer = reqwest::Client::new().get(&address).bearer_auth(&token).send().await.ok()?;
            let nodes: serde_json::Value = answer.json().await.ok()?;
            let alive = |one: &serde_json::Value| one["node"] == node && one["alive"] == true;
            nodes["nodes"].as_array()?.iter().any(alive).then_some(())
        })
        .await
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM and waits until it has ended; returns its log.
    ///
    /// # Errors
    /// When it ends with a failure status.
    pub fn stop(mut self) -> Result<String> {
        self.process.signal("TERM")?;
        let status = self.process.wait(Duration::from_secs(45))?;
        if !status.success() {
            bail!("the relay ended with {status}: {}", self.log());
        }
        Ok(self.log())
    }
}
