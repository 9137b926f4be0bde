//! A real etcd with one member, on loopback, with its data in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::process::{ChildProcess, eventually, log_file, memory_folder, output};

/// What an etcd that was never restored makes its cluster id from, beside its peer address.
const TOKEN: &str = "etcd-cluster";

/// Which cluster id an etcd has after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredAs {
    /// The id it had before, as if its data folder had been copied back.
    SameCluster,
    /// A new id, as when an operator follows etcd's instructions.
    AnotherCluster,
}

/// The process and its data.
#[derive(Debug)]
pub struct Etcd {
    child: Option<ChildProcess>,
    folder: TempDir,
    /// Name of the data folder, counted up by each restore.
    data: u32,
    port: u16,
}

impl Etcd {
    /// Starts etcd on `port` (clients) and `port + 1` (peers).
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub async fn start(port: u16) -> Result<Self> {
        let mut etcd = Self { child: None, folder: memory_folder()?, data: 0, port };
        etcd.restart().await?;
        Ok(etcd)
    }

    /// Its URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data folder.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join(self.data.to_string())
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// Sends its process a signal: `STOP` lets it answer nothing until `CONT`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.child.as_ref().context("etcd does not run")?.signal(name)
    }

    /// Makes a backup, as an operator does.
    ///
    /// # Errors
    /// When etcdctl is not installed or fails.
    pub async fn backup(&self, name: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(name);
        self.etcdctl(&["--endpoints", &self.url(), "snapshot", "save"], &file, &[]).await?;
        Ok(file)
    }

    /// Another etcd that has what the backup holds, on `port` and `port + 1`, with the cluster id of this one.
    ///
    /// # Errors
    /// When etcdctl fails, or etcd does not answer.
    pub async fn another_from(&self, backup: &Path, port: u16) -> Result<Self> {
        let mut other = Self { child: None, folder: memory_folder()?, data: 0, port };
        other.restore_data(backup, TOKEN, &self.peer()).await?;
        other.restart().await?;
        Ok(other)
    }

    /// Replaces it by what the backup holds, at the same address.
    ///
    /// # Errors
    /// When etcdctl fails, or etcd does not answer afterwards.
    pub async fn restore(&mut self, backup: &Path, restored: RestoredAs) -> Result<()> {
        self.kill();
        self.data += 1;
        let token = match restored {
            RestoredAs::SameCluster => TOKEN.to_owned(),
            RestoredAs::AnotherCluster => format!("restored-{}", self.data),
        };
        self.restore_data(backup, &token, &self.peer()).await?;
        self.restart().await
    }

    /// Makes the data folder from a backup. Token and peer address make the cluster id.
    async fn restore_data(&self, backup: &Path, token: &str, peer: &str) -> Result<()> {
        let data = self.data_folder().display().to_string();
        let member = format!("one={peer}");
        let cluster = ["--initial-cluster", &member, "--initial-cluster-token", token];
        let options = ["--name", "one", "--data-dir", &data, "--initial-advertise-peer-urls", peer];
        self.etcdctl(&["snapshot", "restore"], backup, &[&options[..], &cluster[..]].concat()).await
    }

    async fn etcdctl(&self, command: &[&str], file: &Path, options: &[&str]) -> Result<()> {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(command).arg(file).args(options);
        let output = output(etcdctl, Duration::from_secs(20)).await.context("apt-get install etcd-client")?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Kills it, like a crash.
    pub fn kill(&mut self) {
        self.child = None;
    }

    /// Starts it again with its data.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        let peer = self.peer();
        let child = ChildProcess::start(
            Command::new("etcd")
                .args(["--name", "one", "--data-dir"])
                .arg(self.data_folder())
                .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("one={peer}"), "--initial-cluster-token", TOKEN])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log_file("etcd")?),
            "apt-get install etcd-server",
        )?;
        self.child = Some(child);
        let health = format!("{}/health", self.url());
        eventually("etcd's answer", Duration::from_secs(45), || {
            let health = health.clone();
            async move {
                reqwest::get(&health).await.ok().filter(|answer| answer.status().is_success()).map(|_| ())
            }
        })
        .await
    }
}
