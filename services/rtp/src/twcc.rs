//! Transport-wide congestion control (draft-holmer-rmcat-transport-wide-cc-extensions-01): the
//! receiver records the arrival time of each packet and reports it to the sender, which estimates the
//! bandwidth.

use std::time::{Duration, Instant};

use rtcp_types::{FciParser, TransportFeedback, Twcc, TwccPacketStatus};

use crate::rtcp::append;

/// How long arrivals are collected; libwebrtc expects feedback every 50 to 250 ms.
const INTERVAL: Duration = Duration::from_millis(50);
/// Pending arrivals; at this number feedback is due at once.
const MAX_PENDING: usize = 400;
/// Largest range of numbers in one feedback packet; a larger jump begins a new one.
const MAX_SPAN: u64 = 1000;
/// A packet that is further behind the highest number is ignored: its sender counts it as lost.
const MAX_LATE: u64 = 500;
/// Bytes of feedback control information (FCI) in one packet.
const MAX_FCI: usize = 1100;
/// Ticks are 250 us, the reference time is in units of 256 ticks (64 ms).
const TICK_US: u128 = 250;
const REFERENCE_TICKS: u64 = 256;

/// Collects arrivals of one peer connection and writes feedback about them.
#[derive(Debug)]
pub struct TwccRecorder {
    epoch: Instant,
    /// Extended number and arrival in ticks, in order of number. Allocated at the first packet: a connection
    /// that only sends has none.
    pending: Vec<(u64, u64)>,
    highest: Option<u64>,
    /// First number that no feedback covered yet.
    next: Option<u64>,
    /// When the first pending arrival was recorded.
    since: Option<Instant>,
    /// Number of the next feedback packet.
    count: u8,
    media_ssrc: u32,
    statuses: Vec<TwccPacketStatus>,
}

impl TwccRecorder {
    /// An empty recorder; its reference time starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            pending: Vec::new(),
            highest: None,
            next: None,
            since: None,
            count: 0,
            media_ssrc: 0,
            statuses: Vec::new(),
        }
    }

    /// Records that the packet with transport-wide sequence number `seq` arrived at `now` on `media_ssrc`.
    pub fn record(&mut self, now: Instant, seq: u16, media_ssrc: u32) {
        self.media_ssrc = media_ssrc;
        let number = match self.highest {
            // One cycle up: packets sent before the first received one get numbers too.
            None => 0x1_0000 + u64::from(seq),
            Some(highest) => {
                let step = seq.wrapping_sub(highest as u16) as i16;
                let Some(number) = highest.checked_add_signed(step.into()) else { return };
                number
            }
        };
        if self.highest.is_some_and(|highest| number + MAX_LATE < highest)
            || self.pending.len() >= 2 * MAX_PENDING
        {
            return;
        }
        self.highest = self.highest.max(Some(number));
        let ticks = (now.saturating_duration_since(self.epoch).as_micros() / TICK_US) as u64;
        if self.pending.capacity() == 0 {
            self.pending.reserve(MAX_PENDING);
        }
        if let Err(at) = self.pending.binary_search_by_key(&number, |(number, _)| *number) {
            self.pending.insert(at, (number, ticks));
            self.since.get_or_insert(now);
        }
    }

    /// When feedback is due; none while there is nothing to report.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.pending.len() >= MAX_PENDING { since } else { since + INTERVAL })
    }

    /// Appends one feedback packet if it is due. Call it until it returns false.
    pub fn write(&mut self, now: Instant, sender_ssrc: u32, out: &mut Vec<u8>) -> bool {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return false;
        }
        let Some((first, arrival)) = self.pending.first().copied() else { return false };
        // Missing packets before the first one were lost, unless the sender's numbers jumped.
        let base = match self.next {
            Some(next) if next < first && first - next < MAX_SPAN => next,
            _ => first,
        };
        let reference = arrival / REFERENCE_TICKS;
        let (mut last, mut number) = (reference * REFERENCE_TICKS, base);
        self.statuses.clear();
        for (at, ticks) in &self.pending {
            let Ok(delta) = i16::try_from(*ticks as i64 - last as i64) else { break };
            if at - base >= MAX_SPAN {
                break;
            }
            self.statuses.extend((number..*at).map(|_| TwccPacketStatus::NotReceived));
            self.statuses.push(TwccPacketStatus::Received { delta });
            (last, number) = (*ticks, at + 1);
        }
        let feedback = Twcc::builder(
            base as u16,
            (reference & 0x00ff_ffff) as u32,
            self.count,
            &self.statuses,
            Some(MAX_FCI),
        );
        let covered = base + feedback.packet_status_count() as u64;
        let packet =
            TransportFeedback::builder(&feedback).sender_ssrc(sender_ssrc).media_ssrc(self.media_ssrc);
        // Arrivals that cannot be written are skipped, so that the caller's loop ends.
        let written = covered > first && append(out, &packet).is_ok();
        let covered = covered.max(first + 1);
        let kept = self.pending.partition_point(|(number, _)| *number < covered);
        self.pending.drain(..kept);
        self.next = self.next.max(Some(covered));
        self.count = self.count.wrapping_add(1);
        if self.pending.is_empty() {
            self.since = None;
        }
        written
    }
}

/// A peer's feedback about packets that we sent.
#[derive(Debug)]
pub struct Feedback<'a>(Twcc<'a>);

impl<'a> Feedback<'a> {
    /// Parses the FCI, which follows the two SSRCs; none when it is too short.
    #[must_use]
    pub fn parse(fci: &'a [u8]) -> Option<Self> {
        Twcc::parse(fci).ok().map(Self)
    }

    /// Number of the feedback packet; it increases by one.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.0.feedback_packet_count()
    }

    /// Reference time of the first delta, by the receiver's clock, in units of 64 ms; 24 bits.
    #[must_use]
    pub fn reference_time(&self) -> u32 {
        self.0.reference_time()
    }

    /// Sequence number of each packet and, if it was received, the time since the previous received one
    /// in units of 250 us. Malformed feedback ends the iteration.
    pub fn packets(&self) -> impl Iterator<Item = (u16, Option<i16>)> + 'a {
        self.0.packets().map_while(Result::ok).map(|(seq, status)| match status {
            TwccPacketStatus::NotReceived => (seq, None),
            TwccPacketStatus::Received { delta } => (seq, Some(delta)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::rtcp::{RtcpPacket, parse};

    /// All pending feedback, written one second later.
    fn drain(recorder: &mut TwccRecorder, now: Instant) -> Vec<u8> {
        let mut out = Vec::new();
        while recorder.write(now + Duration::from_secs(1), 1, &mut out) {}
        out
    }

    fn arrivals(out: &[u8]) -> (BTreeMap<u16, u64>, Vec<u16>) {
        let (mut received, mut lost) = (BTreeMap::new(), Vec::new());
        for packet in parse(out) {
            let RtcpPacket::TransportCc { fci } = packet else { panic!("{packet:?}") };
            let feedback = Feedback::parse(fci).unwrap();
            let mut ticks = i64::from(feedback.reference_time()) * REFERENCE_TICKS as i64;
            for (seq, delta) in feedback.packets() {
                match delta {
                    Some(delta) => {
                        ticks += i64::from(delta);
                        received.insert(seq, ticks as u64);
                    }
                    None => lost.push(seq),
                }
            }
        }
        (received, lost)
    }

    #[test]
    fn a_recorder_without_packets_allocates_nothing() {
        let now = Instant::now();
        let mut recorder = TwccRecorder::new(now);
        assert_eq!(recorder.pending.capacity(), 0);
        recorder.record(now, 1, 1);
        assert!(recorder.pending.capacity() >= MAX_PENDING, "room for one feedback");
    }

    #[test]
    fn losses_are_reported_and_late_packets_later_as_received() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut recorder = TwccRecorder::new(start);
        for (ms, seq) in [(70, 65_534), (75, 65_535), (80, 2), (81, 1)] {
            recorder.record(at(ms), seq, 9);
        }
        assert_eq!(recorder.poll_timeout(), Some(at(120)));
        assert!(!recorder.write(at(119), 1, &mut Vec::new()));
        let (received, lost) = arrivals(&drain(&mut recorder, at(120)));
        assert_eq!(received, BTreeMap::from([(65_534, 280), (65_535, 300), (2, 320), (1, 324)]));
        assert_eq!(lost, [0]);
        recorder.record(at(200), 0, 9);
        recorder.record(at(210), 5, 9);
        let (received, lost) = arrivals(&drain(&mut recorder, at(250)));
        assert_eq!(received, BTreeMap::from([(0, 800), (5, 840)]));
        assert_eq!(lost, [1, 2, 3, 4]);
        assert_eq!(recorder.poll_timeout(), None);
    }

    proptest! {
        #[test]
        fn every_arrival_is_reported_once_with_its_time(
            steps in proptest::collection::vec((1_u16..40, 0_u64..9000), 1..900), first: u16,
        ) {
            let start = Instant::now();
            let mut recorder = TwccRecorder::new(start);
            let (mut now, mut seq, mut expected) = (start, first, BTreeMap::new());
            let mut reported = BTreeMap::new();
            for (step, ms) in steps {
                // Some bursts, some long breaks.
                now += Duration::from_millis(if ms < 8000 { ms / 400 } else { ms * 10 });
                seq = seq.wrapping_add(step);
                recorder.record(now, seq, 9);
                expected.insert(seq, ((now - start).as_micros() / TICK_US) as u64);
                let mut out = Vec::new();
                while recorder.write(now, 1, &mut out) {}
                reported.extend(arrivals(&out).0);
            }
            let out = drain(&mut recorder, now);
            reported.extend(arrivals(&out).0);
            prop_assert_eq!(reported, expected);
        }
    }
}
