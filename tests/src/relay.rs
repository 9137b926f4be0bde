//! Single relays on one machine, each a process with its own log file. What a test wants different it
//! says in the environment, as an operator may.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use livekit_token::{AccessToken, VideoGrants};
use tempfile::TempDir;

use crate::node_files::{self, Addresses};
use crate::process::{Owned, built, eventually};
use crate::scenario;

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];

/// A folder with everything that nodes need, and a block of ports.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    base: u16,
}

/// A relay that runs.
#[derive(Debug)]
pub struct Relay {
    /// Its process.
    pub process: Owned,
    log: PathBuf,
    base: u16,
    tls: bool,
}

impl Site {
    /// Writes policy, certificates and a configuration for each node.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(base: u16) -> Result<Self> {
        let site = Self { folder: tempfile::tempdir()?, base };
        node_files::write_texts(site.path(), &NODES)?;
        for (index, node) in NODES.iter().enumerate() {
            let text = node_files::config(
                node,
                "http://127.0.0.1:1",
                &Addresses::on_loopback(base + 100 * index as u16),
                4,
            );
            std::fs::write(site.path().join(format!("{node}.toml")), text)?;
        }
        Ok(site)
    }

    /// Where the files lie.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a node; `environment` is laid over its file.
    ///
    /// # Errors
    /// When there is no such program.
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
        let process = Owned::start(&mut command, "cargo build --workspace")?;
        let tls = environment.iter().any(|(name, _)| *name == "SYSTIR_HTTP__CERTIFICATE");
        Ok(Relay { process, log, base: self.base + 100 * index as u16, tls })
    }
}

impl Relay {
    /// Its front door.
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

    /// Waits until it takes joins.
    ///
    /// # Errors
    /// When it does not; with what it said.
    pub async fn ready(&self) -> Result<()> {
        let ready = eventually("readiness", Duration::from_secs(60), || async {
            self.telemetry("/readyz").await.ok().filter(|(status, _)| *status == 200).map(|_| ())
        });
        ready.await.with_context(|| format!("it said: {}", self.said()))
    }

    /// Waits until it knows that another node lives.
    ///
    /// # Errors
    /// When it does not learn of it.
    pub async fn knows(&self, node: &str) -> Result<()> {
        self.knows_with(node, "secret").await
    }

    /// The same, asked with another API secret.
    ///
    /// # Errors
    /// When it does not learn of it.
    pub async fn knows_with(&self, node: &str, secret: &str) -> Result<()> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let token = AccessToken::with_api_key("devkey", secret).with_identity("operator").with_grants(grants);
        let (token, address) = (token.to_jwt()?, format!("{}/systir/v1/nodes", self.url()));
        eventually(&format!("knowledge of {node}"), Duration::from_secs(45), || async {
            let answer = reqwest::Client::new().get(&address).bearer_auth(&token).send().await.ok()?;
            let nodes: serde_json::Value = answer.json().await.ok()?;
            let lives = |one: &serde_json::Value| one["node"] == node && one["alive"] == true;
            nodes["nodes"].as_array()?.iter().any(lives).then_some(())
        })
        .await
    }

    /// What it logged so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// When it did not end in good order.
    pub fn stop(mut self) -> Result<String> {
        self.process.signal("TERM")?;
        let status = self.process.wait(Duration::from_secs(45))?;
        if !status.success() {
            bail!("it ended with {status}: {}", self.said());
        }
        Ok(self.said())
    }
}
