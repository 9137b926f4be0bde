//! Which frames a decoder could decode: those with all their packets that are key frames or follow a
//! decoded frame.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Received;
use crate::media::frame_start;

/// Packets that wait for missing ones, at most.
const MAX_WAITING: usize = 1024;
/// A decoder that is stuck for this long requests a key frame, and again after as long.
const STUCK: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy)]
struct Packet {
    /// Whether the frame that begins here is a key frame; none when no frame begins here.
    start: Option<bool>,
    marker: bool,
    /// Empty: belongs to no frame.
    padding: bool,
}

/// One video track.
#[derive(Debug, Default)]
pub(super) struct Video {
    waiting: BTreeMap<u64, Packet>,
    /// Sequence number of the first packet of the next frame.
    next: Option<u64>,
    /// Frames decoded since counters were reset.
    pub(super) decoded: u64,
    last_frame: Option<Instant>,
    longest: Duration,
    last_request: Option<Instant>,
    last_packet: Option<Instant>,
}

impl Video {
    pub(super) fn packet(&mut self, now: Instant, packet: Received<'_>) {
        self.last_packet = Some(now);
        if self.next.is_some_and(|next| packet.seq < next) {
            return;
        }
        let padding = packet.payload.is_empty();
        let start = frame_start(packet.payload);
        self.waiting.insert(packet.seq, Packet { start, marker: packet.marker, padding });
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
        self.decode(now);
    }

    fn decode(&mut self, now: Instant) {
        loop {
            while let Some(next) =
                self.next.filter(|next| self.waiting.get(next).is_some_and(|packet| packet.padding))
            {
                self.waiting.remove(&next);
                self.next = Some(next + 1);
            }
            let complete = self.next.and_then(|next| self.complete(next));
            let Some(end) = complete.or_else(|| self.complete_key_frame()) else { return };
            self.waiting = self.waiting.split_off(&(end + 1));
            self.next = Some(end + 1);
            self.decoded += 1;
            self.last_request = None;
            let gap = self.last_frame.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            self.longest = self.longest.max(gap);
            self.last_frame = Some(now);
        }
    }

    /// The last packet of the frame that begins at `first`, when all its packets have arrived.
    fn complete(&self, first: u64) -> Option<u64> {
        for (expected, (seq, packet)) in (first..).zip(self.waiting.range(first..)) {
            if *seq != expected || packet.start.is_some() != (*seq == first) {
                return None;
            }
            if packet.marker {
                return Some(*seq);
            }
        }
        None
    }

    /// The last packet of the newest key frame of which all packets have arrived.
    fn complete_key_frame(&self) -> Option<u64> {
        let keys = self.waiting.iter().rev().filter(|(_, packet)| packet.start == Some(true));
        keys.map(|(seq, _)| *seq).find_map(|seq| self.complete(seq))
    }

    /// The next packet belongs to another RTP stream of the track.
    pub(super) fn reset_stream(&mut self) {
        self.waiting.clear();
        self.next = None;
    }

    pub(super) fn reset_counters(&mut self, now: Instant) {
        self.decoded = 0;
        self.longest = Duration::ZERO;
        self.last_frame = self.last_frame.map(|_| now);
    }

    /// Whether packets arrive but no frame can be decoded; true once for each request that a decoder
    /// would send.
    pub(super) fn needs_key_frame(&mut self, now: Instant) -> bool {
        let late = |since: Option<Instant>| since.is_none_or(|at| now.saturating_duration_since(at) > STUCK);
        let receiving = self.last_packet.is_some_and(|last| now.saturating_duration_since(last) < STUCK);
        let stuck = receiving && !self.waiting.is_empty() && late(self.last_frame) && late(self.last_request);
        if stuck {
            self.last_request = Some(now);
        }
        stuck
    }

    /// Longest time between two frames, and until `end` when the track is still published.
    pub(super) fn longest_freeze(&self, end: Option<Instant>) -> Duration {
        let tail = self
            .last_frame
            .zip(end)
            .map_or(Duration::ZERO, |(last, end)| end.saturating_duration_since(last));
        self.longest.max(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `packets` packets every 40 ms; packets in `lost` never arrive.
    fn play(video: &mut Video, start: Instant, count: u64, packets: u64, keys: &[u64], lost: &[u64]) {
        for frame in 0..count {
            for packet in 0..packets {
                let seq = frame * packets + packet;
                if !lost.contains(&seq) {
                    arrive(video, start + Duration::from_millis(40 * frame), seq, packets, keys);
                }
            }
        }
    }

    fn arrive(video: &mut Video, now: Instant, seq: u64, packets: u64, keys: &[u64]) {
        let (frame, packet) = (seq / packets, seq % packets);
        let tag = u8::from(!keys.contains(&frame));
        let payload = if packet == 0 { vec![0x10, tag, 0, 0] } else { vec![0, 9, 9, 9] };
        video.packet(now, Received { seq, marker: packet + 1 == packets, payload: &payload, stamp: None });
    }

    #[test]
    fn frames_are_decoded_from_the_first_key_frame_on() {
        let start = Instant::now();
        let mut video = Video::default();
        play(&mut video, start, 10, 3, &[4], &[]);
        assert_eq!(video.decoded, 6);
        assert_eq!(video.longest_freeze(None), Duration::from_millis(40));
        assert_eq!(video.longest_freeze(Some(start + Duration::from_secs(1))), Duration::from_millis(640));
    }

    #[test]
    fn missing_packet_delays_later_frames_until_it_arrives() {
        let start = Instant::now();
        let mut video = Video::default();
        play(&mut video, start, 10, 3, &[0], &[10]);
        assert_eq!(video.decoded, 3);
        arrive(&mut video, start + Duration::from_millis(480), 10, 3, &[0]);
        assert_eq!(video.decoded, 10);
        assert_eq!(video.longest_freeze(None), Duration::from_millis(400));
    }

    #[test]
    fn key_frame_ends_a_freeze_after_loss() {
        let start = Instant::now();
        let mut video = Video::default();
        play(&mut video, start, 20, 2, &[0, 15], &[8, 9, 13]);
        assert_eq!(video.decoded, 4 + 5);
        assert_eq!(video.longest_freeze(None), Duration::from_millis(12 * 40));
    }

    #[test]
    fn stuck_decoder_requests_key_frames_repeatedly() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut video = Video::default();
        play(&mut video, start, 10, 2, &[0], &[4]);
        assert!(!video.needs_key_frame(at(370)));
        play(&mut video, at(400), 1, 2, &[], &[]);
        video.packet(at(480), Received { seq: 24, marker: false, payload: &[0x10, 1, 0], stamp: None });
        assert!(video.needs_key_frame(at(480)));
        assert!(!video.needs_key_frame(at(481)));
        video.packet(at(900), Received { seq: 25, marker: false, payload: &[0, 1, 0], stamp: None });
        assert!(video.needs_key_frame(at(900)));
    }

    #[test]
    fn reset_counters_keep_the_decoder_state() {
        let start = Instant::now();
        let mut video = Video::default();
        play(&mut video, start, 10, 1, &[0], &[]);
        video.reset_counters(start + Duration::from_millis(400));
        arrive(&mut video, start + Duration::from_millis(420), 10, 1, &[0]);
        assert_eq!((video.decoded, video.longest_freeze(None)), (1, Duration::from_millis(20)));
    }
}
