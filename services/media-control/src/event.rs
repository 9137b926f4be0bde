//! What a worker reports to a room.

use bytes::Bytes;
use systir_rtp::packet::{Codec, Layer, LayerSet};

use crate::{DataChannel, ParticipantKey, Side, TrackKey};

/// One speaker, LiveKit's scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// The audio track that is heard.
    pub track: TrackKey,
    /// 0.0 (silent) to 1.0.
    pub level: f32,
    /// Counts as speaking?
    pub active: bool,
}

/// What a worker tells a room.
#[derive(Debug)]
pub enum Event {
    /// ICE and DTLS are up on one connection.
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
        /// Why, for the log.
        reason: String,
    },
    /// A data message from a client.
    Data {
        /// From whom.
        participant: ParticipantKey,
        /// On which channel.
        channel: DataChannel,
        /// An encoded `DataPacket`, not yet checked.
        data: Bytes,
    },
    /// Packets of a published track have another codec than was assumed: the client did not say which
    /// one it would send, or changed it.
    Codec {
        /// The publisher.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
        /// What its packets are.
        codec: Codec,
    },
    /// Who speaks, when it changed; those who stopped are in it with `active: false`.
    Speakers {
        /// The change.
        changed: Vec<Speaker>,
    },
    /// The union of layers that subscribers here want of a track that arrives over a link.
    Wanted {
        /// The track.
        track: TrackKey,
        /// The layers.
        layers: LayerSet,
    },
    /// A key frame is needed of a track that arrives over a link.
    KeyFrameNeeded {
        /// The track.
        track: TrackKey,
        /// The layer.
        layer: Layer,
    },
}
