//! How loaded this node says it is: a hint for placement, in the node's lease. The seats are the
//! truth, and the node's own book has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use systir_admission::{LocalLoad, Rates};
use systir_placement::{FRESH_MS, HOT_PERMILLE};
use systir_registry::{Load, Registry, unix_ms};
use systir_worker::WorkerStats;

/// How often the node looks at itself.
const LOOK: Duration = Duration::from_millis(250);

/// Over what time CPU and egress are measured; shorter would take each burst for load.
const PERIOD: Duration = Duration::from_secs(2);

/// How often a load that changed is told at most, unless it begins or ceases to be too much.
const CHANGED: Duration = Duration::from_secs(1);

/// How often a load is told that did not change.
const UNCHANGED: Duration = Duration::from_secs(5);

/// How often a load above the limits is reported. Must stay below `FRESH_MS`, or placement treats the report
/// as stale.
const TOO_MUCH: Duration = Duration::from_millis(FRESH_MS * 3 / 4);

/// Clock ticks a second in `/proc`: the kernel's interface fixes it at 100 on all machines of Linux
/// that we run on.
const TICKS: u64 = 100;

/// What this process has used up until a moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: Duration,
    bytes_out: u64,
    datagrams_out: u64,
}

impl Reading {
    fn take(workers: &[Arc<WorkerStats>]) -> Self {
        // Where there is no such file, nothing is said of the CPU.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (mut bytes_out, mut datagrams_out) = (0, 0);
        for counts in workers.iter().map(|stats| stats.counts()) {
            bytes_out += counts.bytes_out;
            datagrams_out += counts.datagrams_out;
        }
        let cpu = processor_time(&stat).unwrap_or_default();
        Self { at: Instant::now(), cpu, bytes_out, datagrams_out }
    }
}

/// Processor time that all threads have used, from `/proc/self/stat` (proc(5)).
fn processor_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; fields are counted behind it, from the third on.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = ticks.next()?.checked_add(ticks.next()?)?;
    Some(Duration::from_millis(ticks.checked_mul(1_000 / TICKS)?))
}

/// What was used between two readings, by a process that may use so many cores.
fn rates(before: &Reading, after: &Reading, cores: usize) -> Rates {
    let micros = after.at.saturating_duration_since(before.at).as_micros();
    if micros == 0 || cores == 0 {
        return Rates::default();
    }
    let each_second = |before: u64, after: u64| u128::from(after.saturating_sub(before)) * 1_000_000 / micros;
    let cpu = after.cpu.saturating_sub(before.cpu).as_micros() * 1_000 / micros / cores as u128;
    let number = |rate: u128| u64::try_from(rate).unwrap_or(u64::MAX);
    Rates {
        cpu_permille: u32::try_from(cpu).unwrap_or(u32::MAX),
        egress_bps: number(each_second(before.bytes_out, after.bytes_out) * 8),
        packets: number(each_second(before.datagrams_out, after.datagrams_out)),
    }
}

/// Is it time to tell the load, when that was last done so long ago? Each time is a write into the
/// registry.
fn is_due(told: &Load, now: &Load, ago: Duration) -> bool {
    let too_much = |load: &Load| (load.participants >= load.capacity, load.cpu_permille >= HOT_PERMILLE);
    too_much(told) != too_much(now)
        || ago >= if too_much(now) == (false, false) { UNCHANGED } else { TOO_MUCH }
        || (ago >= CHANGED && (told.participants, told.capacity) != (now.participants, now.capacity))
}

/// Keeps the load in the node's lease up to date.
pub(crate) async fn report(
    load: Arc<LocalLoad>,
    registry: Arc<dyn Registry>,
    workers: Vec<Arc<WorkerStats>>,
) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut reading = Reading::take(&workers);
    let (mut reported, mut at) = (load.report(unix_ms()), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        if reading.at.elapsed() >= PERIOD {
            let now = Reading::take(&workers);
            load.set_rates(rates(&reading, &now, cores));
            reading = now;
        }
        let current = load.report(unix_ms());
        if is_due(&reported, &current, at.elapsed()) {
            (reported, at) = (current, Instant::now());
            registry.report(current, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_give_cpu_and_egress_of_a_second() {
        let start = Instant::now();
        let before =
            Reading { at: start, cpu: Duration::from_secs(100), bytes_out: 1_000, datagrams_out: 10 };
        let after = Reading {
            at: start + Duration::from_secs(2),
            cpu: Duration::from_secs(103),
            bytes_out: 251_000,
            datagrams_out: 510,
        };
        let expected = Rates { cpu_permille: 750, egress_bps: 1_000_000, packets: 250 };
        assert_eq!(rates(&before, &after, 2), expected, "three seconds of the four that two cores have");
        assert_eq!(rates(&before, &before, 2), Rates::default(), "no time went by");
        // Counters that were set back, or readings in the wrong order, are no load.
        assert_eq!(rates(&after, &before, 2), Rates::default());
        let idle = Reading { at: start + Duration::from_secs(4), ..before };
        assert_eq!(rates(&after, &idle, 2), Rates::default());
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b) 1) S 1 7 7 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 5 0 400 1000 200";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(3)));
        for nothing in ["", "7 (x", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4194560 900 0 3 0 many 50"] {
            assert_eq!(processor_time(nothing), None, "{nothing}");
        }
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        assert_eq!(processor_time(&own).is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn a_load_that_changes_is_told_each_second_and_at_once_when_it_is_too_much_or_no_longer() {
        let told = Load { participants: 2, capacity: 4, ..Load::default() };
        let three = Load { participants: 3, ..told };
        let soon = Duration::from_millis(250);
        assert!(!is_due(&told, &three, soon));
        assert!(is_due(&told, &three, CHANGED));
        let full = Load { participants: 4, ..told };
        assert!(is_due(&told, &full, soon), "it became full");
        assert!(is_due(&full, &three, soon), "and is no longer");
        assert!(is_due(&full, &full, TOO_MUCH), "before placement treats the report as stale");
        let hot = Load { cpu_permille: HOT_PERMILLE, ..told };
        assert!(is_due(&told, &hot, soon) && is_due(&hot, &told, soon));
        let warm = Load { cpu_permille: HOT_PERMILLE - 1, at_ms: 7, ..told };
        assert!(!is_due(&told, &warm, CHANGED), "the same people");
        assert!(is_due(&told, &told, UNCHANGED));
    }
}
