//! Processor time and memory of a process (proc(5)).

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc`: 100 on all supported Linux platforms.
const TICKS: u64 = 100;

/// Processor time of all threads of a process, including those that have ended.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    ticks(&format!("/proc/{pid}/stat"))
}

/// Processor time of the calling thread.
pub(crate) fn own_thread_time() -> Result<Duration> {
    ticks("/proc/thread-self/stat")
}

fn ticks(path: &str) -> Result<Duration> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    // The name in parentheses may contain spaces. The fields after it start with the third.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS))
}

/// Anonymous resident memory of a process, MiB. Pages of its program file do not count: they do not
/// grow with participants.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no RssAnon")?.parse()?;
    Ok(kib / 1024.0)
}
