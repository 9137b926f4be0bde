//! Events from a worker to a room.

use bytes::Bytes;
use systir_rtp::packet::{Codec, Layer, LayerSet};

use crate::{DataChannel, ParticipantKey, Side, TrackKey};

/// One speaker, on LiveKit's scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// The audio track.
    pub track: TrackKey,
    /// 0.0 (silent) to 1.0.
    pub level: f32,
    /// Whether the participant counts as speaking.
    pub active: bool,
}

/// How well media passes between a participant and its media node, on LiveKit's scale. That it does not pass at all shows
/// in [`WorkerEvent::Closed`]: a wrong `LOST` makes clients join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MediaQuality {
    /// Much is lost.
    Poor,
    /// Some is lost.
    Good,
    /// Nothing that is noticed.
    Excellent,
}

/// An event of a worker.
#[derive(Debug)]
pub enum WorkerEvent {
    /// ICE and DTLS of one connection are up.
    Connected {
        /// The participant.
        participant: ParticipantKey,
        /// Which connection.
        side: Side,
    },
    /// A connection failed or the client closed it.
    Closed {
        /// The participant.
        participant: ParticipantKey,
        /// Which connection.
        side: Side,
        /// The reason, for the log.
        reason: String,
    },
    /// A data message from a client.
    Data {
        /// The sender.
        participant: ParticipantKey,
        /// The channel.
        channel: DataChannel,
        /// An encoded `DataPacket`, not validated yet.
        data: Bytes,
    },
    /// Readers of reliable data on this worker have become slow, or have caught up. While they are slow, data is read
    /// slowly from those who send it, here and on other nodes.
    ReadersSlow {
        /// Is one slow?
        slow: bool,
    },
    /// A participant did not take its reliable data. It gets none any more, and has to join again.
    ReaderEnded {
        /// The participant.
        participant: ParticipantKey,
    },
    /// The packets of a published track have another codec than the track: the client did not announce
    /// which one it sends, or changed it.
    Codec {
        /// The publisher.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
        /// The codec of its packets.
        codec: Codec,
    },
    /// The active speakers changed. Those who stopped speaking are included with `active: false`.
    Speakers {
        /// The speakers that changed.
        changed: Vec<Speaker>,
    },
    /// The layers that are wanted of a track changed: those that subscribers here ask for, whatever their bandwidth
    /// allows, those that they receive, and those that go to other nodes. For all tracks from links, and for video
    /// that is published here. Initially none.
    Wanted {
        /// The track.
        track: TrackKey,
        /// The layers.
        layers: LayerSet,
    },
    /// The quality of a participant's media changed. Initially it is excellent.
    Quality {
        /// The participant.
        participant: ParticipantKey,
        /// Of what it sends and what it receives, the worse one.
        quality: MediaQuality,
        /// Mean opinion score (ITU-T G.107), 1.0 to 4.5.
        score: f32,
    },
    /// Tracks of a subscriber were paused for lack of bandwidth, or go on.
    StreamState {
        /// The subscriber.
        participant: ParticipantKey,
        /// The tracks that changed: are they paused?
        changes: Vec<(TrackKey, bool)>,
    },
    /// A key frame is needed of a track that arrives over a link.
    KeyFrameNeeded {
        /// The track.
        track: TrackKey,
        /// The layer.
        layer: Layer,
    },
}
