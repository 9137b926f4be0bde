//! Ports that nobody else has: outside the range from which the kernel hands out ports by itself,
//! and locked against the other test runs of this machine.

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use crate::scenario;

/// Ports of a block.
const BLOCK: u16 = 300;
/// The last one that may begin a block: the demonstration takes none behind it.
const LAST: u16 = 65_000;

/// Locks that end with the scene that took them.
static OF_SCENE: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// Locks that end with this process.
static OF_PROCESS: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// Blocks that this process took so far. The next search begins behind them, since late packets may
/// still come to ports that were given back a moment ago.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A block of ports, `base` to `base + 299`, that belongs to the scene that asks until it is over;
/// outside a scene it belongs to this process until it ends.
///
/// # Errors
/// When no such block was found.
pub fn port_block() -> Result<u16> {
    let folder = std::env::temp_dir().join("systir-ports");
    std::fs::create_dir_all(&folder)?;
    let mut bases = bases(&ephemeral());
    if bases.is_empty() {
        // The kernel hands out all ports by itself: some may be taken meanwhile, most are not.
        bases = self::bases(&(1..=1));
    }
    // Runs that begin together should not all try the same block first.
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
    let first = (std::process::id() as usize + taken) % bases.len().max(1);
    for base in bases.iter().cycle().skip(first).take(bases.len()) {
        let Ok(lock) = File::create(folder.join(format!("{base}.lock"))) else { continue };
        if lock.try_lock().is_ok() && free(*base) {
            let held = if scenario::plays() { &OF_SCENE } else { &OF_PROCESS };
            held.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return Ok(*base);
        }
    }
    bail!("no block of {BLOCK} free ports on loopback; locks lie in {}", folder.display())
}

/// The scene is over, and all that it started has ended.
pub(crate) fn give_back() {
    OF_SCENE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The range from which outgoing connections get their ports.
fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().unwrap_or(32_768)..=numbers.next().unwrap_or(60_999)
}

fn bases(taken: &RangeInclusive<u16>) -> Vec<u16> {
    let outside = |base: &u16| {
        let last = *base + (BLOCK - 1);
        last < *taken.start() || base > taken.end()
    };
    (10_200..=LAST).step_by(usize::from(BLOCK)).filter(outside).collect()
}

/// Is nobody on the ports that relays and an etcd take?
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
    fn no_block_lies_where_the_kernel_hands_out_ports() {
        let bases = bases(&(32_768..=60_999));
        assert!(bases.len() > 60, "{bases:?}");
        assert!(bases.iter().all(|base| base + 299 < 32_768 || *base > 60_999), "{bases:?}");
    }

    #[test]
    fn two_blocks_of_one_run_differ() {
        assert_ne!(port_block().unwrap(), port_block().unwrap());
    }

    #[test]
    fn a_block_is_held_against_other_runs() {
        let base = port_block().unwrap();
        let lock = std::env::temp_dir().join(format!("systir-ports/{base}.lock"));
        assert!(File::open(lock).unwrap().try_lock().is_err());
    }

    #[test]
    fn a_block_is_given_back_when_its_scene_is_over() {
        let mut base = 0;
        let played = scenario::play(async {
            base = port_block()?;
            Ok(())
        });
        played.unwrap();
        let lock = std::env::temp_dir().join(format!("systir-ports/{base}.lock"));
        assert!(File::open(lock).unwrap().try_lock().is_ok());
    }
}
