//! Child processes that end with their owner, and the programs that were built.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tempfile::TempDir;

pub use crate::ports::port_block;
use crate::{process_groups, scenario, wrong_clock};

/// A child process in its own process group. The whole group is killed when the value is dropped, and
/// when the test process ends, even when it is killed.
#[derive(Debug)]
pub struct ChildProcess(pub Child);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let group = self.0.id();
        process_groups::kill(group);
        let _ = self.wait(Duration::from_secs(5));
        process_groups::wait_until_ended(group);
        wrong_clock::remove_shared_memory(group);
    }
}

impl ChildProcess {
    /// Starts a command; `install` is the command that installs it, for the error message.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, install: &str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("{name} cannot be started: {install}"))?;
        process_groups::add(child.id());
        Ok(Self(child))
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, name: &str) -> Result<()> {
        if !process_groups::send_signal(name, &self.0.id().to_string()) {
            bail!("SIG{name} cannot be sent to process {}", self.0.id());
        }
        Ok(())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("process {} did not end within {limit:?}", self.0.id());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs a command to its end: its output and its status.
///
/// # Errors
/// When it cannot be started, or does not end within `limit`.
pub async fn output(mut command: Command, limit: Duration) -> Result<Output> {
    let _waiting = scenario::waiting(&format!("the end of {}", command.get_program().to_string_lossy()));
    wait_with_output(start_with_output(&mut command)?, limit).await
}

/// Starts a command whose output [`wait_with_output`] reads.
///
/// # Errors
/// When it cannot be started.
pub fn start_with_output(command: &mut Command) -> Result<ChildProcess> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ChildProcess::start(command, "cargo build --workspace")
}

/// Waits for a command's end: its output and its status.
///
/// # Errors
/// When it does not end within `limit`.
pub async fn wait_with_output(mut child: ChildProcess, limit: Duration) -> Result<Output> {
    tokio::task::spawn_blocking(move || {
        let (stdout, stderr) = (read_all(child.0.stdout.take()), read_all(child.0.stderr.take()));
        let status = child.wait(limit)?;
        // Processes that it left behind hold its pipes open; dropping kills them.
        drop(child);
        let read = |all: JoinHandle<Vec<u8>>| all.join().map_err(|_| anyhow!("its output cannot be read"));
        Ok(Output { status, stdout: read(stdout)?, stderr: read(stderr)? })
    })
    .await?
}

/// Reads a pipe to its end in a thread, so that the writer does not block.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A temporary folder, in memory where `/dev/shm` exists. etcd syncs each write, which on a busy disk
/// may take longer than a lease's time to live.
///
/// # Errors
/// When it cannot be created.
pub fn memory_folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).context("cannot create a temporary folder")
}

/// The file `NAME.log` for a child's output, among the artefacts of the running test. A child that is
/// started again appends to it.
///
/// # Errors
/// When it cannot be opened.
pub fn log_file(name: &str) -> Result<Stdio> {
    let path = scenario::artefacts()?.join(format!("{name}.log"));
    let file = File::options().create(true).append(true).open(&path);
    Ok(file.with_context(|| format!("{} cannot be written", path.display()))?.into())
}

/// The path of a program of this workspace, in the profile that the tests run in.
///
/// # Errors
/// When it was not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder =
        here.parent().and_then(Path::parent).context("the test program is not in a target folder")?;
    let program = folder.join(name);
    if !program.is_file() {
        bail!("{} was not built: run `cargo build --workspace` first", program.display());
    }
    Ok(program)
}

/// Calls `check` every 50 ms until it returns a value.
///
/// # Errors
/// When it returned none within `limit`; `what` names what was awaited.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let _waiting = scenario::waiting(what);
    let check_again = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // The limit also covers a check that does not return.
    tokio::time::timeout(limit, check_again)
        .await
        .with_context(|| format!("{what} did not happen within {limit:?}"))
}
