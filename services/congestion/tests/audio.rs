//! Audio beside the video: what includes it lowers the estimate by it.

#![allow(clippy::disallowed_methods, reason = "a start time")]

use std::time::{Duration, Instant};

use systir_congestion::{BitrateLimits, CongestionControl};

const LIMITS: BitrateLimits = BitrateLimits { min: 30_000, start: 2_000_000, max: 10_000_000 };
const AUDIO: u64 = 64_000;

#[test]
fn the_receivers_own_estimate_includes_audio() {
    let start = Instant::now();
    let mut control = CongestionControl::without_feedback(start, LIMITS);
    control.set_demand(start, 1_700_000, 500_000, 0);
    control.remb(start, 500_000);
    assert_eq!(control.estimate(), 500_000);
    control.set_audio(AUDIO);
    assert_eq!(control.estimate(), 500_000 - AUDIO);
    control.remb(start, 50_000);
    assert_eq!(control.estimate(), LIMITS.min);
}

#[test]
fn what_leaves_over_tcp_includes_audio() {
    let start = Instant::now();
    let estimate = |audio: u64| {
        let mut control = CongestionControl::without_feedback(start, LIMITS);
        control.set_demand(start, 1_700_000, 500_000, 0);
        control.set_audio(audio);
        for at in 0..20_u64 {
            // 500 kbit/s leave, and 40 kB wait.
            control.backlog(start + Duration::from_millis(at * 100), 40_000, at * 6_250);
        }
        control.estimate()
    };
    let all = estimate(0);
    assert!((400_000..500_000).contains(&all), "{all}");
    assert_eq!(estimate(AUDIO), all - AUDIO);
}

#[test]
fn before_anything_is_reported_audio_counts_for_nothing() {
    let start = Instant::now();
    let mut control = CongestionControl::new(start, LIMITS);
    control.set_audio(AUDIO);
    assert_eq!(control.estimate(), LIMITS.start, "transport-wide feedback sees it as other traffic");
}
