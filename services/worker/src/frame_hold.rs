//! Holds the packets of a video frame back for a moment, so that each subscriber gets them in one message: a publisher's
//! packets arrive one by one, and the first wakes the worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use systir_forwarding::TrackId;
use systir_rtp::packet::Layer;

/// How long the first packet of a frame waits for the last one.
const MAX_HOLD: Duration = Duration::from_millis(1);
/// So many packets leave at once: more make a message little cheaper.
const MAX_PACKETS: u32 = 8;

/// A frame of which packets are held back.
#[derive(Debug)]
struct OpenFrame {
    track: TrackId,
    layer: Layer,
    until: Instant,
    packets: u32,
    /// Connections for which packets of it are queued and nothing else was.
    connections: Vec<usize>,
}

/// The frames of which packets are held back.
#[derive(Debug, Default)]
pub(super) struct FrameHold {
    /// The oldest first.
    open: VecDeque<OpenFrame>,
    /// The packet that arrives now is of this track and layer, and not the last one of its frame.
    arriving: Option<(TrackId, Layer, Instant)>,
    /// Lists for reuse.
    spare: Vec<Vec<usize>>,
}

impl FrameHold {
    /// A packet arrives that is not the last one of its frame: what is queued because of it is held back.
    pub(super) fn begin(&mut self, now: Instant, track: TrackId, layer: Layer) {
        self.arriving = Some((track, layer, now));
    }

    /// Packets are queued for a connection. True: they are held back.
    pub(super) fn hold(&mut self, connection: usize) -> bool {
        let Some((track, layer, now)) = self.arriving else { return false };
        let known = self.open.iter().position(|frame| (frame.track, frame.layer) == (track, layer));
        let index = known.unwrap_or_else(|| {
            let connections = self.spare.pop().unwrap_or_default();
            self.open.push_back(OpenFrame { track, layer, until: now + MAX_HOLD, packets: 0, connections });
            self.open.len() - 1
        });
        if let Some(frame) = self.open.get_mut(index) {
            frame.connections.push(connection);
        }
        true
    }

    /// The packet has been queued. Returns the connections that are held back no longer, because it was the last one of
    /// its frame or enough have gathered. [`FrameHold::recycle`] takes the list back.
    pub(super) fn end(&mut self, track: TrackId, layer: Layer, is_last: bool) -> Option<Vec<usize>> {
        self.arriving = None;
        let index = self.open.iter().position(|frame| (frame.track, frame.layer) == (track, layer))?;
        let frame = self.open.get_mut(index)?;
        frame.packets += 1;
        if is_last || frame.packets >= MAX_PACKETS {
            return self.open.remove(index).map(|frame| frame.connections);
        }
        None
    }

    /// The connections of a frame that has been held back for long enough.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<usize>> {
        self.open.pop_front_if(|frame| frame.until <= now).map(|frame| frame.connections)
    }

    /// Takes back an empty list.
    pub(super) fn recycle(&mut self, connections: Vec<usize>) {
        self.spare.push(connections);
    }

    /// When [`FrameHold::take_due`] has something to return.
    pub(super) fn next(&self) -> Option<Instant> {
        self.open.front().map(|frame| frame.until)
    }
}

#[cfg(test)]
mod tests {
    use systir_forwarding::Core;
    use systir_rtp::packet::{Codec, Kind, LayerSet};

    use super::*;

    fn track() -> TrackId {
        Core::new(1).add_track(0, Kind::Video, Codec::Vp8, LayerSet(0b111))
    }

    #[test]
    fn a_frame_is_held_back_until_its_last_packet() {
        let (now, track, mut hold) = (Instant::now(), track(), FrameHold::default());
        for connection in [7, 8] {
            hold.begin(now, track, Layer(0));
            assert!(hold.hold(connection));
            assert_eq!(hold.end(track, Layer(0), false), None);
        }
        assert_eq!(hold.end(track, Layer(1), true), None, "another layer");
        assert!(!hold.hold(9), "the last packet of a frame, or other media");
        assert_eq!(hold.end(track, Layer(0), true), Some(vec![7, 8]));
        assert_eq!((hold.next(), hold.take_due(now + MAX_HOLD)), (None, None));
    }

    #[test]
    fn a_frame_whose_last_packet_is_late_is_held_back_for_a_millisecond() {
        let (now, track, mut hold) = (Instant::now(), track(), FrameHold::default());
        hold.begin(now, track, Layer(0));
        hold.hold(7);
        hold.end(track, Layer(0), false);
        assert_eq!(hold.next(), Some(now + MAX_HOLD));
        assert_eq!(hold.take_due(now), None);
        assert_eq!(hold.take_due(now + MAX_HOLD), Some(vec![7]));
        assert_eq!(hold.next(), None);
    }

    #[test]
    fn a_large_frame_leaves_in_parts() {
        let (now, track, mut hold) = (Instant::now(), track(), FrameHold::default());
        let mut parts = Vec::new();
        for packet in 1..=20 {
            hold.begin(now, track, Layer(0));
            if packet % MAX_PACKETS == 1 {
                hold.hold(7);
            }
            if hold.end(track, Layer(0), packet == 20).is_some() {
                parts.push(packet);
            }
        }
        assert_eq!(parts, [8, 16, 20]);
    }
}
