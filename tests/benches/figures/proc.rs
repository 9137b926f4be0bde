//! What the kernel counts of a process (proc(5)).

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc`: the kernel's interface fixes it at 100 on all machines of Linux
/// that we run on.
const TICKS: u64 = 100;

/// Processor time that all threads of a process have used, those that ended included.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    ticks(&format!("/proc/{pid}/stat"))
}

/// Processor time that the calling thread has used.
pub(crate) fn own_thread_time() -> Result<Duration> {
    ticks("/proc/thread-self/stat")
}

fn ticks(path: &str) -> Result<Duration> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    // The name in parentheses may hold anything; fields are counted behind it, from the third on.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS))
}

/// Memory that a process has filled itself, MiB. Pages of its program do not count: they are there
/// once, however many people come, and are read in when they are first used.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no RssAnon")?.parse()?;
    Ok(kib / 1024.0)
}
