//! Which pictures a decoder could show: all packets of it there, and the picture before it shown,
//! or a key frame.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Seen;
use crate::media::frame_start;

/// Packets that wait for missing ones, at most.
const WAITING: usize = 1024;
/// A decoder that could not go on for so long asks for a key frame.
const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy)]
struct Part {
    /// Does a picture begin here, and is it a key frame?
    start: Option<bool>,
    marker: bool,
    /// It has a number and belongs to no picture.
    padding: bool,
}

/// One stream of pictures.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    waiting: BTreeMap<u64, Part>,
    /// The packet that the next picture begins with.
    next: Option<u64>,
    /// Pictures shown since counting began.
    pub(super) decoded: u64,
    last: Option<Instant>,
    longest: Duration,
    asked: Option<Instant>,
    came: Option<Instant>,
}

impl Pictures {
    pub(super) fn packet(&mut self, now: Instant, seen: Seen<'_>) {
        self.came = Some(now);
        if self.next.is_some_and(|next| seen.seq < next) {
            return;
        }
        let padding = seen.payload.is_empty();
        self.waiting
            .insert(seen.seq, Part { start: frame_start(seen.payload), marker: seen.marker, padding });
        while self.waiting.len() > WAITING {
            self.waiting.pop_first();
        }
        self.show(now);
    }

    fn show(&mut self, now: Instant) {
        loop {
            while let Some(next) =
                self.next.filter(|next| self.waiting.get(next).is_some_and(|part| part.padding))
            {
                self.waiting.remove(&next);
                self.next = Some(next + 1);
            }
            let whole = self.next.and_then(|next| self.whole(next)).or_else(|| self.whole_key_frame());
            let Some(end) = whole else { return };
            self.waiting = self.waiting.split_off(&(end + 1));
            self.next = Some(end + 1);
            self.decoded += 1;
            self.asked = None;
            let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            self.longest = self.longest.max(gap);
            self.last = Some(now);
        }
    }

    /// The last packet of the picture that begins there, once all are there.
    fn whole(&self, first: u64) -> Option<u64> {
        for (expected, (seq, part)) in (first..).zip(self.waiting.range(first..)) {
            if *seq != expected || part.start.is_some() != (*seq == first) {
                return None;
            }
            if part.marker {
                return Some(*seq);
            }
        }
        None
    }

    fn whole_key_frame(&self) -> Option<u64> {
        let keys = self.waiting.iter().rev().filter(|(_, part)| part.start == Some(true));
        keys.map(|(seq, _)| *seq).find_map(|seq| self.whole(seq))
    }

    /// The stream goes on under other numbers.
    pub(super) fn begin_anew(&mut self) {
        self.waiting.clear();
        self.next = None;
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.decoded = 0;
        self.longest = Duration::ZERO;
        self.last = self.last.map(|_| now);
    }

    /// Packets come and no picture; true once for each time that a decoder would ask.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let late =
            |since: Option<Instant>| since.is_none_or(|at| now.saturating_duration_since(at) > PATIENCE);
        let comes = self.came.is_some_and(|came| now.saturating_duration_since(came) < PATIENCE);
        let stuck = comes && !self.waiting.is_empty() && late(self.last) && late(self.asked);
        if stuck {
            self.asked = Some(now);
        }
        stuck
    }

    /// Longest time between two pictures, and until `end` when the track is still there.
    pub(super) fn longest(&self, end: Option<Instant>) -> Duration {
        let tail =
            self.last.zip(end).map_or(Duration::ZERO, |(last, end)| end.saturating_duration_since(last));
        self.longest.max(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of `parts` packets every 40 ms; `lost` never arrive.
    fn play(pictures: &mut Pictures, start: Instant, count: u64, parts: u64, keys: &[u64], lost: &[u64]) {
        for picture in 0..count {
            for part in 0..parts {
                let seq = picture * parts + part;
                if !lost.contains(&seq) {
                    arrive(pictures, start + Duration::from_millis(40 * picture), seq, parts, keys);
                }
            }
        }
    }

    fn arrive(pictures: &mut Pictures, now: Instant, seq: u64, parts: u64, keys: &[u64]) {
        let (picture, part) = (seq / parts, seq % parts);
        let tag = u8::from(!keys.contains(&picture));
        let payload = if part == 0 { vec![0x10, tag, 0, 0] } else { vec![0, 9, 9, 9] };
        pictures.packet(now, Seen { seq, marker: part + 1 == parts, payload: &payload, stamp: None });
    }

    #[test]
    fn pictures_are_shown_from_the_first_key_frame_on() {
        let start = Instant::now();
        let mut pictures = Pictures::default();
        play(&mut pictures, start, 10, 3, &[4], &[]);
        assert_eq!(pictures.decoded, 6);
        assert_eq!(pictures.longest(None), Duration::from_millis(40));
        assert_eq!(pictures.longest(Some(start + Duration::from_secs(1))), Duration::from_millis(640));
    }

    #[test]
    fn a_lost_packet_holds_up_all_until_it_comes() {
        let start = Instant::now();
        let mut pictures = Pictures::default();
        play(&mut pictures, start, 10, 3, &[0], &[10]);
        assert_eq!(pictures.decoded, 3);
        arrive(&mut pictures, start + Duration::from_millis(480), 10, 3, &[0]);
        assert_eq!(pictures.decoded, 10);
        assert_eq!(pictures.longest(None), Duration::from_millis(400));
    }

    #[test]
    fn a_key_frame_helps_over_what_is_lost_for_good() {
        let start = Instant::now();
        let mut pictures = Pictures::default();
        play(&mut pictures, start, 20, 2, &[0, 15], &[8, 9, 13]);
        assert_eq!(pictures.decoded, 4 + 5);
        assert_eq!(pictures.longest(None), Duration::from_millis(12 * 40));
    }

    #[test]
    fn a_decoder_that_cannot_go_on_asks_and_asks_again() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pictures = Pictures::default();
        play(&mut pictures, start, 10, 2, &[0], &[4]);
        assert!(!pictures.is_stuck(at(370)));
        play(&mut pictures, at(400), 1, 2, &[], &[]);
        pictures.packet(at(480), Seen { seq: 24, marker: false, payload: &[0x10, 1, 0], stamp: None });
        assert!(pictures.is_stuck(at(480)));
        assert!(!pictures.is_stuck(at(481)));
        pictures.packet(at(900), Seen { seq: 25, marker: false, payload: &[0, 1, 0], stamp: None });
        assert!(pictures.is_stuck(at(900)));
    }

    #[test]
    fn what_was_decoded_before_counting_began_still_serves() {
        let start = Instant::now();
        let mut pictures = Pictures::default();
        play(&mut pictures, start, 10, 1, &[0], &[]);
        pictures.restart(start + Duration::from_millis(400));
        arrive(&mut pictures, start + Duration::from_millis(420), 10, 1, &[0]);
        assert_eq!((pictures.decoded, pictures.longest(None)), (1, Duration::from_millis(20)));
    }
}
