//! The servers that are compared.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use systir_tests::impaired_path::{At, ImpairedPath, SERVER};
use systir_tests::process::memory_folder;
use systir_tests::server_process::{PORT, ServerProcess};
use tempfile::TempDir;

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) relay: PathBuf,
    pub(crate) livekit: PathBuf,
    pub(crate) client: PathBuf,
}

/// A server and its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// One node with one worker, its registry in the same process.
    Systir,
    /// With its own defaults.
    LiveKit,
    /// With sender-side bandwidth estimation, one media port, packets sent in batches, and warnings only
    /// in its log.
    Tuned,
}

impl Server {
    pub(crate) const ALL: [Self; 3] = [Self::Systir, Self::LiveKit, Self::Tuned];

    /// Its name on the command line.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Systir => "systir",
            Self::LiveKit => "livekit",
            Self::Tuned => "tuned",
        }
    }

    /// Starts it beside the clients.
    pub(crate) async fn start(self, path: &ImpairedPath, programs: &Programs) -> Result<Running> {
        let more = match self {
            Self::Systir => {
                let process = ServerProcess::systir(path, &programs.relay, SEATS).await?;
                return Ok(Running { process, _folder: None });
            }
            Self::LiveKit => "",
            Self::Tuned => TUNED,
        };
        let folder = memory_folder()?;
        let config = folder.path().join("livekit.yaml");
        let text = format!(
            "port: {PORT}\nkeys:\n  devkey: secret\nrtc:\n  node_ip: {SERVER}\n  use_external_ip: false\n{more}"
        );
        std::fs::write(&config, text)?;
        let mut command = path.command(At::Server, &programs.livekit);
        let process = ServerProcess::start(path, command.arg("--config").arg(&config), self.option()).await?;
        Ok(Running { process, _folder: Some(folder) })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Systir => "Systir",
            Self::LiveKit => "LiveKit",
            Self::Tuned => "LiveKit, tuned",
        })
    }
}

/// More than any load needs.
const SEATS: u32 = 300;

/// Continues the section `rtc`.
const TUNED: &str = "  udp_port: 7882
  batch_io:
    batch_size: 128
    max_flush_interval: 2ms
  congestion_control:
    use_send_side_bwe: true
logging:
  level: warn
";

/// A running server.
#[derive(Debug)]
pub(crate) struct Running {
    process: ServerProcess,
    // Removed after the server has ended.
    _folder: Option<TempDir>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}
