//! A network namespace of its own for some processes of a test. It lives as long as the process that holds
//! it, and that process ends with this one, even when this one is killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::ChildProcess;

/// What namespaces, interfaces and rules need.
pub(crate) const INSTALL: &str = "apt-get install util-linux iproute2 nftables, and run as root";

/// A network namespace with the loopback interface, and the process that holds it.
#[derive(Debug)]
pub(crate) struct Namespace(ChildProcess);

impl Namespace {
    pub(crate) fn new() -> Result<Self> {
        let mut holder = ChildProcess::start(
            Command::new("unshare")
                .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
            INSTALL,
        )?;
        let out = holder.0.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("cannot create a network namespace: {INSTALL}");
        }
        Ok(Self(holder))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// A command that runs inside the namespace.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg(program);
        command
    }

    /// Runs a script inside the namespace; a command that fails ends it.
    pub(crate) fn shell(&self, script: &str) -> Result<()> {
        run(self.command("sh").args(["-ec", script]), script)
    }
}

/// Runs a command to its end; `what` says in an error what it was for.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{INSTALL}: {what}"))?;
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
