//! A server that is measured from outside, whichever it is: a process on an [`ImpairedPath`].

use std::future::ready;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::impaired_path::{At, ImpairedPath, SERVER};
use crate::process::{ChildProcess, eventually, log_file};
use crate::scenario;

/// The port of HTTP and signalling.
pub const PORT: u16 = 7880;
const TIMEOUT: Duration = Duration::from_secs(45);

/// The running server. It ends when the value is dropped.
#[derive(Debug)]
pub struct ServerProcess(ChildProcess);

impl ServerProcess {
    /// Starts a server with a command of that path, and waits until it listens on [`PORT`]. Its output goes
    /// to the log `name`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(path: &ImpairedPath, command: &mut Command, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(log_file(name)?).stderr(log_file(name)?);
        let mut child = ChildProcess::start(command, "apt-get install util-linux")?;
        eventually(&format!("{name} listens"), TIMEOUT, || {
            let ended = child.0.try_wait().is_ok_and(|end| end.is_some());
            ready((ended || listens(path.server_pid())).then_some(()))
        })
        .await?;
        ensure!(
            child.0.try_wait()?.is_none(),
            "{name} ended; its log is in {}",
            scenario::artefacts()?.display()
        );
        Ok(Self(child))
    }

    /// Starts one Systir node with that many seats.
    ///
    /// # Errors
    /// As [`ServerProcess::start`].
    pub async fn systir(path: &ImpairedPath, program: &Path, seats: u32) -> Result<Self> {
        let mut command = path.command(At::Server, program);
        command.args(["demo", "--only", "cph-1", "--address", &SERVER.to_string()]);
        command.args(["--capacity", &format!("cph-1={seats}")]);
        command.arg("--log").arg(scenario::artefacts()?.join("systir.log"));
        Self::start(path, &mut command, "systir-output").await
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.0.id()
    }
}

/// Does any process listen on [`PORT`] in the network namespace of this one?
fn listens(pid: u32) -> bool {
    let port = format!(":{PORT:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        // proc(5), /proc/net/tcp: the local address is the second field, the state the fourth; 0A is LISTEN.
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
            fields.get(1).is_some_and(|local| local.ends_with(&port)) && fields.get(3) == Some(&"0A")
        })
    })
}
