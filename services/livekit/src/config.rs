//! What a session is told when it begins.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use livekit_protocol as proto;
use systir_rtp::packet::Codec;

use super::event::RemoteParticipant;
use crate::sdp::Candidate;
use crate::token::Grants;
use systir_media_control::KeyMint;
use systir_media_control::{IceCredentials, ParticipantKey, RoomKey};

/// The media node as clients see it.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// The LiveKit version that we speak like. Clients refuse an empty one and switch features on
    /// by it.
    pub version: String,
    /// Where the media node is.
    pub region: String,
    /// The media node's name.
    pub node_id: String,
}

impl ServerFacts {
    /// RPC needs 1.8.0, VP9 and AV1 simulcast by rid need more than 1.13.6.
    pub const VERSION: &'static str = "1.13.7";

    /// 17 and more would promise things that the server lacks (18 is data channels negotiated
    /// out of band).
    pub const PROTOCOL: i32 = 16;
}

/// Where and how the client's media is received and sent. Both connections are on one worker.
#[derive(Debug, Clone)]
pub struct MediaDescription {
    /// Where the worker is reached, best first.
    pub candidates: Vec<Candidate>,
    /// SHA-256 of its DTLS certificate.
    pub fingerprint: [u8; 32],
    /// Credentials of the publisher's connection.
    pub publisher: IceCredentials,
    /// Credentials of the subscriber's connection.
    pub subscriber: IceCredentials,
}

/// What one participant may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Published tracks, those in waiting included.
    pub tracks: usize,
    /// Subscribed tracks.
    pub subscriptions: usize,
    /// Metadata, bytes.
    pub metadata: usize,
    /// Attributes, bytes of all names and values.
    pub attributes: usize,
    /// Name, bytes.
    pub name: usize,
    /// The client answers an offer within this time.
    pub answer: Duration,
    /// The subscriber's connection is up within this time.
    pub connect: Duration,
    /// A track that was announced is offered within this time.
    pub announced: Duration,
    /// How long changes are gathered before they are offered.
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

/// All that a session needs to know.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The participant, to the worker.
    pub participant: ParticipantKey,
    /// The participant, to clients: `PA_...`.
    pub sid: String,
    /// The room, to the worker.
    pub room_key: RoomKey,
    /// The room, to clients.
    pub room: proto::Room,
    /// What the token allows.
    pub grants: Grants,
    /// What the client says of itself.
    pub client: proto::ClientInfo,
    /// The media node.
    pub server: ServerFacts,
    /// The media node's transport.
    pub media: MediaDescription,
    /// STUN and TURN servers to name; nothing by default.
    pub ice_servers: Vec<proto::IceServer>,
    /// Subscribe to all tracks without being asked.
    pub auto_subscribe: bool,
    /// Codecs that may be published, preferred first.
    pub codecs: Vec<Codec>,
    /// May sound be sent as RED? Only when subscribers without it are served too.
    pub red: bool,
    /// Attributes that the server adds: `systir.node`, `systir.region`, `systir.country`.
    pub attributes: Vec<(String, String)>,
    /// Starts the version of the participant's state: a takeover under the same sid begins above
    /// what was seen.
    pub version: u32,
    /// Who is in the room already, with their tracks.
    pub others: Vec<RemoteParticipant>,
    /// Limits.
    pub limits: Limits,
    /// Mints keys of tracks.
    pub keys: Arc<KeyMint>,
    /// Randomness for sids and SSRCs.
    pub seed: [u8; 32],
    /// The wall clock at `now`.
    pub wall: SystemTime,
    /// The same instant.
    pub now: Instant,
}

/// Turns instants into wall-clock time; it never goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    wall: SystemTime,
    at: Instant,
}

impl Clock {
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
