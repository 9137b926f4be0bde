//! The missing packets of one layer, and when to request each of them from its source.

use std::ops::Range;
use std::time::{Duration, Instant};

use systir_rtp::packet::Kind;

/// Most missing packets in the list, and most sequence numbers in one request.
pub(crate) const MAX_MISSING: usize = 128;
/// Wait before the first request: the packet may only be reordered.
const REORDER_WAIT: Duration = Duration::from_millis(10);
/// Shortest time between requests for one video packet, and the time while the round trip is unknown; the last
/// value repeats. No jitter: each source has one requester, and packets requested together share one message.
const VIDEO_INTERVALS_MS: [u64; 4] = [40, 60, 80, 100];
/// Time between requests for one audio packet. Jitter buffers play audio within 200 ms, so all requests fit into
/// that time, however long the round trip is. Audio packets are small: a duplicate costs little.
const AUDIO_INTERVALS_MS: [u64; 4] = [30, 30, 40, 50];
/// Added to the round trip and an eighth of it: the time that an answer takes at the source.
const ANSWER_TIME: Duration = Duration::from_millis(10);
/// A longer time between request and arrival is no round trip.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Requests for one audio packet; audio that arrives later is useless.
const MAX_AUDIO_REQUESTS: u8 = 5;
/// Requests for one video packet.
const MAX_VIDEO_REQUESTS: u8 = 8;
/// A decoder waits this long for a video packet, and for four requests; then a key frame is faster.
const MAX_VIDEO_AGE: Duration = Duration::from_millis(690);
const MIN_VIDEO_REQUESTS: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct MissingPacket {
    seq: u64,
    next: Instant,
    /// When it was first requested.
    first: Option<Instant>,
    requests: u8,
}

#[derive(Debug)]
pub(crate) struct NackList {
    /// In ascending order of sequence numbers.
    list: Vec<MissingPacket>,
    kind: Kind,
    /// Time from a request until the packet arrives; none before it is known.
    round_trip: Option<Duration>,
    /// Where the newest key frame starts. A decoder needs no packet before it.
    key_frame: u64,
    /// When a packet of video was given up that a decoder needs; none once it was taken.
    given_up: Option<Instant>,
}

impl NackList {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { list: Vec::new(), kind, round_trip: None, key_frame: 0, given_up: None }
    }

    /// Adds the sequence numbers that were skipped. A larger gap than [`MAX_MISSING`] is given up at once: a
    /// key frame is cheaper.
    pub(crate) fn add_gap(&mut self, now: Instant, missing: Range<u64>) {
        let count = (missing.end.saturating_sub(missing.start)) as usize;
        if count > MAX_MISSING {
            self.give_up(now, missing.end);
            return;
        }
        if self.list.capacity() == 0 {
            self.list.reserve_exact(MAX_MISSING);
        }
        let excess = (self.list.len() + count).saturating_sub(MAX_MISSING);
        let newest = self.list.drain(..excess.min(self.list.len())).next_back();
        if let Some(newest) = newest {
            self.give_up(now, newest.seq);
        }
        self.list.extend(missing.map(|seq| MissingPacket {
            seq,
            next: now + REORDER_WAIT,
            first: None,
            requests: 0,
        }));
    }

    /// Removes a packet that arrived.
    pub(crate) fn arrived(&mut self, now: Instant, seq: u64) {
        if let Ok(index) = self.list.binary_search_by_key(&seq, |packet| packet.seq) {
            let packet = self.list.remove(index);
            if let Some(first) = packet.first {
                // After several requests this is the longest that it can be, so it counts less.
                let share = if packet.requests == 1 { 8 } else { 32 };
                self.measured(now.saturating_duration_since(first), share);
            }
        }
    }

    fn measured(&mut self, sample: Duration, share: u32) {
        if sample <= MAX_ROUND_TRIP {
            let mean = self.round_trip.unwrap_or(sample);
            self.round_trip = Some((mean * (share - 1) + sample) / share);
        }
    }

    /// The round-trip time to the source as RTCP measured it. It counts until an answer to a request was seen.
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip.get_or_insert(round_trip.min(MAX_ROUND_TRIP));
    }

    /// Time to wait for the answer to a request that `before` others preceded.
    fn interval(&self, before: u8) -> Duration {
        let (intervals, round_trip) = match self.kind {
            Kind::Audio => (&AUDIO_INTERVALS_MS, None),
            Kind::Video => (&VIDEO_INTERVALS_MS, self.round_trip),
        };
        let least = intervals.get(usize::from(before)).or(intervals.last()).copied().unwrap_or_default();
        let answer = round_trip.map(|time| time + time / 8 + ANSWER_TIME).unwrap_or_default();
        answer.max(Duration::from_millis(least))
    }

    /// Is a packet that arrives later of no use, after this many requests?
    fn is_too_late(&self, requests: u8, age: Duration) -> bool {
        match self.kind {
            Kind::Audio => requests >= MAX_AUDIO_REQUESTS,
            Kind::Video => {
                requests >= MAX_VIDEO_REQUESTS || (requests >= MIN_VIDEO_REQUESTS && age > MAX_VIDEO_AGE)
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.given_up = None;
    }

    /// A key frame starts at this packet.
    pub(crate) fn key_frame_started(&mut self, seq: u64) {
        self.key_frame = seq;
        self.given_up = None;
    }

    fn give_up(&mut self, now: Instant, seq: u64) {
        if self.kind == Kind::Video && seq > self.key_frame {
            self.given_up.get_or_insert(now);
        }
    }

    /// Was a packet given up since the last call that a decoder needs? Then only a key frame helps.
    pub(crate) fn take_given_up(&mut self) -> bool {
        self.given_up.take().is_some()
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.list.iter().map(|packet| packet.next).chain(self.given_up).min()
    }

    /// Writes the sequence numbers to request now into `out` and returns how many there are.
    pub(crate) fn due(&mut self, now: Instant, out: &mut [u16; MAX_MISSING]) -> usize {
        let mut count = 0;
        let mut given_up = None;
        let mut list = std::mem::take(&mut self.list);
        list.retain_mut(|packet| {
            if packet.next > now {
                return true;
            }
            let age = packet.first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
            if self.is_too_late(packet.requests, age) {
                given_up = Some(packet.seq);
                return false;
            }
            if let Some(slot) = out.get_mut(count) {
                *slot = packet.seq as u16;
                count += 1;
            }
            packet.first.get_or_insert(now);
            packet.next = now + self.interval(packet.requests);
            packet.requests += 1;
            true
        });
        self.list = list;
        if let Some(newest) = given_up {
            self.give_up(now, newest);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_missing_packet_is_requested_again_up_to_the_limit() {
        let start = Instant::now();
        let mut nacks = NackList::new(Kind::Video);
        nacks.add_gap(start, 10..12);
        nacks.arrived(start, 10);
        let mut out = [0; MAX_MISSING];
        let mut requests = 0;
        while let Some(next) = nacks.next_due() {
            let count = nacks.due(next, &mut out);
            assert!(out[..count].iter().all(|seq| *seq == 11));
            requests += count;
            assert!(next < ms(start, 2000), "requests never stop");
            if nacks.take_given_up() {
                break;
            }
        }
        assert_eq!(requests, 8);
        assert_eq!(nacks.next_due(), None);
    }

    #[test]
    fn missing_audio_is_requested_five_times_before_it_is_played() {
        let start = Instant::now();
        let mut nacks = NackList::new(Kind::Audio);
        nacks.add_gap(start, 7..8);
        let mut out = [0; MAX_MISSING];
        let mut requests = Vec::new();
        while let Some(next) = nacks.next_due() {
            if nacks.due(next, &mut out) > 0 {
                requests.push((next - start).as_millis());
            }
        }
        assert_eq!(requests, [10, 40, 70, 110, 160]);
    }

    #[test]
    fn requests_are_a_round_trip_apart() {
        let start = Instant::now();
        for measured in [true, false] {
            let mut nacks = NackList::new(Kind::Video);
            let mut out = [0; MAX_MISSING];
            if measured {
                // One packet arrived a round trip after its request.
                nacks.add_gap(start, 3..4);
                assert_eq!(nacks.due(ms(start, 10), &mut out), 1);
                nacks.arrived(ms(start, 210), 3);
            } else {
                nacks.set_round_trip(Duration::from_millis(200));
            }
            let later = ms(start, 1000);
            nacks.add_gap(later, 7..8);
            let mut requests = Vec::new();
            while let Some(next) = nacks.next_due() {
                if nacks.due(next, &mut out) > 0 {
                    requests.push((next - later).as_millis());
                }
                if nacks.take_given_up() {
                    break;
                }
            }
            assert_eq!(requests, [10, 245, 480, 715], "measured: {measured}");
        }
    }

    #[test]
    fn the_list_is_bounded_and_keeps_the_newest() {
        let start = Instant::now();
        let mut nacks = NackList::new(Kind::Video);
        nacks.add_gap(start, 0..100);
        nacks.add_gap(start, 200..300);
        nacks.add_gap(start, 1000..2000);
        let mut out = [0; MAX_MISSING];
        assert_eq!(nacks.due(ms(start, 10), &mut out), MAX_MISSING);
        assert_eq!((out[0], out[MAX_MISSING - 1]), (72, 299));
    }
}
