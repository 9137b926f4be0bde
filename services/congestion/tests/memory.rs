//! What one connection costs in memory.

#![allow(clippy::disallowed_methods, reason = "a start time")]
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use systir_congestion::{BitrateLimits, CongestionControl, SentKind};
use systir_rtp::rtcp::{RtcpPacket, parse};
use systir_rtp::twcc::{Feedback, TwccRecorder};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn kept(region: &Region<'_, System>) -> usize {
    let stats = region.change();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn a_connection_keeps_less_than_50_kilobytes() {
    let limits = BitrateLimits { min: 30_000, start: 300_000, max: 10_000_000 };
    let start = Instant::now();
    let region = Region::new(ALLOCATOR);
    let mut control = CongestionControl::new(start, limits);
    println!("inline {} bytes, new {} bytes", size_of::<CongestionControl>(), kept(&region));
    control.set_demand(start, 2_000_000, 2_000_000, 0);

    // 250 packets a second with feedback every 50 ms, 60 ms after they were sent.
    let mut receiver = TwccRecorder::new(start);
    let mut reports = std::collections::VecDeque::with_capacity(16);
    let before = kept(&region);
    for ms in (0..20_000_u64).step_by(4) {
        let now = start + Duration::from_millis(ms);
        let seq = control.sent(now, 1000, SentKind::Media);
        receiver.record(now, seq, 1);
        let mut out = Vec::new();
        if receiver.write(now, 1, &mut out) {
            reports.push_back((ms + 60, out));
        }
        if reports.front().is_some_and(|(at, _)| *at <= ms) {
            let (_, out): (u64, Vec<u8>) = reports.pop_front().unwrap();
            for packet in parse(&out) {
                let RtcpPacket::TransportCc { fci } = packet else { panic!("{packet:?}") };
                control.feedback(now, &Feedback::parse(fci).unwrap());
            }
        }
        if control.poll_timeout().is_some_and(|due| due <= now) {
            control.handle_timeout(now);
        }
    }
    let running = kept(&region);
    println!(
        "running {running} bytes, of which {before} before the first packet, with the receiver's record"
    );
    assert!(running < 50_000, "{running}");

    // Sending without feedback allocates nothing once the history has its size.
    let now = start + Duration::from_secs(20);
    for packet in 0..3000 {
        control.sent(now + Duration::from_millis(packet), 1000, SentKind::Media);
    }
    let region = Region::new(ALLOCATOR);
    for packet in 3000..5000 {
        control.sent(now + Duration::from_millis(packet), 1000, SentKind::Media);
    }
    assert_eq!(region.change().allocations, 0);
}
