//! What a room tells a worker to do.

use bytes::Bytes;
use systir_rtp::packet::Layer;
use systir_transport::{IceCredentials, Remote};

use crate::{Downtrack, ParticipantKey, ReceiveSection, RoomKey, TrackKey, TrackSource, TrackSpec};

/// Which of a participant's two peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client offers and sends media.
    Publisher,
    /// The server offers and sends media.
    Subscriber,
}

/// LiveKit's two data channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataChannel {
    /// `_reliable`: ordered.
    Reliable,
    /// `_lossy`: unordered, no retransmission.
    Lossy,
}

/// A command to a worker.
#[derive(Debug)]
pub enum Command {
    /// Ends all of the room's participants and tracks.
    CloseRoom {
        /// The room.
        room: RoomKey,
    },
    /// A participant arrives: both transports are made and wait for the client's description.
    Join {
        /// The room.
        room: RoomKey,
        /// The participant.
        participant: ParticipantKey,
        /// Our credentials of the publisher's connection.
        publisher: IceCredentials,
        /// Our credentials of the subscriber's connection.
        subscriber: IceCredentials,
    },
    /// The client's description arrived; packets that came earlier are handled now.
    Remote {
        /// The participant.
        participant: ParticipantKey,
        /// Which connection.
        side: Side,
        /// What it said.
        remote: Remote,
    },
    /// All m-lines that the client sends on; replaces what was said before.
    Receive {
        /// The participant.
        participant: ParticipantKey,
        /// The sections.
        sections: Vec<ReceiveSection>,
    },
    /// A track exists in the room.
    AddTrack {
        /// The room.
        room: RoomKey,
        /// The track.
        track: TrackKey,
        /// What it is.
        spec: TrackSpec,
        /// Where its packets come from.
        source: TrackSource,
        /// Who publishes it, `PA_...`, here or on another node: receivers play in step what comes of
        /// one publisher (CNAME, RFC 7022).
        publisher: Box<str>,
    },
    /// The track ended; so do its downtracks and feeds.
    RemoveTrack {
        /// The track.
        track: TrackKey,
    },
    /// A muted track forwards nothing.
    Mute {
        /// The track.
        track: TrackKey,
        /// Muted?
        muted: bool,
    },
    /// A participant receives a track from now on.
    Subscribe {
        /// The participant.
        participant: ParticipantKey,
        /// How.
        downtrack: Downtrack,
    },
    /// And no longer.
    Unsubscribe {
        /// The participant.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
    },
    /// The highest layer that a subscriber wants (LiveKit's `track_setting`); none is paused.
    Target {
        /// The participant.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
        /// Highest layer wanted.
        layer: Option<Layer>,
    },
    /// Another node wants a layer of a track that is published here.
    Feed {
        /// The track.
        track: TrackKey,
        /// Link id.
        peer: u32,
        /// The layer.
        layer: Layer,
        /// Flow identifier that the wanting side chose; none ends the feed.
        flow: Option<u32>,
    },
    /// A downstream needs a key frame of a layer.
    KeyFrame {
        /// The track.
        track: TrackKey,
        /// The layer.
        layer: Layer,
    },
    /// Sends a message on a data channel.
    SendData {
        /// To whom.
        participant: ParticipantKey,
        /// Which channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        data: Bytes,
    },
    /// The participant left; both transports close.
    Leave {
        /// The participant.
        participant: ParticipantKey,
    },
}
