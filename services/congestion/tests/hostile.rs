//! A hostile receiver: whatever it reports, nothing panics or grows, and the estimate keeps its limits.

#![allow(clippy::disallowed_methods, reason = "a start time")]
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use systir_congestion::{BitrateLimits, CongestionControl, SentKind};
use systir_rtp::twcc::Feedback;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LIMITS: BitrateLimits = BitrateLimits { min: 30_000, start: 300_000, max: 5_000_000 };
/// What one connection may keep: the history, the estimator's window and some room.
const MAX_MEMORY: usize = 200_000;

#[derive(Debug, Clone)]
enum Step {
    Wait(u16),
    Send {
        packets: u8,
        size: u16,
    },
    Demand {
        wanted: u32,
        allocated: u32,
    },
    Garbage(Vec<u8>),
    /// Feedback that is well formed: base relative to the last number, packets, reference time, and pairs of a
    /// run of up to 8191 statuses of one kind.
    Feedback {
        back: u16,
        count: u16,
        reference: u32,
        chunks: Vec<u16>,
        deltas: Vec<u8>,
    },
    ReceiverReport(u8, u32),
    Remb(u64),
    RoundTrip(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let feedback = (
        prop_oneof![0_u16..300, any::<u16>()],
        prop_oneof![1_u16..300, any::<u16>()],
        prop_oneof![0_u32..1000, 0_u32..0x100_0000],
        proptest::collection::vec(prop_oneof![0x2000_u16..0x2100, 0x4000_u16..0x4100, any::<u16>()], 1..30),
        proptest::collection::vec(any::<u8>(), 0..400),
    );
    prop_oneof![
        4 => (0_u16..3000).prop_map(Step::Wait),
        6 => (0_u8..100, any::<u16>()).prop_map(|(packets, size)| Step::Send { packets, size }),
        2 => any::<(u32, u32)>().prop_map(|(wanted, allocated)| Step::Demand { wanted, allocated }),
        2 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Garbage),
        8 => feedback.prop_map(|(back, count, reference, chunks, deltas)| {
            Step::Feedback { back, count, reference, chunks, deltas }
        }),
        1 => any::<(u8, u32)>().prop_map(|(lost, packets)| Step::ReceiverReport(lost, packets)),
        1 => any::<u64>().prop_map(Step::Remb),
        1 => any::<u64>().prop_map(Step::RoundTrip),
    ]
}

/// Feedback control information: draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1.
fn fci(base: u16, count: u16, reference: u32, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(base.to_be_bytes());
    out.extend(count.to_be_bytes());
    out.extend(&reference.to_be_bytes()[1..]);
    out.push(0);
    for chunk in chunks {
        out.extend(chunk.to_be_bytes());
    }
    out.extend(deltas);
    out
}

fn apply(control: &mut CongestionControl, now: &mut Instant, last: &mut u16, step: &Step) {
    match step {
        Step::Wait(ms) => *now += Duration::from_millis((*ms).into()),
        Step::Send { packets, size } => {
            for _ in 0..*packets {
                *now += Duration::from_millis(5);
                let probe = control.poll_probe(*now);
                let kind = probe.map_or(SentKind::Media, |probe| SentKind::Probe(probe.id));
                for _ in 0..probe.map_or(1, |probe| probe.packets) {
                    *last = control.sent(*now, (*size).into(), kind);
                    *now += Duration::from_millis(2);
                }
            }
        }
        Step::Demand { wanted, allocated } => {
            control.set_demand(*now, (*wanted).into(), (*allocated).into(), 0);
        }
        Step::Garbage(fci) => {
            if let Some(feedback) = Feedback::parse(fci) {
                control.feedback(*now, &feedback);
            }
        }
        Step::Feedback { back, count, reference, chunks, deltas } => {
            let fci = fci(last.wrapping_sub(*back), *count, *reference, chunks, deltas);
            if let Some(feedback) = Feedback::parse(&fci) {
                control.feedback(*now, &feedback);
            }
        }
        Step::ReceiverReport(lost, packets) => control.receiver_report(*now, *lost, *packets),
        Step::Remb(bitrate) => control.remb(*now, *bitrate),
        Step::RoundTrip(micros) => control.round_trip(Duration::from_micros(*micros)),
    }
    if control.poll_timeout().is_some_and(|due| due <= *now) {
        control.handle_timeout(*now);
    }
}

proptest! {
    #[test]
    fn hostile_feedback_breaks_no_limit(steps in proptest::collection::vec(step(), 1..120)) {
        let region = Region::new(ALLOCATOR);
        let mut now = Instant::now();
        let mut control = CongestionControl::new(now, LIMITS);
        let mut last = 0;
        for step in &steps {
            apply(&mut control, &mut now, &mut last, step);
            let estimate = control.estimate();
            prop_assert!((LIMITS.min..=LIMITS.max).contains(&estimate), "{}", estimate);
            if let Some(probe) = control.poll_probe(now) {
                prop_assert!(probe.rate <= LIMITS.max * 5 / 4 && probe.packets <= 20, "{probe:?}");
            }
        }
        let stats = region.change();
        let kept = stats.bytes_allocated.saturating_sub(stats.bytes_deallocated);
        prop_assert!(kept < MAX_MEMORY, "{kept}");
    }
}
