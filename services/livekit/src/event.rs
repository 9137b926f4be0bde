//! What a session hears from the room and the worker, and what it says to them.

use bytes::Bytes;
use livekit_protocol as proto;
use systir_rtp::packet::Codec;

use crate::token::Grants;
use systir_media_control::{Command, DataChannel, Side, TrackKey, TrackSpec};

/// A track of somebody else.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteTrack {
    /// `TR_...`; its `TrackInfo` is in the participant's.
    pub sid: String,
    /// The track, to the worker of the subscriber. The worker must know it by the time that
    /// [`Output::Subscribed`] was handled.
    pub key: TrackKey,
    /// Its codec.
    pub codec: Codec,
}

/// Somebody else in the room.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteParticipant {
    /// What clients are told.
    pub info: proto::ParticipantInfo,
    /// Its tracks. One that is in `info` and not here is shown, and cannot be subscribed to yet.
    pub tracks: Vec<RemoteTrack>,
}

/// Why a participant leaves.
pub type LeaveReason = proto::DisconnectReason;

/// What happens in the room.
#[derive(Debug, Clone)]
pub enum RoomEvent {
    /// Others came or changed. Sent in one message, so gather what you can.
    Participants(Vec<RemoteParticipant>),
    /// Somebody left.
    Left {
        /// `PA_...`
        sid: String,
        /// Why.
        reason: LeaveReason,
    },
    /// The room's metadata or counts changed.
    Room(proto::Room),
    /// Who speaks, by participant; those who stopped are in it with `active: false`.
    Speakers(Vec<proto::SpeakerInfo>),
    /// A data message for this participant, already stamped and routed.
    Data {
        /// Which channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        packet: Bytes,
    },
    /// Somebody receives a track of this participant; the client hears of the first one.
    TrackSubscribed {
        /// `TR_...`
        track_sid: String,
    },
    /// The server API mutes or unmutes a track of this participant.
    Mute {
        /// `TR_...`
        track_sid: String,
        /// Muted?
        muted: bool,
    },
    /// The server API subscribes or unsubscribes.
    Subscription {
        /// `TR_...` of others.
        track_sids: Vec<String>,
        /// Subscribe?
        subscribe: bool,
    },
    /// The server API changes name, metadata or attributes; nothing where none.
    Metadata {
        /// New name.
        name: Option<String>,
        /// New metadata.
        metadata: Option<String>,
        /// Attributes to set; an empty value removes one.
        attributes: Vec<(String, String)>,
    },
    /// The server API changes what the participant may do. Identity, room and the like stay.
    Permission(Box<Grants>),
    /// A fresh token for the client.
    Token(String),
    /// The participant is removed: same identity came again, room closed, kicked out.
    Remove(LeaveReason),
    /// The client is to come back at once: this node is drained, or the place changed.
    Reconnect(LeaveReason),
}

/// What the worker tells of the participant.
#[derive(Debug, Clone)]
pub enum MediaEvent {
    /// A connection is up.
    Connected(Side),
    /// A connection failed, or the client closed it.
    Closed(Side),
    /// A data message of the client.
    Data {
        /// Which channel.
        channel: DataChannel,
        /// An encoded `DataPacket`, not yet checked.
        packet: Bytes,
    },
    /// Packets of a published track have another codec than was assumed (a client that does not
    /// say which one it publishes).
    Codec {
        /// The track.
        track: TrackKey,
        /// What the packets are.
        codec: Codec,
    },
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// A message to the client.
    Signal(Box<proto::SignalResponse>),
    /// A command to the worker. In order with the others.
    Media(Command),
    /// The participant's own state changed: to be replicated to the others. After the last one,
    /// whose state is DISCONNECTED, nothing follows but [`Output::Left`].
    Own(Box<proto::ParticipantInfo>),
    /// A track of this participant is there; an [`Output::Own`] that names it follows.
    Published {
        /// `TR_...`
        sid: String,
        /// To the worker.
        key: TrackKey,
        /// What it is.
        spec: TrackSpec,
    },
    /// A track of this participant ended; an [`Output::Own`] without it follows.
    Unpublished {
        /// `TR_...`
        sid: String,
        /// To the worker.
        key: TrackKey,
    },
    /// The participant is about to receive a track: the worker must know it from now on.
    Subscribed {
        /// `TR_...`
        track_sid: String,
        /// To the worker.
        key: TrackKey,
    },
    /// The participant no longer receives a track.
    Unsubscribed {
        /// `TR_...`
        track_sid: String,
        /// To the worker.
        key: TrackKey,
    },
    /// A data message of the participant, stamped.
    Data {
        /// Which channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        packet: Bytes,
        /// To whom; empty is everybody else.
        destinations: Vec<String>,
    },
    /// The session is over.
    Left {
        /// Why.
        reason: LeaveReason,
    },
}
