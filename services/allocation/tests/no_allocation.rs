//! Once warmed, a call allocates nothing.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use systir_allocation::{Allocator, Importance, LayerRates, VideoDemand, VideoSource};
use systir_rtp::packet::{Layer, LayerSet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_call_allocates_nothing_once_all_tracks_are_known() {
    let track = |key: u64| {
        let rates = LayerRates([[150_000; 4], [500_000; 4], [1_700_000; 4]]);
        let all = LayerSet(0b111);
        let demand = VideoDemand {
            source: if key == 0 { VideoSource::ScreenShare } else { VideoSource::Camera },
            wanted: Some(Layer(2)),
            shown_pixels: key as u32 % 3 * 10_000,
            importance: Importance::Ordinary,
            rates,
            declared: all,
            live: all,
            current: None,
        };
        (key, demand)
    };
    let tracks: Vec<_> = (0..50).map(track).collect();
    let (mut allocator, mut out) = (Allocator::new(), Vec::new());
    let mut now = Instant::now();
    let mut pass = |budget| {
        now += Duration::from_millis(200);
        allocator.allocate(now, budget, &tracks, &mut out).allocated
    };
    pass(10_000_000);
    let region = Region::new(ALLOCATOR);
    let mut allocated = 0;
    for round in 0..100 {
        allocated += pass([10_000_000, 60_000_000, 3_000_000, 64_000, 20_000_000][round % 5]);
    }
    let change = region.change();
    assert!(allocated > 0);
    assert_eq!(change.allocations, 0);
}
