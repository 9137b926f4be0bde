//! The cost of congestion control for each packet sent and reported. Run with `cargo bench -p systir-congestion`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark")]

use std::time::{Duration, Instant};

use systir_congestion::{BitrateLimits, CongestionControl, SentKind};
use systir_rtp::rtcp::{RtcpPacket, parse};
use systir_rtp::twcc::{Feedback, TwccRecorder};

fn main() {
    const PACKETS: u64 = 200_000;
    let start = Instant::now();
    let limits = BitrateLimits { min: 30_000, start: 300_000, max: 10_000_000 };
    let mut control = CongestionControl::new(start, limits);
    control.set_demand(start, 2_000_000, 2_000_000, 0);
    let mut receiver = TwccRecorder::new(start);
    let (mut sending, mut feedback, mut timers, mut reports) = (0, 0, 0, 0_u64);
    for packet in 0..PACKETS {
        // 250 packets a second, feedback every 50 ms.
        let now = start + Duration::from_millis(4 * packet);
        let began = Instant::now();
        let seq = control.sent(now, 1000, SentKind::Media);
        sending += began.elapsed().as_nanos();
        receiver.record(now, seq, 1);
        let mut out = Vec::new();
        receiver.write(now, 1, &mut out);
        for packet in parse(&out) {
            if let RtcpPacket::TransportCc { fci } = packet
                && let Some(report) = Feedback::parse(fci)
            {
                let began = Instant::now();
                control.feedback(now, &report);
                feedback += began.elapsed().as_nanos();
                reports += 1;
            }
        }
        let began = Instant::now();
        if control.poll_timeout().is_some_and(|due| due <= now) {
            control.handle_timeout(now);
        }
        timers += began.elapsed().as_nanos();
    }
    let each = |nanos: u128| nanos / u128::from(PACKETS);
    println!(
        "for each packet: sent {} ns, feedback {} ns, timers {} ns",
        each(sending),
        each(feedback),
        each(timers)
    );
    println!("for each of {reports} feedback packets: {} ns", feedback / u128::from(reports.max(1)));
}
