//! What is missing of one layer, and when to ask its source for it again.

use std::ops::Range;
use std::time::{Duration, Instant};

use systir_rtp::packet::Kind;

/// Missing packets that are remembered at most, and numbers in one request at most.
pub(crate) const MOST: usize = 128;
/// A packet that overtook another is not a loss at once.
const REORDERING: Duration = Duration::from_millis(10);
/// Between requests for the same packet: about a round trip, longer each time. No jitter: there is
/// one asker per source, and numbers asked for together make one small request.
const SPACING: [u64; 4] = [40, 60, 80, 100];
/// Sound is played a fifth of a second later at most: it is asked for as often as has a point until
/// then. Its packets are small, so that one sent twice costs little.
const SPACING_OF_SOUND: [u64; 4] = [30, 30, 40, 50];

#[derive(Debug, Clone, Copy)]
struct Loss {
    seq: u64,
    next: Instant,
    asked: u8,
}

#[derive(Debug)]
pub(crate) struct Losses {
    /// In ascending order of numbers.
    list: Vec<Loss>,
    tries: u8,
    /// Milliseconds; the last one stands for all that follow.
    spacing: [u64; 4],
}

impl Losses {
    pub(crate) fn new(kind: Kind) -> Self {
        // Sound that is late is of no use; a picture waits for its parts.
        let (tries, spacing) = match kind {
            Kind::Audio => (5, SPACING_OF_SOUND),
            Kind::Video => (8, SPACING),
        };
        Self { list: Vec::new(), tries, spacing }
    }

    /// These numbers were skipped. A gap that is too wide is not asked for: a key frame is cheaper.
    pub(crate) fn gap(&mut self, now: Instant, missing: Range<u64>) {
        let count = (missing.end.saturating_sub(missing.start)) as usize;
        if count > MOST {
            return;
        }
        if self.list.capacity() == 0 {
            self.list.reserve_exact(MOST);
        }
        let excess = (self.list.len() + count).saturating_sub(MOST);
        self.list.drain(..excess.min(self.list.len()));
        self.list.extend(missing.map(|seq| Loss { seq, next: now + REORDERING, asked: 0 }));
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

    pub(crate) fn next(&self) -> Option<Instant> {
        self.list.iter().map(|loss| loss.next).min()
    }

    /// Fills `out` with the numbers to ask for now and says how many there are.
    pub(crate) fn due(&mut self, now: Instant, out: &mut [u16; MOST]) -> usize {
        let mut count = 0;
        let (tries, spacing) = (self.tries, self.spacing);
        self.list.retain_mut(|loss| {
            if loss.next > now {
                return true;
            }
            if loss.asked >= tries {
                return false;
            }
            if let Some(place) = out.get_mut(count) {
                *place = loss.seq as u16;
                count += 1;
            }
            let pause = spacing.get(usize::from(loss.asked)).or(spacing.last());
            loss.next = now + pause.map_or(REORDERING, |pause| Duration::from_millis(*pause));
            loss.asked += 1;
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
        let mut losses = Losses::new(Kind::Video);
        losses.gap(start, 10..12);
        losses.arrived(10);
        let mut out = [0; MOST];
        let mut asked = 0;
        while let Some(next) = losses.next() {
            let count = losses.due(next, &mut out);
            assert!(out[..count].iter().all(|seq| *seq == 11));
            asked += count;
            assert!(next < ms(start, 2000), "asks for ever");
        }
        assert_eq!(asked, 8);
    }

    #[test]
    fn sound_is_asked_for_five_times_before_it_would_be_played() {
        let start = Instant::now();
        let mut losses = Losses::new(Kind::Audio);
        losses.gap(start, 7..8);
        let mut out = [0; MOST];
        let mut asked = Vec::new();
        while let Some(next) = losses.next() {
            if losses.due(next, &mut out) > 0 {
                asked.push((next - start).as_millis());
            }
        }
        assert_eq!(asked, [10, 40, 70, 110, 160]);
    }

    #[test]
    fn list_is_bounded_and_keeps_the_newest() {
        let start = Instant::now();
        let mut losses = Losses::new(Kind::Video);
        losses.gap(start, 0..100);
        losses.gap(start, 200..300);
        losses.gap(start, 1000..2000);
        let mut out = [0; MOST];
        assert_eq!(losses.due(ms(start, 10), &mut out), MOST);
        assert_eq!((out[0], out[MOST - 1]), (72, 299));
    }
}
