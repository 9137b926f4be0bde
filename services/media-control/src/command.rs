//! Commands from a room to a worker.

use bytes::Bytes;
use systir_rtp::packet::Layer;
use systir_transport::{IceCredentials, Remote};

use crate::{
    Downtrack, ParticipantKey, ReceiveSection, RoomNumber, TrackDemand, TrackKey, TrackSource, TrackSpec,
};

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
pub enum WorkerCommand {
    /// Removes all participants and tracks of the room.
    CloseRoom {
        /// The room.
        room: RoomNumber,
    },
    /// Adds a participant. Both transports are created and wait for the client's description.
    Join {
        /// The room.
        room: RoomNumber,
        /// The participant.
        participant: ParticipantKey,
        /// Our ICE credentials for the publisher's connection.
        publisher: IceCredentials,
        /// Our ICE credentials for the subscriber's connection.
        subscriber: IceCredentials,
    },
    /// Sets the parameters of the client's description; packets that arrived earlier are handled now.
    Remote {
        /// The participant.
        participant: ParticipantKey,
        /// Which connection.
        side: Side,
        /// The parameters.
        remote: Remote,
    },
    /// Sets all m-lines that the client sends on; replaces the earlier ones.
    Receive {
        /// The participant.
        participant: ParticipantKey,
        /// The sections.
        sections: Vec<ReceiveSection>,
    },
    /// Adds a track to the room.
    AddTrack {
        /// The room.
        room: RoomNumber,
        /// The track.
        track: TrackKey,
        /// Its media parameters.
        spec: TrackSpec,
        /// Where its packets come from.
        source: TrackSource,
        /// Id of the publisher, `PA_...`, on this or another node. It is the CNAME (RFC 7022): receivers
        /// synchronise streams with the same CNAME.
        publisher: Box<str>,
    },
    /// Removes a track, its downtracks and its feeds.
    RemoveTrack {
        /// The track.
        track: TrackKey,
    },
    /// Mutes or unmutes a track. A muted track is not forwarded.
    Mute {
        /// The track.
        track: TrackKey,
        /// Whether it is muted.
        muted: bool,
    },
    /// Starts forwarding a track to a participant.
    Subscribe {
        /// The participant.
        participant: ParticipantKey,
        /// How the participant receives it.
        downtrack: Downtrack,
    },
    /// Stops forwarding a track to a participant.
    Unsubscribe {
        /// The participant.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
    },
    /// Sets what a subscriber asks for of a track (LiveKit's `track_setting`).
    Demand {
        /// The participant.
        participant: ParticipantKey,
        /// The track.
        track: TrackKey,
        /// What it asks for.
        demand: TrackDemand,
    },
    /// Starts or stops forwarding a layer of a track over a link.
    Feed {
        /// The track.
        track: TrackKey,
        /// Link id.
        peer: u32,
        /// The layer.
        layer: Layer,
        /// Flow id, chosen by the receiving node; none stops the feed.
        flow: Option<u32>,
    },
    /// Requests a key frame of a layer for a node that receives it.
    KeyFrame {
        /// The track.
        track: TrackKey,
        /// The layer.
        layer: Layer,
    },
    /// Sends a message on a data channel.
    SendData {
        /// The receiver.
        participant: ParticipantKey,
        /// The channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        data: Bytes,
    },
    /// Reads data slowly from the room's participants, or at full speed again: readers on other nodes are slow.
    SlowData {
        /// The room.
        room: RoomNumber,
        /// Are they slow?
        slow: bool,
    },
    /// Removes a participant and closes both transports.
    Leave {
        /// The participant.
        participant: ParticipantKey,
    },
}
