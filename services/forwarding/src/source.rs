//! One layer of one track as it arrives from its source.

use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::codec::{KeyFrameStart, PayloadInfo, inspect};
use crate::frame::NewestFrame;
use crate::nack::NackList;
use crate::rate::RateMeter;
use crate::request::KeyFrameRequest;
use crate::rtp_clock::{RtpClock, ticks};
use crate::stats::LayerStats;
use systir_rtp::packet::{Kind, Packet, SenderReport};

/// A layer has ended when no packet of it arrived for this long while others of its track did. A track that is wholly
/// silent has not: a screen that stands still sends nothing.
const LAYER_TIMEOUT: Duration = Duration::from_millis(1500);
/// A longer time between two packets of a track is silence.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// Key frames that are further apart do not count in the rate of a layer.
const RARE: Duration = Duration::from_secs(2);
/// A larger jump of sequence numbers is a restart of the publisher.
const MAX_JUMP: u64 = 3000;
/// A layer that no subscriber wanted and that is silent for this long may have been stopped at its source.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// After a restart, timestamps within this many seconds of the expected ones belong to the same clock.
const MAX_CLOCK_OFFSET_S: u32 = 5;

/// Does the layer arrive?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// Not yet. The time is when it was first requested; none before.
    Awaited(Option<Instant>),
    /// Yes.
    Live,
    /// Not any more, or it did not arrive in time.
    Ended,
}

/// How long packets of a track have arrived, of any of its layers. It stands still while the track is silent.
#[derive(Debug, Default)]
pub(crate) struct ArrivalTime {
    passed: Duration,
    last_at: Option<Instant>,
}

impl ArrivalTime {
    /// A packet arrives. Returns the time with it.
    pub(crate) fn packet(&mut self, now: Instant) -> Duration {
        let pause = self.last_at.replace(now).map(|last| now.saturating_duration_since(last));
        self.passed += pause.unwrap_or_default().min(MAX_PAUSE);
        self.passed
    }

    pub(crate) fn passed(&self) -> Duration {
        self.passed
    }
}

/// A packet that is not a duplicate and not too late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AcceptedPacket {
    pub(crate) info: PayloadInfo,
    /// Without content for a subscriber: padding, or malformed.
    pub(crate) empty: bool,
    /// A key frame starts here.
    pub(crate) key_frame: bool,
    /// A later packet arrived before it.
    pub(crate) late: bool,
    /// The publisher restarted: the sequence numbers are unrelated to the earlier ones.
    pub(crate) restarted: bool,
    /// The layer did not arrive before this packet.
    pub(crate) layer_started: bool,
}

#[derive(Debug)]
pub(crate) struct LayerSource {
    pub(crate) cache: Cache,
    pub(crate) highest: Option<u64>,
    pub(crate) state: LayerState,
    pub(crate) nacks: NackList,
    pub(crate) key_frame_request: KeyFrameRequest,
    pub(crate) stats: LayerStats,
    pub(crate) rates: RateMeter,
    pub(crate) newest_frame: NewestFrame,
    kind: Kind,
    rate: u32,
    last_at: Option<Instant>,
    /// The track's [`ArrivalTime`] when the last packet arrived.
    last_arrival: Duration,
    /// The packets before the next one were not sent to this node, or were dropped while the track was muted:
    /// they are not lost.
    resumes: bool,
    last_timestamp: u32,
    epoch: u32,
    report: Option<(SenderReport, Instant)>,
    /// Where the newest key frame started: sequence number and timestamp.
    last_key_frame: Option<(u64, u32)>,
    key_frame_at: Option<Instant>,
    /// Did the newest key frame start long after the one before?
    rare_key_frame: bool,
    /// The newest picture id in 15 bits; for encoders that send 7 bits.
    picture_id: Option<u16>,
}

impl LayerSource {
    pub(crate) fn new(kind: Kind, rate: u32) -> Self {
        Self {
            cache: Cache::new(kind),
            highest: None,
            state: LayerState::Awaited(None),
            nacks: NackList::new(kind),
            key_frame_request: KeyFrameRequest::default(),
            stats: LayerStats::default(),
            rates: RateMeter::default(),
            newest_frame: NewestFrame::default(),
            kind,
            rate,
            last_at: None,
            last_arrival: Duration::ZERO,
            resumes: false,
            last_timestamp: 0,
            epoch: 0,
            report: None,
            last_key_frame: None,
            key_frame_at: None,
            rare_key_frame: false,
            picture_id: None,
        }
    }

    pub(crate) fn clock(&self) -> RtpClock {
        RtpClock { epoch: self.epoch, report: self.report.map(|(report, _)| report) }
    }

    pub(crate) fn report(&mut self, now: Instant, report: SenderReport) {
        self.report = Some((report, now));
    }

    /// NTP and RTP time of the source at `now`; none before its first sender report.
    pub(crate) fn instant(&self, now: Instant) -> Option<SenderReport> {
        let (report, at) = self.report?;
        let passed = now.saturating_duration_since(at);
        let fraction = (u64::from(passed.subsec_nanos()) << 32) / 1_000_000_000;
        Some(SenderReport {
            ntp: report.ntp.wrapping_add(passed.as_secs() << 32 | fraction),
            timestamp: report.timestamp.wrapping_add(ticks(passed, self.rate)),
        })
    }

    /// The layer is requested now and was not before: it has [`LAYER_TIMEOUT`] to arrive.
    pub(crate) fn await_layer(&mut self, now: Instant) {
        if matches!(self.state, LayerState::Ended | LayerState::Awaited(None)) {
            self.state = LayerState::Awaited(Some(now));
        }
    }

    /// Restarts the timeout and forgets missing packets, after the track was muted or unmuted.
    pub(crate) fn refresh(&mut self, now: Instant) {
        self.last_at = self.last_at.map(|_| now);
        self.resumes = true;
        self.nacks.clear();
    }

    /// The layer is wanted again. If it is silent, its source may have stopped it while it was not wanted.
    pub(crate) fn wanted_again(&mut self, now: Instant) {
        self.resumes |= self.last_at.is_some_and(|last| now.saturating_duration_since(last) >= MIN_PAUSE);
    }

    /// Was the packet in the cache once, and is not any more?
    pub(crate) fn has_dropped(&self, seq: u64) -> bool {
        let arrived = self.highest.filter(|highest| seq <= *highest);
        arrived.is_some_and(|highest| self.cache.is_past(seq, highest) || self.cache.contains(seq))
    }

    /// Does a decoder need the packet? None of before the newest key frame.
    pub(crate) fn is_needed(&self, seq: u64) -> bool {
        self.last_key_frame.is_none_or(|(start, _)| seq >= start)
    }

    /// True when the layer has just ended. `arrival`: the track's [`ArrivalTime`].
    pub(crate) fn check_timeout(&mut self, now: Instant, arrival: Duration) -> bool {
        let is_long = |since: Instant| now.saturating_duration_since(since) >= LAYER_TIMEOUT;
        let ended = match self.state {
            LayerState::Live => {
                let others_arrive = arrival.saturating_sub(self.last_arrival) >= LAYER_TIMEOUT;
                // An encoder that still runs answers, also while its picture stands still.
                let is_unanswered = self.key_frame_request.unanswered_since().is_some_and(is_long);
                self.last_at.is_some_and(is_long) && (others_arrive || is_unanswered)
            }
            LayerState::Awaited(since) => since.is_some_and(is_long),
            LayerState::Ended => false,
        };
        if ended {
            self.state = LayerState::Ended;
        }
        ended
    }

    /// Takes a packet; none for a duplicate or a packet that is too late. It is kept if anybody wants the layer.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        arrival: &mut ArrivalTime,
        packet: &Packet<'_>,
        is_wanted: bool,
    ) -> Option<AcceptedPacket> {
        let mut restarted = false;
        let mut late = false;
        match self.highest {
            Some(highest) if packet.seq <= highest => {
                if self.cache.is_past(packet.seq, highest) || self.cache.contains(packet.seq) {
                    self.stats.duplicates += 1;
                    return None;
                }
                late = true;
                self.nacks.arrived(now, packet.seq);
            }
            Some(highest) if packet.seq - highest > MAX_JUMP => {
                restarted = true;
                self.restart(now, packet.timestamp);
            }
            Some(highest) => self.record_gap(now, highest, packet.seq),
            None => {}
        }
        let inspected = if packet.payload.is_empty() { None } else { inspect(packet) };
        if inspected.is_none() && !packet.payload.is_empty() {
            self.stats.malformed += 1;
        }
        let empty = inspected.is_none();
        let mut info = inspected.unwrap_or_default();
        if let Some(descriptor) = &mut info.vp8
            && let Some(id) = descriptor.picture_id
        {
            let id = self.widen(id, descriptor.narrow);
            descriptor.picture_id = Some(id);
            if !late {
                self.picture_id = Some(id);
            }
        }
        let key_frame = self.begins_key_frame(packet, info.key_frame_start);
        if key_frame {
            self.nacks.key_frame_started(packet.seq);
        }
        if !late {
            if self.kind == Kind::Video {
                self.newest_frame.add(packet);
            }
            self.resumes = false;
            self.highest = Some(packet.seq);
            self.last_timestamp = packet.timestamp;
        }
        self.last_at = Some(now);
        self.last_arrival = arrival.packet(now);
        self.stats.packets += 1;
        self.stats.octets += packet.payload.len() as u64;
        if key_frame {
            self.rare_key_frame =
                self.key_frame_at.is_none_or(|at| now.saturating_duration_since(at) >= RARE);
            self.key_frame_at = Some(now);
        }
        // A rare key frame would count like a second of the other frames.
        let is_key_frame = self.last_key_frame.is_some_and(|(_, timestamp)| timestamp == packet.timestamp);
        if !(is_key_frame && self.rare_key_frame) {
            let temporal = info.vp8.and_then(|descriptor| descriptor.temporal_layer()).unwrap_or(0);
            self.rates.add(now, temporal, packet.payload.len());
        }
        let layer_started = self.state != LayerState::Live;
        self.state = LayerState::Live;
        let payload = if empty { &[] } else { packet.payload };
        if is_wanted {
            self.cache.insert(now, &Packet { payload, ..*packet }, &info);
        } else {
            self.cache.free_outdated(now);
        }
        Some(AcceptedPacket { info, empty, key_frame, late, restarted, layer_started })
    }

    fn record_gap(&mut self, now: Instant, highest: u64, seq: u64) {
        let missing = (highest + 1)..seq;
        if missing.is_empty() || self.resumes {
            return;
        }
        self.stats.missing += missing.end - missing.start;
        self.nacks.add_gap(now, missing);
    }

    fn restart(&mut self, now: Instant, timestamp: u32) {
        let passed = self.last_at.map_or(0, |last| ticks(now.saturating_duration_since(last), self.rate));
        let expected = self.last_timestamp.wrapping_add(passed);
        if (timestamp.wrapping_sub(expected) as i32).unsigned_abs() > self.rate * MAX_CLOCK_OFFSET_S {
            self.epoch = self.epoch.wrapping_add(1);
            self.report = None;
        }
        self.cache.clear();
        self.nacks.clear();
        self.last_key_frame = None;
        self.picture_id = None;
    }

    /// Extends a picture id of 7 bits to 15 bits.
    fn widen(&self, id: u16, narrow: bool) -> u16 {
        match self.picture_id {
            Some(last) if narrow => {
                // The number nearest to the last one that has these low 7 bits.
                let ahead = id.wrapping_sub(last) & 0x7F;
                let step = if ahead < 0x40 { ahead } else { ahead.wrapping_sub(0x80) };
                last.wrapping_add(step) & 0x7FFF
            }
            _ => id,
        }
    }

    fn begins_key_frame(&mut self, packet: &Packet<'_>, start: KeyFrameStart) -> bool {
        if self.kind == Kind::Audio {
            return false;
        }
        let begins = match start {
            KeyFrameStart::No => false,
            KeyFrameStart::Yes => true,
            // A missing packet just before it may hold the parameter sets.
            KeyFrameStart::Idr => {
                let before = packet.seq.checked_sub(1);
                self.highest.is_none()
                    || before.is_some_and(|seq| self.highest == Some(seq) || self.cache.contains(seq))
            }
        };
        // A key frame starts once: at the first packet with its timestamp.
        let same = self.last_key_frame.filter(|(_, timestamp)| *timestamp == packet.timestamp);
        if !begins || same.is_some_and(|(seq, _)| seq < packet.seq) {
            return false;
        }
        if same.is_none() {
            self.stats.key_frames += 1;
        }
        self.last_key_frame = Some((packet.seq, packet.timestamp));
        true
    }
}

#[cfg(test)]
mod tests {
    use systir_rtp::packet::{Codec, Extensions};

    use super::*;

    #[test]
    fn packets_of_a_layer_that_nobody_wants_are_not_kept() {
        let mut now = Instant::now();
        let (mut source, mut arrival) = (LayerSource::new(Kind::Video, 90_000), ArrivalTime::default());
        let mut accept = |source: &mut LayerSource, seq: u64, is_wanted| {
            now += Duration::from_millis(30);
            let packet = Packet {
                codec: Codec::Vp8,
                seq,
                timestamp: seq as u32 * 2700,
                marker: true,
                ext: Extensions::default(),
                payload: &[0x10, 0, 0, 0, 0x9D, 1, 0x2A],
            };
            assert!(source.accept(now, &mut arrival, &packet, is_wanted).is_some());
        };
        for seq in 1..=10 {
            accept(&mut source, seq, true);
        }
        assert!((1..=10).all(|seq| source.cache.contains(seq)));
        for seq in 11..=30 {
            accept(&mut source, seq, false);
        }
        assert!(source.cache.contains(10), "it may be sent again for a second");
        for seq in 31..=60 {
            accept(&mut source, seq, false);
        }
        assert!((1..=60).all(|seq| !source.cache.contains(seq)), "its memory is free");
        accept(&mut source, 61, true);
        assert!(source.cache.contains(61));
    }
}
