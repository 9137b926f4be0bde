//! What a worker is told and what it tells. Commands and events are control: packets never take
//! this way.

use bytes::Bytes;
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// A room on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u32);

/// A participant whose media this node carries; unique while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantKey(pub u64);

/// A track of a room on this node, published here or arriving over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackKey(pub u64);

/// Which of a participant's two peer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client offers and sends media.
    Publisher,
    /// The server offers and sends media.
    Subscriber,
}

/// ICE credentials (RFC 8445 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment; ours carries version, node and worker.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// What a client's description says of its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The client's ICE credentials.
    pub ice: IceCredentials,
    /// SHA-256 of the client's DTLS certificate (RFC 8122).
    pub fingerprint: [u8; 32],
    /// Does the client send the ClientHello (`a=setup:active`)?
    pub client_is_active: bool,
}

/// Header extension ids that a client uses when it sends (RFC 8285), 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveExtensions {
    /// RFC 8843 mid.
    pub mid: Option<u8>,
    /// RFC 8852 rid.
    pub rid: Option<u8>,
    /// RFC 8852 repaired rid.
    pub repaired_rid: Option<u8>,
    /// Transport-wide congestion control sequence number.
    pub transport_cc: Option<u8>,
    /// RFC 6464.
    pub audio_level: Option<u8>,
    /// abs-capture-time.
    pub capture_time: Option<u8>,
    /// 3GPP video orientation.
    pub orientation: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<u8>,
}

/// One payload type of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveCodec {
    /// The client's payload type.
    pub pt: u8,
    /// What it means.
    pub codec: Codec,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_pt: Option<u8>,
    /// May we ask for packets again (`a=rtcp-fb nack`)?
    pub nack: bool,
}

/// One stream that a section announced by SSRC rather than by rid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveSsrc {
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrc: Option<u32>,
    /// Which layer (order in `a=ssrc-group:SIM`, else 0).
    pub layer: Layer,
}

/// One m-line that a client sends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSection {
    /// `a=mid`.
    pub mid: String,
    /// The published track it carries; packets of a section without a track are dropped.
    pub track: Option<TrackKey>,
    /// Payload types, canonical meaning.
    pub codecs: Vec<ReceiveCodec>,
    /// Extension ids.
    pub extensions: ReceiveExtensions,
    /// `a=simulcast` send rids, with the layer that each means.
    pub rids: Vec<(String, Layer)>,
    /// Streams announced by SSRC.
    pub ssrcs: Vec<ReceiveSsrc>,
}

/// What a track is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackSpec {
    /// Sound or pictures.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// Layers it may have.
    pub layers: LayerSet,
}

/// Where a track's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackSource {
    /// A participant on this node.
    Participant(ParticipantKey),
    /// A link: which one, and the flow of each layer.
    Link {
        /// Link id.
        peer: u32,
        /// Flow identifier by layer.
        flows: [u32; Layer::MAX],
    },
}

/// How a subscriber receives a track: what the server offered for that m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downtrack {
    /// The track.
    pub track: TrackKey,
    /// `a=mid` of the m-line.
    pub mid: String,
    /// SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions; none for sound.
    pub rtx_ssrc: Option<u32>,
    /// Payload type.
    pub pt: u8,
    /// Payload type of retransmissions.
    pub rtx_pt: Option<u8>,
}

/// LiveKit's two data channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataChannel {
    /// `_reliable`: ordered.
    Reliable,
    /// `_lossy`: unordered, no retransmission.
    Lossy,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// A room whose participants this worker may carry; its events go to `events`.
    OpenRoom {
        /// The room.
        room: RoomKey,
        /// Where its events go; a full channel drops speakers and statistics first.
        events: tokio::sync::mpsc::Sender<Event>,
    },
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
    /// Another node (or worker) wants a layer of a track that is published here.
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
