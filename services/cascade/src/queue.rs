//! The send queue of one QUIC connection. Priorities: control, audio, data messages, base layers,
//! other layers. A full queue drops the oldest frame of the lowest priority first; frames older than
//! 200 ms are dropped, since late media is useless.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use systir_forwarding::batch::Priority;

/// Number of priorities: the four of media, and data messages between audio and video.
pub const CLASSES: usize = 5;
/// Index of data messages in tables by priority.
pub const DATA_MESSAGES: usize = 2;
/// Older frames are dropped.
const MAX_AGE: Duration = Duration::from_millis(200);

/// Index of a media priority in tables by priority.
#[must_use]
pub fn class(priority: Priority) -> usize {
    match priority {
        Priority::Control => 0,
        Priority::Audio => 1,
        Priority::Base => 3,
        Priority::Rest => 4,
    }
}

/// A bounded priority queue of frames.
#[derive(Debug)]
pub struct SendQueue {
    classes: [VecDeque<(Instant, Bytes)>; CLASSES],
    bytes: usize,
    limit: usize,
    dropped: [u64; CLASSES],
}

impl SendQueue {
    /// A queue of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { classes: Default::default(), bytes: 0, limit, dropped: [0; CLASSES] }
    }

    /// Adds a frame. Above the limit, the oldest frame of the lowest priority is dropped, which may
    /// be this one.
    pub fn push(&mut self, now: Instant, priority: Priority, frame: Bytes) {
        self.push_to(class(priority), now, frame);
    }

    /// Adds the frame of a data message, with the same limit.
    pub fn push_data_message(&mut self, now: Instant, frame: Bytes) {
        self.push_to(DATA_MESSAGES, now, frame);
    }

    fn push_to(&mut self, class: usize, now: Instant, frame: Bytes) {
        self.bytes += frame.len();
        if let Some(queue) = self.classes.get_mut(class) {
            queue.push_back((now, frame));
        }
        while self.bytes > self.limit {
            let lowest =
                self.classes.iter_mut().zip(&mut self.dropped).rev().find(|(queue, _)| !queue.is_empty());
            let Some((queue, dropped)) = lowest else { break };
            if let Some((_, frame)) = queue.pop_front() {
                self.bytes -= frame.len();
                *dropped += 1;
            }
        }
    }

    /// Removes the oldest frame of the highest priority. Drops frames that are too old.
    pub fn pop(&mut self, now: Instant) -> Option<Bytes> {
        for (queue, dropped) in self.classes.iter_mut().zip(&mut self.dropped) {
            while let Some((since, frame)) = queue.pop_front() {
                self.bytes -= frame.len();
                if now.saturating_duration_since(since) <= MAX_AGE {
                    return Some(frame);
                }
                *dropped += 1;
            }
        }
        None
    }

    /// Is it empty?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Frames dropped so far, by priority.
    #[must_use]
    pub fn dropped(&self) -> [u64; CLASSES] {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(length: usize, mark: u8) -> Bytes {
        Bytes::from(vec![mark; length])
    }

    #[test]
    fn audio_precedes_data_messages_and_those_precede_video() {
        let now = Instant::now();
        let mut queue = SendQueue::new(1000);
        queue.push(now, Priority::Rest, frame(1, 4));
        queue.push(now, Priority::Base, frame(1, 3));
        queue.push_data_message(now, frame(1, 2));
        queue.push(now, Priority::Audio, frame(1, 1));
        queue.push(now, Priority::Control, frame(1, 0));
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(now)).map(|frame| frame[0]).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_oldest_of_the_lowest_priority_is_dropped_first() {
        let now = Instant::now();
        let mut queue = SendQueue::new(30);
        queue.push(now, Priority::Rest, frame(10, 1));
        queue.push(now, Priority::Rest, frame(10, 2));
        queue.push(now, Priority::Audio, frame(10, 3));
        queue.push(now, Priority::Audio, frame(10, 4));
        assert_eq!(queue.dropped(), [0, 0, 0, 0, 1]);
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(now)).map(|frame| frame[0]).collect();
        assert_eq!(order, [3, 4, 2]);
    }

    #[test]
    fn a_queue_full_of_audio_takes_no_video() {
        let now = Instant::now();
        let mut queue = SendQueue::new(20);
        queue.push(now, Priority::Audio, frame(10, 1));
        queue.push(now, Priority::Audio, frame(10, 2));
        queue.push(now, Priority::Base, frame(10, 3));
        assert_eq!(queue.dropped(), [0, 0, 0, 1, 0]);
    }

    #[test]
    fn late_media_is_dropped() {
        let now = Instant::now();
        let mut queue = SendQueue::new(1000);
        queue.push(now, Priority::Audio, frame(10, 1));
        let later = now + MAX_AGE + Duration::from_millis(1);
        queue.push(later, Priority::Audio, frame(10, 2));
        assert_eq!(queue.pop(later).unwrap()[0], 2);
        assert_eq!(queue.dropped(), [0, 1, 0, 0, 0]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn it_keeps_its_limit_and_counts_every_drop(
            pushes in proptest::collection::vec((0usize..4, 1usize..400), 0..200),
        ) {
            let now = Instant::now();
            let mut queue = SendQueue::new(1000);
            let priorities = [Priority::Control, Priority::Audio, Priority::Base, Priority::Rest];
            for (priority, length) in &pushes {
                queue.push(now, priorities[*priority], frame(*length, 0));
                prop_assert!(queue.bytes <= 1000);
                let held: usize = queue.classes.iter().flatten().map(|(_, frame)| frame.len()).sum();
                prop_assert_eq!(held, queue.bytes);
            }
            let lost: u64 = queue.dropped().iter().sum();
            let left = std::iter::from_fn(|| queue.pop(now)).count() as u64;
            prop_assert_eq!(lost + left, pushes.len() as u64);
        }
    }
}
