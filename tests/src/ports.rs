//! Blocks of free ports: outside the kernel's ephemeral range, and locked against other test runs on
//! this host.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use crate::scenario;

/// The number of ports in a block.
const BLOCK: u16 = 300;
/// The last port at which a block may start. `systir-relay demo` accepts no higher one.
const LAST: u16 = 65_000;

/// Locks that are held until the running scenario ends.
static SCENARIO_LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// Locks that are held until this process ends.
static PROCESS_LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// The number of blocks that this process has taken. The next search starts after them, because late
/// packets may still arrive at ports that were just released.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Takes a block of ports, `base` to `base + 299`, until the calling scenario ends; outside a scenario,
/// until this process ends.
///
/// # Errors
/// When no such block was found.
pub fn port_block() -> Result<u16> {
    let folder = std::env::temp_dir().join("systir-ports");
    std::fs::create_dir_all(&folder)?;
    let mut bases = bases(&ephemeral());
    if bases.is_empty() {
        // All ports are ephemeral: most are free.
        bases = self::bases(&(1..=1));
    }
    // Runs that start together should not all try the same block first.
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    let first = (std::process::id() as usize + taken) % bases.len().max(1);
    for base in bases.iter().cycle().skip(first).take(bases.len()) {
        let Ok(lock) = File::create(folder.join(format!("{base}.lock"))) else { continue };
        if lock.try_lock().is_ok() && free(*base) {
            let held = if scenario::in_scenario() { &SCENARIO_LOCKS } else { &PROCESS_LOCKS };
            held.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return Ok(*base);
        }
    }
    bail!("no block of {BLOCK} free ports on loopback; the locks are in {}", folder.display())
}

/// Releases the blocks of a scenario that has ended, with all its processes.
pub(crate) fn release_scenario_blocks() {
    SCENARIO_LOCKS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The range from which the kernel picks ports of outgoing connections.
fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().unwrap_or(32_768)..=numbers.next().unwrap_or(60_999)
}

fn bases(ephemeral: &RangeInclusive<u16>) -> Vec<u16> {
    let outside = |base: &u16| {
        let last = *base + (BLOCK - 1);
        last < *ephemeral.start() || base > ephemeral.end()
    };
    (10_200..=LAST).step_by(usize::from(BLOCK)).filter(outside).collect()
}

/// Are the ports that relays and an etcd use free?
fn free(base: u16) -> bool {
    let mut ports =
        [0_u16, 100, 200].into_iter().flat_map(|node| (0..30).map(move |port| base + node + port));
    ports.all(|port| {
        TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_overlaps_the_ephemeral_range() {
        let bases = bases(&(32_768..=60_999));
        assert!(bases.len() > 60, "{bases:?}");
        assert!(bases.iter().all(|base| base + 299 < 32_768 || *base > 60_999), "{bases:?}");
    }

    #[test]
    fn two_blocks_of_one_process_differ() {
        assert_ne!(port_block().unwrap(), port_block().unwrap());
    }

    #[test]
    fn a_block_is_locked_against_other_runs() {
        let base = port_block().unwrap();
        let lock = std::env::temp_dir().join(format!("systir-ports/{base}.lock"));
        assert!(File::open(lock).unwrap().try_lock().is_err());
    }

    #[test]
    fn a_block_is_released_when_its_scenario_ends() {
        let mut base = 0;
        let result = scenario::run_scenario(async {
            base = port_block()?;
            Ok(())
        });
        result.unwrap();
        let lock = std::env::temp_dir().join(format!("systir-ports/{base}.lock"));
        assert!(File::open(lock).unwrap().try_lock().is_ok());
    }
}
