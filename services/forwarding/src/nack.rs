//! What is missing of one layer, and when to ask its source for it again.

use std::ops::Range;
use std::time::{Duration, Instant};

use systir_rtp::packet::Kind;

/// Missing packets that are remembered at most, and numbers in one request at most.
pub(crate) const MAX_MISSING: usize = 128;
/// A packet that overtook another is not a loss at once.
const REORDER_WAIT: Duration = Duration::from_millis(10);
/// Between requests for the same packet: about a round trip, longer each time. No jitter: there is
/// one asker per source, and numbers requests for together make one small request.
const VIDEO_INTERVALS_MS: [u64; 4] = [40, 60, 80, 100];
/// Sound is played a fifth of a second later at most: it is requests for as often as has a point until
/// then. Its packets are small, so that one sent twice costs little.
const AUDIO_INTERVALS_MS: [u64; 4] = [30, 30, 40, 50];

#[derive(Debug, Clone, Copy)]
struct MissingPacket {
    seq: u64,
    next: Instant,
    requests: u8,
}

#[derive(Debug)]
pub(crate) struct NackList {
    /// In ascending order of numbers.
    list: Vec<MissingPacket>,
    max_requests: u8,
    /// Milliseconds; the last one stands for all that follow.
    intervals_ms: [u64; 4],
}

impl NackList {
    pub(crate) fn new(kind: Kind) -> Self {
        // Sound that is late is of no use; a picture waits for its parts.
        let (max_requests, intervals_ms) = match kind {
            Kind::Audio => (5, AUDIO_INTERVALS_MS),
            Kind::Video => (8, VIDEO_INTERVALS_MS),
        };
        Self { list: Vec::new(), max_requests, intervals_ms }
    }

    /// These numbers were skipped. A gap that is too wide is not requests for: a key frame is cheaper.
    pub(crate) fn add_gap(&mut self, now: Instant, missing: Range<u64>) {
        let count = (missing.end.saturating_sub(missing.start)) as usize;
        if count > MAX_MISSING {
            return;
        }
        if self.list.capacity() == 0 {
            self.list.reserve_exact(MAX_MISSING);
        }
        let excess = (self.list.len() + count).saturating_sub(MAX_MISSING);
        self.list.drain(..excess.min(self.list.len()));
        self.list.extend(missing.map(|seq| MissingPacket { seq, next: now + REORDER_WAIT, requests: 0 }));
    }

    /// The packet came after all.
    pub(crate) fn arrived(&mut self, seq: u64) {
        if let Ok(index) = self.list.binary_search_by_key(&seq, |loss| loss.seq) {
            self.list.remove(index);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.list.iter().map(|loss| loss.next).min()
    }

    /// Fills `out` with the numbers to ask for now and says how many there are.
    pub(crate) fn due(&mut self, now: Instant, out: &mut [u16; MAX_MISSING]) -> usize {
        let mut count = 0;
        let (max_requests, intervals_ms) = (self.max_requests, self.intervals_ms);
        self.list.retain_mut(|loss| {
            if loss.next > now {
                return true;
            }
            if loss.requests >= max_requests {
                return false;
            }
            if let Some(place) = out.get_mut(count) {
                *place = loss.seq as u16;
                count += 1;
            }
            let pause = intervals_ms.get(usize::from(loss.requests)).or(intervals_ms.last());
            loss.next = now + pause.map_or(REORDER_WAIT, |pause| Duration::from_millis(*pause));
            loss.requests += 1;
            true
        });
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
    fn a_loss_is_asked_for_again_and_given_up_in_the_end() {
        let start = Instant::now();
        let mut nacks = NackList::new(Kind::Video);
        nacks.add_gap(start, 10..12);
        nacks.arrived(10);
        let mut out = [0; MAX_MISSING];
        let mut requests = 0;
        while let Some(next) = nacks.next_due() {
            let count = nacks.due(next, &mut out);
            assert!(out[..count].iter().all(|seq| *seq == 11));
            requests += count;
            assert!(next < ms(start, 2000), "asks for ever");
        }
        assert_eq!(requests, 8);
    }

    #[test]
    fn sound_is_asked_for_five_times_before_it_would_be_played() {
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
    fn list_is_bounded_and_keeps_the_newest() {
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
