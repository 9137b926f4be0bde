//! Events that a session receives from the room and the worker, and its outputs.

use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol as proto;
use systir_rtp::packet::{Codec, LayerSet};

use crate::token::Grants;
use systir_media_control::{DataChannel, Side, TrackKey, TrackSpec, WorkerCommand};

/// A track of another participant.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteTrack {
    /// `TR_...`; its `TrackInfo` is in the participant's `info`.
    pub sid: Arc<str>,
    /// The key of the track at the subscriber's worker, which must have the track once
    /// [`Output::Subscribed`] is handled.
    pub key: TrackKey,
    /// Its codec.
    pub codec: Codec,
}

/// Another participant of the room. The room makes one at each change, and all sessions share it.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteParticipant {
    /// Its state, as clients receive it.
    pub info: proto::ParticipantInfo,
    /// Its tracks that can be subscribed to. Clients see a track that is only in `info`, but cannot subscribe
    /// to it yet.
    pub tracks: Vec<RemoteTrack>,
}

/// Why a participant leaves.
pub type LeaveReason = proto::DisconnectReason;

/// An event of the room.
#[derive(Debug, Clone)]
pub enum RoomEvent {
    /// Other participants joined or changed. The client receives one message for each event.
    Participants(Vec<Arc<RemoteParticipant>>),
    /// A participant left.
    Left {
        /// `PA_...`
        sid: String,
        /// Why.
        reason: LeaveReason,
    },
    /// The room's metadata or counts changed.
    Room(proto::Room),
    /// Changes of speakers, by participant; those who stopped speaking have `active: false`.
    Speakers(Vec<proto::SpeakerInfo>),
    /// The connection quality of a participant of this node changed. Initially it is excellent.
    Quality(proto::ConnectionQualityInfo),
    /// A data message for this participant, already checked by [`route_data`](crate::route_data).
    Data {
        /// Its data channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        packet: Bytes,
    },
    /// A track of this participant has a subscriber. The client is notified of the first one.
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
    /// The server API changes name, metadata or attributes; `None` leaves a value unchanged.
    Metadata {
        /// New name.
        name: Option<String>,
        /// New metadata.
        metadata: Option<String>,
        /// Attributes to set; an empty value removes one.
        attributes: Vec<(String, String)>,
    },
    /// The server API changes permissions. Identity, room and institution stay.
    Permission(Box<Grants>),
    /// Must published tracks be end-to-end encrypted from now on? Tracks that are not are unpublished.
    EncryptedOnly(bool),
    /// A new token for the client.
    Token(String),
    /// The participant is removed: its identity joined again, the room closed, or the server API removed it.
    Remove(LeaveReason),
    /// The participant may no longer be in the room. The client is told why, and does not join again by itself.
    Dismiss {
        /// A sentence for the participant.
        why: String,
    },
    /// The client must reconnect at once, for example because this node is drained.
    Reconnect(LeaveReason),
}

/// An event of the worker about the participant.
#[derive(Debug, Clone)]
pub enum MediaEvent {
    /// A connection is up.
    Connected(Side),
    /// A connection failed, or the client closed it.
    Closed(Side),
    /// A data message from the client.
    Data {
        /// Its data channel.
        channel: DataChannel,
        /// An encoded `DataPacket`, not yet checked.
        packet: Bytes,
    },
    /// Packets of a published track have another codec than was assumed. It is assumed when the client does
    /// not name the codec that it publishes.
    Codec {
        /// The track.
        track: TrackKey,
        /// The codec of the packets.
        codec: Codec,
    },
    /// The layers that anybody wants of a published track changed; initially none.
    Wanted {
        /// The track.
        track: TrackKey,
        /// The layers.
        layers: LayerSet,
    },
    /// Subscribed tracks were paused for lack of bandwidth, or go on.
    StreamState {
        /// The tracks that changed: are they paused?
        changes: Vec<(TrackKey, bool)>,
    },
}

/// An output of a session, for the caller to carry out.
#[derive(Debug)]
pub enum Output {
    /// A message to the client.
    Signal(Box<proto::SignalResponse>),
    /// A command to the worker; the order of commands matters.
    Media(WorkerCommand),
    /// The participant's own state changed and must be replicated. The last one has the state DISCONNECTED;
    /// only [`Output::Left`] follows it.
    Own(Box<proto::ParticipantInfo>),
    /// A track of this participant was published; an [`Output::Own`] with the track follows.
    Published {
        /// `TR_...`
        sid: String,
        /// The worker's key of the track.
        key: TrackKey,
        /// Kind, codec and layers.
        spec: TrackSpec,
    },
    /// A track of this participant was unpublished; an [`Output::Own`] without the track follows.
    Unpublished {
        /// `TR_...`
        sid: String,
        /// The worker's key of the track.
        key: TrackKey,
    },
    /// The participant subscribed to a track: the worker must have the track from now on.
    Subscribed {
        /// `TR_...`
        track_sid: String,
        /// The worker's key of the track.
        key: TrackKey,
    },
    /// The participant no longer subscribes to a track.
    Unsubscribed {
        /// `TR_...`
        track_sid: String,
        /// The worker's key of the track.
        key: TrackKey,
    },
    /// A data message of the participant, with its sender set.
    Data {
        /// Its data channel.
        channel: DataChannel,
        /// An encoded `DataPacket`.
        packet: Bytes,
        /// Identities of the receivers; empty for all other participants.
        destinations: Vec<String>,
    },
    /// The session ended.
    Left {
        /// Why.
        reason: LeaveReason,
    },
}
