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
use crate::{process_groups, scenario};

/// A child process with all that it started, in a process group of its own. The whole group is
/// ended when the value is dropped, and when the tests' own process ends in whatever way.
#[derive(Debug)]
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let group = self.0.id();
        process_groups::end(group);
        let _ = self.wait(Duration::from_secs(5));
        process_groups::wait_until_gone(group);
    }
}

impl Owned {
    /// Starts a command.
    ///
    /// # Errors
    /// When it cannot be started; `install` says what to install.
    pub fn start(command: &mut Command, install: &str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("{name} cannot be started: {install}"))?;
        process_groups::born(child.id());
        Ok(Self(child))
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, name: &str) -> Result<()> {
        if !process_groups::send(name, &self.0.id().to_string()) {
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

/// What a command printed and how it ended. It ends with its limit, and with its test.
///
/// # Errors
/// When it cannot be started, or does not end within `limit`.
pub async fn output(mut command: Command, limit: Duration) -> Result<Output> {
    let _waiting = scenario::waiting(&format!("the end of {}", command.get_program().to_string_lossy()));
    ended(spoken(&mut command)?, limit).await
}

/// Starts a command whose words are kept for [`ended`].
///
/// # Errors
/// When it cannot be started.
pub fn spoken(command: &mut Command) -> Result<Owned> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Owned::start(command, "cargo build --workspace")
}

/// Waits for a command's end: what it printed and how it ended.
///
/// # Errors
/// When it does not end within `limit`.
pub async fn ended(mut child: Owned, limit: Duration) -> Result<Output> {
    tokio::task::spawn_blocking(move || {
        let (stdout, stderr) = (all_of(child.0.stdout.take()), all_of(child.0.stderr.take()));
        let status = child.wait(limit)?;
        // Whoever it left behind holds its pipes.
        drop(child);
        let read = |all: JoinHandle<Vec<u8>>| all.join().map_err(|_| anyhow!("its words cannot be read"));
        Ok(Output { status, stdout: read(stdout)?, stderr: read(stderr)? })
    })
    .await?
}

/// Reads a pipe to its end, so that whoever writes to it does not have to wait.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A folder that ends with its owner; in memory where the machine has such a place. etcd waits for
/// the disk at each write, which on a busy one may take longer than a lease lives.
///
/// # Errors
/// When it cannot be made.
pub fn folder_in_memory() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).context("no temporary folder can be made")
}

/// A file for what a child says, among the artefacts of the running test: `NAME.log`. A child that
/// is started again goes on writing where it stopped.
///
/// # Errors
/// When it cannot be opened.
pub fn log_file(name: &str) -> Result<Stdio> {
    let path = scenario::artefacts()?.join(format!("{name}.log"));
    let file = File::options().create(true).append(true).open(&path);
    Ok(file.with_context(|| format!("{} cannot be written", path.display()))?.into())
}

/// A program of this workspace, built in the profile that the tests run in.
///
/// # Errors
/// When it was not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.parent().and_then(Path::parent).context("the test binary lies in no target folder")?;
    let program = folder.join(name);
    if !program.is_file() {
        bail!("{} was not built: run `cargo build --workspace` first", program.display());
    }
    Ok(program)
}

/// Asks again every 50 ms until there is an answer.
///
/// # Errors
/// When there was none within `limit`; `what` says what was awaited.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let _waiting = scenario::waiting(what);
    let ask_again = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // A question that gets no answer at all must not hold the test either.
    tokio::time::timeout(limit, ask_again)
        .await
        .with_context(|| format!("{what} did not happen within {limit:?}"))
}
