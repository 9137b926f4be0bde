//! A real etcd with one member, on loopback, with its data in a temporary folder.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{ChildProcess, eventually, log_file, memory_folder};

/// The process and its data.
#[derive(Debug)]
pub struct Etcd {
    child: Option<ChildProcess>,
    folder: TempDir,
    port: u16,
}

impl Etcd {
    /// Starts etcd on `port` (clients) and `port + 1` (peers).
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub async fn start(port: u16) -> Result<Self> {
        let mut etcd = Self { child: None, folder: memory_folder()?, port };
        etcd.restart().await?;
        Ok(etcd)
    }

    /// Its URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its data folder.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().to_owned()
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
        let peer = format!("http://127.0.0.1:{}", self.port + 1);
        let child = ChildProcess::start(
            Command::new("etcd")
                .args(["--name", "one", "--data-dir"])
                .arg(self.folder.path())
                .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("one={peer}")])
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
