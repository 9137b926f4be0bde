//! The key frame request of one layer. At most one is outstanding, however many subscribers need it.

use std::time::{Duration, Instant};

const FIRST_INTERVAL: Duration = Duration::from_millis(250);
const MAX_INTERVAL: Duration = Duration::from_millis(1000);
/// How often a request is repeated when no subscriber waits for the layer. The core cannot know whether a
/// decoder that sent a PLI still needs the key frame; the decoder sends more PLI if it does.
const REPEATS: u8 = 8;

#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequest {
    sent: Option<Instant>,
    due: Option<Instant>,
    interval: Duration,
    repeats: u8,
}

impl KeyFrameRequest {
    /// A key frame is needed. True: send a request to the source now.
    pub(crate) fn request(&mut self, now: Instant) -> bool {
        self.repeats = REPEATS;
        if self.due.is_some() {
            return false;
        }
        self.interval = FIRST_INTERVAL;
        match self.sent.map(|sent| sent + FIRST_INTERVAL) {
            // Key frames are large: they are not requested more often than this.
            Some(earliest) if now < earliest => {
                self.due = Some(earliest);
                false
            }
            _ => {
                self.sent = Some(now);
                self.due = Some(now + self.interval);
                true
            }
        }
    }

    /// Like [`KeyFrameRequest::request`], but the next [`KeyFrameRequest::repeat`] sends the request.
    pub(crate) fn schedule(&mut self, now: Instant) {
        self.interval = FIRST_INTERVAL / 2;
        self.due = Some(now);
    }

    /// When [`KeyFrameRequest::repeat`] is next due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Handles the timeout. `waiting`: does a subscriber wait for the layer to start? Then the request is
    /// repeated without limit. True: send a request to the source now.
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

    /// Ends the request: a key frame started, or none can come.
    pub(crate) fn cancel(&mut self) {
        self.due = None;
        self.repeats = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_at_growing_intervals_until_a_key_frame_starts() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(request.request(start));
        assert!(!request.request(start));
        let mut intervals = Vec::new();
        let mut last = start;
        for _ in 0..6 {
            let due = request.next_due().unwrap();
            intervals.push((due - last).as_millis());
            last = due;
            assert!(request.repeat(due, true, 0));
        }
        assert_eq!(intervals, [250, 500, 1000, 1000, 1000, 1000]);
        request.cancel();
        assert_eq!(request.next_due(), None);
    }

    #[test]
    fn without_a_waiting_subscriber_the_repeats_are_limited() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(request.request(start));
        let mut repeats = 0;
        while let Some(due) = request.next_due() {
            repeats += u32::from(request.repeat(due, false, 7));
            assert!(repeats < 100);
        }
        assert_eq!(repeats, u32::from(REPEATS));
    }
}
