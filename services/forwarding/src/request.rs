//! The key frame request of one layer. At most one is outstanding, however many subscribers need it.

use std::time::{Duration, Instant};

/// Shortest time between two requests: key frames are large.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_millis(1000);
/// How often a request is repeated when no subscriber waits for the layer. The core cannot know whether a
/// decoder that sent a PLI still needs the key frame; the decoder sends more PLI if it does.
const REPEATS: u8 = 8;

/// Who needs a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// One that has no picture yet.
    New,
    /// One that lost packets, or switches from another layer.
    Other,
}

#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequest {
    sent: Option<Instant>,
    /// When the first request was sent that no key frame has answered.
    unanswered_since: Option<Instant>,
    /// When a request for a new receiver was last sent before its interval had passed.
    early: Option<Instant>,
    /// A request was sent and no key frame has started since.
    outstanding: bool,
    /// A downstream that was added since has not requested a key frame yet.
    new_downstream: bool,
    due: Option<Instant>,
    interval: Duration,
    repeats: u8,
}

impl KeyFrameRequest {
    /// A key frame is needed. True: send a request to the source now. For a new receiver, one request in each
    /// interval is sent early.
    pub(crate) fn request(&mut self, now: Instant, receiver: Receiver) -> bool {
        self.repeats = REPEATS;
        let is_new = std::mem::take(&mut self.new_downstream) || receiver == Receiver::New;
        if self.outstanding {
            return false;
        }
        let earliest = self.earliest(now);
        if now < earliest {
            let recent = |at: Instant| now.saturating_duration_since(at) < MIN_INTERVAL;
            if !is_new || self.early.is_some_and(recent) {
                self.due = Some(earliest);
                return false;
            }
            self.early = Some(now);
        }
        self.sent(now, MIN_INTERVAL, 0);
        true
    }

    /// Like [`KeyFrameRequest::request`], but the next [`KeyFrameRequest::repeat`] sends the request.
    pub(crate) fn schedule(&mut self, now: Instant) {
        self.unanswered_since = None;
        self.outstanding = false;
        self.due = Some(self.earliest(now));
    }

    /// A downstream was added: its first key frame request is that of a new receiver.
    pub(crate) fn downstream_added(&mut self) {
        self.new_downstream = true;
    }

    /// Since when the source has been asked without an answer.
    pub(crate) fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.sent.map_or(now, |sent| now.max(sent + MIN_INTERVAL))
    }

    fn sent(&mut self, now: Instant, interval: Duration, jitter: u64) {
        self.sent = Some(now);
        self.unanswered_since.get_or_insert(now);
        self.outstanding = true;
        self.interval = interval;
        self.due = Some(now + interval + interval * (jitter % 26) as u32 / 100);
    }

    /// When [`KeyFrameRequest::repeat`] is next due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Would [`KeyFrameRequest::repeat`] do anything now?
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Handles the timeout. `waiting`: does a subscriber wait for the layer to start? Then the request is
    /// repeated without limit. True: send a request to the source now.
    pub(crate) fn repeat(&mut self, now: Instant, waiting: bool, jitter: u64) -> bool {
        if !self.is_due(now) {
            return false;
        }
        if !waiting {
            if self.repeats == 0 {
                self.cancel();
                return false;
            }
            self.repeats -= 1;
        }
        let interval = if self.outstanding { (self.interval * 2).min(MAX_INTERVAL) } else { MIN_INTERVAL };
        self.sent(now, interval, jitter);
        true
    }

    /// Ends the request: a key frame started, or none can come.
    pub(crate) fn cancel(&mut self) {
        self.due = None;
        self.unanswered_since = None;
        self.outstanding = false;
        self.new_downstream = false;
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
        assert!(request.request(start, Receiver::Other));
        assert!(!request.request(start, Receiver::Other));
        let mut intervals = Vec::new();
        let mut last = start;
        for _ in 0..6 {
            let due = request.next_due().unwrap();
            intervals.push((due - last).as_millis());
            last = due;
            assert!(request.repeat(due, true, 0));
        }
        assert_eq!(intervals, [500, 1000, 1000, 1000, 1000, 1000]);
        request.cancel();
        assert_eq!(request.next_due(), None);
    }

    #[test]
    fn without_a_waiting_subscriber_the_repeats_are_limited() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(request.request(start, Receiver::Other));
        let mut repeats = 0;
        while let Some(due) = request.next_due() {
            repeats += u32::from(request.repeat(due, false, 7));
            assert!(repeats < 100);
        }
        assert_eq!(repeats, u32::from(REPEATS));
    }
}
