//! The event channel from a worker to a room, and the events that wait while it is full.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use systir_media_control::WorkerEvent;

/// Data messages that may wait for a slow room. While events wait, no messages are read from its clients, so
/// these are the messages that were already read.
const MAX_WAITING_DATA: usize = 1024;
/// Their bytes.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// Sends events to a room. While its channel is full, events wait in order; those that are repeated later
/// are dropped.
#[derive(Debug)]
pub(super) struct RoomEvents {
    events: mpsc::Sender<WorkerEvent>,
    waiting: VecDeque<WorkerEvent>,
    waiting_data: usize,
    waiting_bytes: usize,
    /// A reader of the room on this worker is slow.
    pub(super) readers_slow: bool,
    /// Readers on other nodes are slow, or the way to them.
    pub(super) others_slow: bool,
    /// Is the room in the worker's list of those that are behind?
    pub(super) is_listed: bool,
    /// Connections whose data messages are not read because the room is behind.
    pub(super) paused: Vec<usize>,
}

impl RoomEvents {
    pub(super) fn new(events: mpsc::Sender<WorkerEvent>) -> Self {
        Self {
            events,
            waiting: VecDeque::new(),
            waiting_data: 0,
            waiting_bytes: 0,
            readers_slow: false,
            others_slow: false,
            is_listed: false,
            paused: Vec::new(),
        }
    }

    /// Sends an event to the room. False when it was dropped.
    pub(super) fn send(&mut self, event: WorkerEvent) -> bool {
        if self.waiting.is_empty() {
            match self.events.try_send(event) {
                Ok(()) => true,
                Err(TrySendError::Full(event)) => self.enqueue(event),
                // The room has ended; it will be closed here too.
                Err(TrySendError::Closed(_)) => false,
            }
        } else {
            self.enqueue(event)
        }
    }

    fn enqueue(&mut self, event: WorkerEvent) -> bool {
        match event {
            // These are all sent again later.
            WorkerEvent::Speakers { .. } | WorkerEvent::KeyFrameNeeded { .. } | WorkerEvent::Codec { .. } => {
                return false;
            }
            WorkerEvent::Data { ref data, .. } => {
                if self.waiting_data >= MAX_WAITING_DATA
                    || self.waiting_bytes + data.len() > MAX_WAITING_BYTES
                {
                    return false;
                }
                self.waiting_data += 1;
                self.waiting_bytes += data.len();
            }
            WorkerEvent::Wanted { track, layers } => {
                // Only the newest one counts: at most one waits per track.
                for waiting in &mut self.waiting {
                    if let WorkerEvent::Wanted { track: same, layers: old } = waiting
                        && *same == track
                    {
                        *old = layers;
                        return true;
                    }
                }
            }
            WorkerEvent::StreamState { participant, ref changes } => {
                // Of each track only the newest one counts: at most one event waits per participant.
                for waiting in &mut self.waiting {
                    if let WorkerEvent::StreamState { participant: same, changes: old } = waiting
                        && *same == participant
                    {
                        old.retain(|(track, _)| changes.iter().all(|(changed, _)| changed != track));
                        old.extend_from_slice(changes);
                        return true;
                    }
                }
            }
            WorkerEvent::Quality { participant, .. } => {
                // Only the newest one counts.
                let is_same = |waiting: &WorkerEvent| matches!(waiting, WorkerEvent::Quality { participant: same, .. } if *same == participant);
                self.waiting.retain(|waiting| !is_same(waiting));
            }
            WorkerEvent::ReadersSlow { .. } => {
                // Only the newest one counts.
                self.waiting.retain(|waiting| !matches!(waiting, WorkerEvent::ReadersSlow { .. }));
            }
            // At most one of each waits per connection.
            WorkerEvent::Connected { .. } | WorkerEvent::Closed { .. } | WorkerEvent::ReaderEnded { .. } => {}
        }
        self.waiting.push_back(event);
        true
    }

    /// Sends waiting events. True when some still wait.
    pub(super) fn retry(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            let bytes = match &event {
                WorkerEvent::Data { data, .. } => Some(data.len()),
                _ => None,
            };
            match self.events.try_send(event) {
                Ok(()) => {
                    self.waiting_data -= usize::from(bytes.is_some());
                    self.waiting_bytes -= bytes.unwrap_or(0);
                }
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return true;
                }
                Err(TrySendError::Closed(_)) => {
                    self.waiting.clear();
                    (self.waiting_data, self.waiting_bytes) = (0, 0);
                    return false;
                }
            }
        }
        false
    }

    /// Are the room's data messages to be read slowly from those who send them?
    pub(super) fn is_data_slow(&self) -> bool {
        self.readers_slow || self.others_slow
    }

    /// Whether events wait.
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

    fn data(number: u8) -> WorkerEvent {
        let data = Bytes::from(vec![number]);
        WorkerEvent::Data { participant: ParticipantKey(1), channel: DataChannel::Reliable, data }
    }

    #[test]
    fn slow_room_misses_speakers_but_no_closed_connection() {
        let (events, mut received) = mpsc::channel(1);
        let mut room = RoomEvents::new(events);
        assert!(room.send(data(1)));
        assert!(!room.send(WorkerEvent::Speakers { changed: Vec::new() }));
        let closed = WorkerEvent::Closed {
            participant: ParticipantKey(1),
            side: Side::Publisher,
            reason: "gone".into(),
        };
        assert!(room.send(closed));
        assert!(room.retry(), "still full");
        assert!(matches!(received.try_recv(), Ok(WorkerEvent::Data { .. })));
        assert!(!room.retry());
        assert!(matches!(received.try_recv(), Ok(WorkerEvent::Closed { .. })));
    }

    #[test]
    fn waiting_data_is_bounded_and_keeps_its_order() {
        let (events, mut received) = mpsc::channel(1);
        let mut room = RoomEvents::new(events);
        let kept =
            (0..=255).cycle().take(2 * MAX_WAITING_DATA).filter(|number| room.send(data(*number))).count();
        assert_eq!(kept, 1 + MAX_WAITING_DATA);
        let mut expected = (0..=255_u8).cycle();
        let mut count = 0;
        while let Ok(WorkerEvent::Data { data, .. }) = received.try_recv() {
            assert_eq!(data.first().copied(), expected.next());
            count += 1;
            room.retry();
        }
        assert_eq!(count, kept);
    }

    #[test]
    fn only_the_newest_wanted_layers_of_a_track_wait() {
        let (events, mut received) = mpsc::channel(1);
        let mut room = RoomEvents::new(events);
        room.send(data(0));
        for layer in 0..3 {
            let layers = LayerSet::NONE.with(Layer(layer));
            assert!(room.send(WorkerEvent::Wanted { track: TrackKey(5), layers }));
        }
        received.try_recv().unwrap();
        assert!(!room.retry());
        assert!(matches!(received.try_recv(), Ok(WorkerEvent::Wanted { layers: LayerSet(4), .. })));
    }

    #[test]
    fn stream_states_of_a_participant_wait_as_one_event() {
        let (events, mut received) = mpsc::channel(1);
        let mut room = RoomEvents::new(events);
        room.send(data(0));
        let participant = ParticipantKey(1);
        for changes in [vec![(TrackKey(5), true), (TrackKey(6), true)], vec![(TrackKey(5), false)]] {
            assert!(room.send(WorkerEvent::StreamState { participant, changes }));
        }
        received.try_recv().unwrap();
        assert!(!room.retry());
        let Ok(WorkerEvent::StreamState { changes, .. }) = received.try_recv() else { panic!("no event") };
        assert_eq!(changes, [(TrackKey(6), true), (TrackKey(5), false)]);
        assert!(received.try_recv().is_err());
    }
}
