//! The configuration of a session.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use livekit_protocol as proto;
use systir_rtp::packet::Codec;

use super::event::RemoteParticipant;
use crate::sdp::IceCandidate;
use crate::token::Grants;
use systir_media_control::KeyAllocator;
use systir_media_control::{IceCredentials, ParticipantKey, RoomNumber};

/// What clients learn about the media node.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// The LiveKit server version whose behaviour this node follows. Clients refuse an empty one and
    /// enable features by it.
    pub version: String,
    /// The media node's region.
    pub region: String,
    /// The media node's name.
    pub node_id: String,
}

impl ServerFacts {
    /// RPC needs 1.8.0, VP9 and AV1 simulcast by rid need more than 1.13.6.
    pub const VERSION: &'static str = "1.13.7";

    /// The protocol version. From 17 on it would announce features that the server lacks (18: data
    /// channels negotiated out of band).
    pub const PROTOCOL: i32 = 16;
}

/// The worker's end of both connections of a client; they are on the same worker.
#[derive(Debug, Clone)]
pub struct MediaDescription {
    /// ICE candidates of the worker, best first.
    pub candidates: Vec<IceCandidate>,
    /// SHA-256 fingerprint of its DTLS certificate.
    pub fingerprint: [u8; 32],
    /// ICE credentials of the publisher connection.
    pub publisher: IceCredentials,
    /// ICE credentials of the subscriber connection.
    pub subscriber: IceCredentials,
}

/// Limits of one participant.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Published tracks, including announced ones.
    pub tracks: usize,
    /// Subscribed tracks.
    pub subscriptions: usize,
    /// Metadata, bytes.
    pub metadata: usize,
    /// Attributes, bytes of all names and values.
    pub attributes: usize,
    /// Name, bytes.
    pub name: usize,
    /// Time for the client to answer an offer.
    pub answer: Duration,
    /// Time until the subscriber connection is up.
    pub connect: Duration,
    /// Time until an announced track is in an offer.
    pub announced: Duration,
    /// How long changes are collected into one offer.
    pub gather: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tracks: 32,
            subscriptions: 500,
            metadata: 64 * 1024,
            attributes: 64 * 1024,
            name: 256,
            answer: Duration::from_secs(15),
            connect: Duration::from_secs(30),
            announced: Duration::from_secs(60),
            gather: Duration::from_millis(50),
        }
    }
}

/// The configuration of a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The worker's key of the participant.
    pub participant: ParticipantKey,
    /// The participant's sid, `PA_...`.
    pub sid: String,
    /// The worker's key of the room.
    pub room_key: RoomNumber,
    /// The room, for clients.
    pub room: proto::Room,
    /// What the token allows.
    pub grants: Grants,
    /// The client's description of itself.
    pub client: proto::ClientInfo,
    /// The media node.
    pub server: ServerFacts,
    /// The media node's end of the connections.
    pub media: MediaDescription,
    /// STUN and TURN servers for the client.
    pub ice_servers: Vec<proto::IceServer>,
    /// Subscribe to all tracks without a request.
    pub auto_subscribe: bool,
    /// Codecs that may be published, preferred first.
    pub codecs: Vec<Codec>,
    /// Must published tracks be end-to-end encrypted?
    pub encrypted_only: bool,
    /// May clients send audio as RED? Only when subscribers without RED are served, too.
    pub red: bool,
    /// Attributes that the server sets: `systir.node`, `systir.region`, `systir.country`.
    pub attributes: Vec<(String, String)>,
    /// The last known version of the participant's state; the session continues above it.
    pub version: u32,
    /// The other participants in the room, with their tracks.
    pub others: Vec<Arc<RemoteParticipant>>,
    /// Limits.
    pub limits: Limits,
    /// Mints the worker's keys of tracks.
    pub keys: Arc<KeyAllocator>,
    /// Randomness for sids and SSRCs.
    pub seed: [u8; 32],
    /// The wall-clock time at `now`.
    pub wall: SystemTime,
    /// The present instant.
    pub now: Instant,
}

/// Converts instants to wall-clock time that never goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock {
    wall: SystemTime,
    at: Instant,
}

impl WallClock {
    pub(super) fn new(wall: SystemTime, at: Instant) -> Self {
        Self { wall, at }
    }

    pub(super) fn micros(&self, now: Instant) -> i64 {
        let wall = self.wall + now.saturating_duration_since(self.at);
        let micros = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    pub(super) fn millis(&self, now: Instant) -> i64 {
        self.micros(now) / 1000
    }
}
