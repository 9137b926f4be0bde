//! The request for a key frame of one layer: one outstanding, however many want it.

use std::time::{Duration, Instant};

const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const MAX_INTERVAL: Duration = Duration::from_millis(1000);
/// A decoder that asked is not heard of again (it asks again itself, if it must); its request is
/// repeated this often.
const REPEATS: u8 = 8;

#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequest {
    sent: Option<Instant>,
    due: Option<Instant>,
    interval: Duration,
    repeats: u8,
}

impl KeyFrameRequest {
    /// Somebody wants a key frame. True: ask the source now.
    pub(crate) fn request(&mut self, now: Instant) -> bool {
        self.repeats = REPEATS;
        if self.due.is_some() {
            return false;
        }
        self.interval = FIRST_INTERVAL;
        match self.sent.map(|sent| sent + FIRST_INTERVAL) {
            // Key frames are dear: the source is not asked more often than this.
            Some(soonest) if now < soonest => {
                self.due = Some(soonest);
                false
            }
            _ => {
                self.sent = Some(now);
                self.due = Some(now + self.interval);
                true
            }
        }
    }

    /// As [`KeyFrameRequest::request`], but asked for by the next [`KeyFrameRequest::repeat`].
    pub(crate) fn schedule(&mut self, now: Instant) {
        self.interval = FIRST_INTERVAL / 2;
        self.due = Some(now);
    }

    /// When [`KeyFrameRequest::repeat`] is to be called.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Time has passed; `waiting` says whether somebody cannot go on without the key frame. True:
    /// ask the source now.
    pub(crate) fn repeat(&mut self, now: Instant, waiting: bool, jitter: u64) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        if !waiting {
            if self.repeats == 0 {
                self.due = None;
                return false;
            }
            self.repeats -= 1;
        }
        self.sent = Some(now);
        self.interval = (self.interval * 2).min(MAX_INTERVAL);
        self.due = Some(now + self.interval + self.interval * (jitter % 26) as u32 / 100);
        true
    }

    /// A key frame began, or nobody can send one.
    pub(crate) fn cancel(&mut self) {
        self.due = None;
        self.repeats = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_with_growing_distance_until_a_key_frame_begins() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(request.request(start));
        assert!(!request.request(start));
        let mut distances = Vec::new();
        let mut last = start;
        for _ in 0..6 {
            let due = request.next_due().unwrap();
            distances.push((due - last).as_millis());
            last = due;
            assert!(request.repeat(due, true, 0));
        }
        assert_eq!(distances, [250, 500, 1000, 1000, 1000, 1000]);
        request.cancel();
        assert_eq!(request.next_due(), None);
    }

    #[test]
    fn what_nobody_waits_for_is_not_asked_for_ever() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(request.request(start));
        let mut asked = 0;
        while let Some(due) = request.next_due() {
            asked += u32::from(request.repeat(due, false, 7));
            assert!(asked < 100);
        }
        assert_eq!(asked, u32::from(REPEATS));
    }
}
