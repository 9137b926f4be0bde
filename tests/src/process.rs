//! Child processes that end with their owner, and the programs that were built.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A child process that is ended, by its id, when the value is dropped.
#[derive(Debug)]
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Owned {
    /// Starts a command.
    ///
    /// # Errors
    /// When it cannot be started; `install` says what to install.
    pub fn start(command: &mut Command, install: &str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.spawn().map(Self).with_context(|| format!("{name} cannot be started: {install}"))
    }

    /// Sends a signal by name, such as `TERM`, `STOP` or `CONT`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status()?;
        if !status.success() {
            bail!("kill -{name} {}: {status}", self.0.id());
        }
        Ok(())
    }
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

/// A block of ports, `base` to `base + 299`, in which those that a relay needs are free now.
///
/// # Errors
/// When no such block was found.
pub fn port_block() -> Result<u16> {
    // Tests of one process run side by side: each gets a block that no other was given.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..120 {
        let block = (std::process::id().wrapping_mul(31) % 120 + NEXT.fetch_add(1, Ordering::Relaxed)) % 120;
        let base = 20_000 + block as u16 * 300;
        let free = [0_u16, 100, 200].iter().all(|node| {
            (0..=15).all(|port| {
                TcpListener::bind(("127.0.0.1", base + node + port)).is_ok()
                    && UdpSocket::bind(("127.0.0.1", base + node + port)).is_ok()
            })
        });
        if free {
            return Ok(base);
        }
    }
    bail!("no block of 300 free ports on loopback")
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
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("{what} did not happen within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
