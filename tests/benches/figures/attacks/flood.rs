//! An attack that runs on a thread of its own until it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

/// What the attacking thread is given.
#[derive(Debug, Clone, Default)]
pub(super) struct Attacker {
    stopped: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
}

impl Attacker {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Counts packets or connections.
    pub(super) fn made(&self, count: u64) {
        self.made.fetch_add(count, Ordering::Relaxed);
    }
}

/// A running attack.
#[derive(Debug)]
pub(super) struct Flood {
    attacker: Attacker,
    thread: JoinHandle<Result<()>>,
}

impl Flood {
    pub(super) fn start(attack: impl FnOnce(Attacker) -> Result<()> + Send + 'static) -> Result<Self> {
        let attacker = Attacker::default();
        let given = attacker.clone();
        let thread = std::thread::Builder::new().name("attacker".to_owned()).spawn(move || attack(given))?;
        Ok(Self { attacker, thread })
    }

    /// Ends it; returns how many packets or connections were made.
    pub(super) async fn stop(self) -> Result<u64> {
        self.attacker.stopped.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        ended.map_err(|_| anyhow!("an attacker's thread ended by a panic"))??;
        Ok(self.attacker.made.load(Ordering::Relaxed))
    }
}
