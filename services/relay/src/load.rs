//! Reports this node's load in its lease, as a hint for placement. The seat book decides whether a
//! participant gets a seat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use systir_admission::{LocalLoad, Rates};
use systir_placement::{FRESH_MS, HIGH_CPU_PERMILLE};
use systir_registry::{NodeLoad, Registry, unix_ms};
use systir_worker::WorkerStats;

/// How often the load is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Averaging time of CPU and egress; a shorter one would count each burst as load.
const RATE_PERIOD: Duration = Duration::from_secs(2);

/// Shortest time between reports of a changed load, unless it crosses a limit.
const CHANGED_INTERVAL: Duration = Duration::from_secs(1);

/// Time between reports of an unchanged load.
const UNCHANGED_INTERVAL: Duration = Duration::from_secs(5);

/// Time between reports of a load above a limit. Must stay below `FRESH_MS`, or placement treats the report
/// as stale.
const OVERLOADED_INTERVAL: Duration = Duration::from_millis(FRESH_MS * 3 / 4);

/// Clock ticks per second in `/proc` (USER_HZ): 100 on all Linux architectures that we support.
const TICKS: u64 = 100;

/// What this process has used so far.
#[derive(Debug, Clone, Copy)]
struct Usage {
    at: Instant,
    cpu: Duration,
    bytes_out: u64,
    datagrams_out: u64,
}

impl Usage {
    fn take(workers: &[Arc<WorkerStats>]) -> Self {
        // Without this file (not Linux) CPU time counts as 0.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (mut bytes_out, mut datagrams_out) = (0, 0);
        for counts in workers.iter().map(|stats| stats.counts()) {
            bytes_out += counts.bytes_out;
            datagrams_out += counts.datagrams_out;
        }
        // A test must not place participants elsewhere because the machine that runs it is busy.
        let cpu = if cfg!(test) { Duration::ZERO } else { cpu_time(&stat).unwrap_or_default() };
        Self { at: Instant::now(), cpu, bytes_out, datagrams_out }
    }
}

/// CPU time of all threads, from `/proc/self/stat` (proc(5)).
fn cpu_time(stat: &str) -> Option<Duration> {
    // The command name in parentheses may contain any character. Fields are counted after it; the first one
    // is field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = ticks.next()?.checked_add(ticks.next()?)?;
    Some(Duration::from_millis(ticks.checked_mul(1_000 / TICKS)?))
}

/// Rates between two samples of a process that can use `cores` cores.
fn rates(before: &Usage, after: &Usage, cores: usize) -> Rates {
    let micros = after.at.saturating_duration_since(before.at).as_micros();
    if micros == 0 || cores == 0 {
        return Rates::default();
    }
    let per_second = |before: u64, after: u64| u128::from(after.saturating_sub(before)) * 1_000_000 / micros;
    let cpu = after.cpu.saturating_sub(before.cpu).as_micros() * 1_000 / micros / cores as u128;
    let saturated = |rate: u128| u64::try_from(rate).unwrap_or(u64::MAX);
    Rates {
        cpu_permille: u32::try_from(cpu).unwrap_or(u32::MAX),
        egress_bps: saturated(per_second(before.bytes_out, after.bytes_out) * 8),
        packets: saturated(per_second(before.datagrams_out, after.datagrams_out)),
    }
}

/// Is a report due, `ago` after the last one? Each report is a write to the registry.
fn is_due(reported: &NodeLoad, now: &NodeLoad, ago: Duration) -> bool {
    let over_limits =
        |load: &NodeLoad| (load.participants >= load.capacity, load.cpu_permille >= HIGH_CPU_PERMILLE);
    over_limits(reported) != over_limits(now)
        || ago >= if over_limits(now) == (false, false) { UNCHANGED_INTERVAL } else { OVERLOADED_INTERVAL }
        || (ago >= CHANGED_INTERVAL
            && (reported.participants, reported.capacity) != (now.participants, now.capacity))
}

/// Keeps the load in the node's lease up to date. A drain that begins or ends is reported at once.
pub(crate) async fn report(
    load: Arc<LocalLoad>,
    registry: Arc<dyn Registry>,
    workers: Vec<Arc<WorkerStats>>,
) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut usage = Usage::take(&workers);
    let (mut reported, mut at) = (load.report(unix_ms()), Instant::now());
    let mut reported_draining = false;
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if usage.at.elapsed() >= RATE_PERIOD {
            let now = Usage::take(&workers);
            load.set_rates(rates(&usage, &now, cores));
            usage = now;
        }
        let current = load.report(unix_ms());
        let draining = load.is_draining();
        if draining != reported_draining || is_due(&reported, &current, at.elapsed()) {
            (reported, reported_draining, at) = (current, draining, Instant::now());
            registry.report(current, draining);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_give_cpu_and_egress_per_second() {
        let start = Instant::now();
        let before = Usage { at: start, cpu: Duration::from_secs(100), bytes_out: 1_000, datagrams_out: 10 };
        let after = Usage {
            at: start + Duration::from_secs(2),
            cpu: Duration::from_secs(103),
            bytes_out: 251_000,
            datagrams_out: 510,
        };
        let expected = Rates { cpu_permille: 750, egress_bps: 1_000_000, packets: 250 };
        assert_eq!(rates(&before, &after, 2), expected, "3 of the 4 CPU seconds that two cores have");
        assert_eq!(rates(&before, &before, 2), Rates::default(), "no time passed");
        // Reset counters, or samples in the wrong order, are no load.
        assert_eq!(rates(&after, &before, 2), Rates::default());
        let idle = Usage { at: start + Duration::from_secs(4), ..before };
        assert_eq!(rates(&after, &idle, 2), Rates::default());
    }

    #[test]
    fn cpu_time_is_parsed_after_any_command_name() {
        let stat = "7 (a) b) 1) S 1 7 7 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 5 0 400 1000 200";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
        for invalid in ["", "7 (x", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4194560 900 0 3 0 many 50"] {
            assert_eq!(cpu_time(invalid), None, "{invalid}");
        }
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        assert_eq!(cpu_time(&own).is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn a_changed_load_is_reported_each_second_and_at_once_when_it_crosses_a_limit() {
        let reported = NodeLoad { participants: 2, capacity: 4, ..NodeLoad::default() };
        let three = NodeLoad { participants: 3, ..reported };
        let soon = Duration::from_millis(250);
        assert!(!is_due(&reported, &three, soon));
        assert!(is_due(&reported, &three, CHANGED_INTERVAL));
        let full = NodeLoad { participants: 4, ..reported };
        assert!(is_due(&reported, &full, soon), "it became full");
        assert!(is_due(&full, &three, soon), "it is no longer full");
        assert!(is_due(&full, &full, OVERLOADED_INTERVAL), "before placement treats the report as stale");
        let busy = NodeLoad { cpu_permille: HIGH_CPU_PERMILLE, ..reported };
        assert!(is_due(&reported, &busy, soon) && is_due(&busy, &reported, soon));
        let warm = NodeLoad { cpu_permille: HIGH_CPU_PERMILLE - 1, at_ms: 7, ..reported };
        assert!(!is_due(&reported, &warm, CHANGED_INTERVAL), "the same participants");
        assert!(is_due(&reported, &reported, UNCHANGED_INTERVAL));
    }
}
