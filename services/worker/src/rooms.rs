//! The rooms a worker carries people of, and the events it owes them.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use systir_media_control::Event;

/// Data messages that may wait for a slow room. Once one waits no more are read from its clients, so
/// this is for what is on its way.
const MAX_WAITING_DATA: usize = 1024;

/// A room's events. What the room must hear waits in order while its channel is full; what it may
/// miss is dropped.
#[derive(Debug)]
pub(super) struct Room {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    waiting_data: usize,
}

impl Room {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, waiting: VecDeque::new(), waiting_data: 0 }
    }

    /// Tells the room. False when the event was dropped.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        if self.waiting.is_empty() {
            match self.events.try_send(event) {
                Ok(()) => true,
                Err(TrySendError::Full(event)) => self.keep(event),
                // Nobody is left to hear it; the room will be closed.
                Err(TrySendError::Closed(_)) => false,
            }
        } else {
            self.keep(event)
        }
    }

    fn keep(&mut self, event: Event) -> bool {
        match event {
            // All of these are told again.
            Event::Speakers { .. } | Event::KeyFrameNeeded { .. } | Event::Codec { .. } => return false,
            Event::Data { .. } if self.waiting_data >= MAX_WAITING_DATA => return false,
            Event::Data { .. } => self.waiting_data += 1,
            Event::Wanted { track, layers } => {
                // Only the newest wish counts, so tracks bound how many wait.
                for waiting in &mut self.waiting {
                    if let Event::Wanted { track: same, layers: old } = waiting
                        && *same == track
                    {
                        *old = layers;
                        return true;
                    }
                }
            }
            // One of each per connection, so connections bound how many wait.
            Event::Connected { .. } | Event::Closed { .. } => {}
        }
        self.waiting.push_back(event);
        true
    }

    /// Tries again to tell what waits. True when something still does.
    pub(super) fn retry(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            let is_data = matches!(event, Event::Data { .. });
            match self.events.try_send(event) {
                Ok(()) => self.waiting_data -= usize::from(is_data),
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return true;
                }
                Err(TrySendError::Closed(_)) => {
                    self.waiting.clear();
                    self.waiting_data = 0;
                    return false;
                }
            }
        }
        false
    }

    /// Does something wait?
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use systir_rtp::packet::{Layer, LayerSet};

    use super::*;
    use systir_media_control::{DataChannel, ParticipantKey, Side, TrackKey};

    fn data(number: u8) -> Event {
        let data = Bytes::from(vec![number]);
        Event::Data { participant: ParticipantKey(1), channel: DataChannel::Reliable, data }
    }

    #[test]
    fn a_slow_room_misses_speakers_but_no_departure() {
        let (events, mut heard) = mpsc::channel(1);
        let mut room = Room::new(events);
        assert!(room.tell(data(1)));
        assert!(!room.tell(Event::Speakers { changed: Vec::new() }));
        let closed =
            Event::Closed { participant: ParticipantKey(1), side: Side::Publisher, reason: "gone".into() };
        assert!(room.tell(closed));
        assert!(room.retry(), "still full");
        assert!(matches!(heard.try_recv(), Ok(Event::Data { .. })));
        assert!(!room.retry());
        assert!(matches!(heard.try_recv(), Ok(Event::Closed { .. })));
    }

    #[test]
    fn waiting_data_is_bounded_and_keeps_its_order() {
        let (events, mut heard) = mpsc::channel(1);
        let mut room = Room::new(events);
        let kept =
            (0..=255).cycle().take(2 * MAX_WAITING_DATA).filter(|number| room.tell(data(*number))).count();
        assert_eq!(kept, 1 + MAX_WAITING_DATA);
        let mut expected = (0..=255_u8).cycle();
        let mut count = 0;
        while let Ok(Event::Data { data, .. }) = heard.try_recv() {
            assert_eq!(data.first().copied(), expected.next());
            count += 1;
            room.retry();
        }
        assert_eq!(count, kept);
    }

    #[test]
    fn only_the_newest_wish_for_a_track_waits() {
        let (events, mut heard) = mpsc::channel(1);
        let mut room = Room::new(events);
        room.tell(data(0));
        for layer in 0..3 {
            let layers = LayerSet::NONE.with(Layer(layer));
            assert!(room.tell(Event::Wanted { track: TrackKey(5), layers }));
        }
        heard.try_recv().unwrap();
        assert!(!room.retry());
        assert!(matches!(heard.try_recv(), Ok(Event::Wanted { layers: LayerSet(4), .. })));
    }
}
