//! Everything that the forwarding core reaches: subscribers' connections, publishers to ask,
//! links, rooms. Each packet is written once, in place, and sealed there.

use std::time::Instant;

use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;
use systir_forwarding::batch::Priority;
use systir_forwarding::{Egress, Forward, SenderInfo, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Layer, LayerSet, Packet, SenderReport};
use systir_rtp::rtcp;
use systir_rtp::{ExtensionIds, HeaderFields, write_header, write_link_packet};

use super::connection::{Connection, Role};
use super::links::Links;
use super::outgoing::Outgoing;
use super::rooms::Room;
use super::stats::WorkerCounts;
use super::table::Table;
use systir_media_control::{Downtrack, Event, ParticipantKey, RoomKey, Side, TrackKey, TrackSpec};
use systir_rtp::extension_table;

/// Our SSRC in RTCP where we only receive.
pub(super) const RECEIVER_SSRC: u32 = 1;

/// Our CNAME where we only receive.
const RECEIVER_NAME: &str = "systir";
/// A CNAME nobody looks at: a link's flow id says whose report it is.
const LINK_NAME: &str = "-";

/// Extensions for subscribers have the ids of the one table.
const SUBSCRIBER_IDS: ExtensionIds = ExtensionIds {
    audio_level: Some(extension_table::AUDIO_LEVEL),
    capture_time: Some(extension_table::CAPTURE_TIME),
    orientation: Some(extension_table::ORIENTATION),
    dependency: Some(extension_table::DEPENDENCY),
    playout_delay: Some(extension_table::PLAYOUT_DELAY),
};

/// Where a track's packets come from, and whom to ask.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The publisher's connection.
    Publisher { connection: usize, participant: ParticipantKey },
    /// A link.
    Link { peer: u32, flows: [u32; Layer::MAX] },
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    pub(super) key: TrackKey,
    pub(super) room: RoomKey,
    pub(super) spec: TrackSpec,
    pub(super) source: Source,
    /// Who publishes it, on whatever node.
    pub(super) publisher: Box<str>,
}

/// A downtrack and its numbers.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) id: SubscriptionId,
    pub(super) connection: usize,
    pub(super) track: TrackId,
    pub(super) is: Downtrack,
    /// What shall be sent once the connection is up.
    pub(super) target: Option<Layer>,
    /// The client has reported on the SSRC, it knows what it is without the mid: from this number on
    /// packets go without it. A packet that is sent again must be the same one, so its number alone
    /// says whether the mid is in it.
    pub(super) bare_from: Option<u16>,
    /// The highest number that was sent.
    pub(super) last_seq: Option<u16>,
    /// A sender report went out.
    pub(super) reported: bool,
    pub(super) rtx_seq: u16,
}

/// Numbers that are certainly older than what can be asked for again.
const OLD: u16 = 4096;

impl Sending {
    /// Does the packet of this number go without the mid?
    fn is_bare(&self, seq: u16) -> bool {
        self.bare_from.is_some_and(|from| seq.wrapping_sub(from) < 0x8000)
    }

    fn sent(&mut self, seq: u16) {
        if self.last_seq.is_none_or(|last| seq.wrapping_sub(last) < 0x8000) {
            self.last_seq = Some(seq);
        }
        // The mark moves along, so that it does not seem to be ahead after half a turn.
        if let Some(from) = &mut self.bare_from
            && (2 * OLD..0x8000).contains(&seq.wrapping_sub(*from))
        {
            *from = seq.wrapping_sub(OLD);
        }
    }

    /// The client knows the SSRC.
    pub(super) fn acknowledge(&mut self) {
        if self.bare_from.is_none() {
            self.bare_from = self.last_seq.map(|last| last.wrapping_add(1));
        }
    }
}

/// The world around the core.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) connections: Slab<Connection>,
    pub(super) tracks: Table<Track>,
    pub(super) downtracks: Table<Sending>,
    pub(super) rooms: FxHashMap<RoomKey, Room>,
    pub(super) links: Links,
    pub(super) outgoing: Outgoing,
    pub(super) counts: WorkerCounts,
    /// Connections with media on its way out.
    dirty: Vec<usize>,
}

impl Outside {
    pub(super) fn new(links: Links) -> Self {
        Self {
            connections: Slab::new(),
            tracks: Table::default(),
            downtracks: Table::default(),
            rooms: FxHashMap::default(),
            links,
            outgoing: Outgoing::default(),
            counts: WorkerCounts::default(),
            dirty: Vec::new(),
        }
    }

    pub(super) fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.get(id.index()).filter(|track| track.id == id)
    }

    pub(super) fn sending(&mut self, id: SubscriptionId) -> Option<&mut Sending> {
        self.downtracks.get_mut(id.index()).filter(|sending| sending.id == id)
    }

    /// Tells a room.
    pub(super) fn tell(&mut self, room: RoomKey, event: Event) {
        if let Some(room) = self.rooms.get_mut(&room)
            && !room.tell(event)
        {
            self.counts.events_dropped += 1;
        }
    }

    /// Tells a room that a connection ended, once.
    pub(super) fn tell_closed(&mut self, connection: usize, reason: String) {
        let Some(conn) = self.connections.get_mut(connection) else { return };
        conn.connected = false;
        if std::mem::replace(&mut conn.closed, true) {
            return;
        }
        let (room, participant, side): (_, _, Side) = (conn.room, conn.participant, conn.side());
        self.tell(room, Event::Closed { participant, side, reason });
    }

    /// Writes one packet for a connection and puts it with those that wait for it.
    pub(super) fn write(
        &mut self,
        connection: usize,
        write: impl FnOnce(&mut Connection, &mut Vec<u8>, usize) -> bool,
    ) -> bool {
        let Some(conn) = self.connections.get_mut(connection) else { return false };
        if !conn.connected || conn.route.is_none() {
            return false;
        }
        let mut waiting = match conn.waiting.take() {
            Some(waiting) => waiting,
            None => {
                self.dirty.push(connection);
                self.outgoing.fresh()
            }
        };
        let written = waiting.push_with(|bytes, start| write(conn, bytes, start));
        if waiting.is_full()
            && let Some(route) = conn.route
        {
            let full = std::mem::replace(&mut waiting, self.outgoing.fresh());
            self.outgoing.submit(route, full);
        }
        conn.waiting = Some(waiting);
        written
    }

    /// Writes RTCP for a connection.
    pub(super) fn write_rtcp(&mut self, connection: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.write(connection, |conn, bytes, start| {
            write(bytes) && conn.transport.seal_rtcp(bytes, start).is_ok()
        })
    }

    /// Submits what waits for a connection.
    pub(super) fn submit(&mut self, connection: usize) {
        let Some(conn) = self.connections.get_mut(connection) else { return };
        let Some(waiting) = conn.waiting.take() else { return };
        match conn.route {
            Some(route) if !waiting.is_empty() => self.outgoing.submit(route, waiting),
            _ => self.outgoing.recycle(waiting),
        }
    }

    /// Submits what waits for anyone.
    pub(super) fn submit_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for connection in dirty.drain(..) {
            self.submit(connection);
        }
        self.dirty = dirty;
        self.links.flush(&mut self.counts);
    }

    /// Packets of a published track have another codec than was assumed.
    pub(super) fn other_codec(&mut self, track: TrackId, codec: Codec) {
        let Some(Track { room, key, source, .. }) = self.track(track) else { return };
        if let Source::Publisher { participant, .. } = *source {
            let (room, event) = (*room, Event::Codec { participant, track: *key, codec });
            self.tell(room, event);
        }
    }

    /// A track's wants changed; rooms care about those that arrive over links.
    pub(super) fn wanted(&mut self, track: TrackId, layers: LayerSet) {
        let Some(track) = self.track(track) else { return };
        if let Source::Link { .. } = track.source {
            let (room, track) = (track.room, track.key);
            self.tell(room, Event::Wanted { track, layers });
        }
    }
}

impl Egress for Outside {
    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>) {
        let Some(sending) = self.downtracks.get_mut(sub.index()).filter(|sending| sending.id == sub) else {
            return;
        };
        let mut fields = HeaderFields {
            payload_type: sending.is.pt,
            marker: out.marker,
            seq: out.seq,
            timestamp: out.timestamp,
            ssrc: sending.is.ssrc,
        };
        let repair = sending.is.rtx_ssrc.zip(sending.is.rtx_pt);
        let original = match repair {
            Some((ssrc, pt)) if out.retransmission => {
                fields.ssrc = ssrc;
                fields.payload_type = pt;
                fields.seq = sending.rtx_seq;
                sending.rtx_seq = sending.rtx_seq.wrapping_add(1);
                Some(out.seq.to_be_bytes())
            }
            _ => None,
        };
        let mid: SmallVec<[u8; 16]> = SmallVec::from_slice(sending.is.mid.as_bytes());
        let named = [(extension_table::MID, mid.as_slice())];
        let hop = if sending.is_bare(out.seq) { &[][..] } else { &named[..] };
        if !out.retransmission {
            sending.sent(out.seq);
        }
        let connection = sending.connection;
        let written = self.write(connection, |conn, bytes, start| {
            write_header(bytes, &fields, &SUBSCRIBER_IDS, &out.ext, hop);
            if let Some(original) = original {
                bytes.extend_from_slice(&original);
            }
            bytes.extend_from_slice(out.head);
            bytes.extend_from_slice(out.payload);
            let sealed = match (repair, out.retransmission) {
                (Some(_), _) => conn.transport.seal_rtp(bytes, start),
                // No stream for retransmissions (sound has none): the packet itself is sent again.
                (None, false) => conn.transport.seal_rtp_kept(bytes, start),
                (None, true) => conn.transport.seal_rtp_again(bytes, start),
            };
            sealed.is_ok()
        });
        if written {
            self.counts.media_out += 1;
            self.counts.retransmitted += u64::from(out.retransmission);
        }
    }

    fn feed(&mut self, peer: u32, flow: u32, priority: Priority, packet: &Packet<'_>) {
        if self.links.push(peer, flow, priority, |bytes| write_link_packet(packet, flow, bytes)) {
            self.counts.link_out += 1;
        }
    }

    fn feed_report(&mut self, peer: u32, flow: u32, report: SenderReport) {
        self.links.push(peer, flow, Priority::Control, |bytes| {
            let _ = rtcp::write_sender_report(bytes, flow, report.ntp, report.timestamp, 0, 0, LINK_NAME);
        });
    }

    fn request_key_frame(&mut self, track: TrackId, layer: Layer) {
        let Some(track) = self.track(track) else { return };
        match track.source {
            Source::Link { .. } => {
                let (room, track) = (track.room, track.key);
                self.tell(room, Event::KeyFrameNeeded { track, layer });
            }
            Source::Publisher { connection, .. } => {
                let id = track.id;
                let Some(ssrc) = self.publisher_ssrc(connection, id, layer) else { return };
                if self.write_rtcp(connection, |bytes| rtcp::write_pli(bytes, RECEIVER_SSRC, ssrc).is_ok()) {
                    self.counts.key_frames_requested += 1;
                }
            }
        }
    }

    fn request_retransmission(&mut self, track: TrackId, layer: Layer, seqs: &[u16]) {
        let Some(track) = self.track(track) else { return };
        match track.source {
            Source::Link { peer, flows } => {
                let Some(flow) = flows.get(usize::from(layer.0)).copied() else { return };
                self.links.push(peer, flow, Priority::Control, |bytes| {
                    let _ = rtcp::write_nack(bytes, RECEIVER_SSRC, flow, seqs.iter().copied());
                });
            }
            Source::Publisher { connection, .. } => {
                let id = track.id;
                let Some(ssrc) = self.publisher_ssrc(connection, id, layer) else { return };
                let conn = self.connections.get_mut(connection).and_then(Connection::ingress);
                if !conn.is_some_and(|ingress| ingress.answers_nack(id)) {
                    return;
                }
                self.write_rtcp(connection, |bytes| {
                    rtcp::write_nack(bytes, RECEIVER_SSRC, ssrc, seqs.iter().copied()).is_ok()
                });
            }
        }
    }
}

impl Outside {
    fn publisher_ssrc(&self, connection: usize, track: TrackId, layer: Layer) -> Option<u32> {
        match &self.connections.get(connection)?.role {
            Role::Publisher { ingress, .. } => ingress.ssrc(track, layer),
            Role::Subscriber { .. } => None,
        }
    }

    /// Sender reports for a subscriber's downtracks: all of them, or only those that never had one.
    pub(super) fn sender_reports(
        &mut self,
        connection: usize,
        all: bool,
        info: impl Fn(SubscriptionId) -> Option<SenderInfo>,
    ) {
        let subs: SmallVec<[SubscriptionId; 16]> = match self.connections.get(connection) {
            Some(Connection { role: Role::Subscriber { downtracks, .. }, connected: true, .. }) => {
                SmallVec::from_slice(downtracks)
            }
            _ => return,
        };
        for sub in subs {
            let Some(sending) = self.sending(sub) else { continue };
            if sending.reported && !all {
                continue;
            }
            let Some(info) = info(sub) else { continue };
            sending.reported = true;
            let (ssrc, track) = (sending.is.ssrc, sending.track);
            // One name per publisher: what shares it shares a clock (RFC 7022). The descriptions name it, too.
            let Some(name) = self.track(track).map(|track| track.publisher.clone()) else { continue };
            self.write_rtcp(connection, |bytes| {
                let SenderInfo { ntp, timestamp, packets, octets } = info;
                rtcp::write_sender_report(bytes, ssrc, ntp, timestamp, packets, octets, &name).is_ok()
            });
        }
    }

    /// Transport-wide congestion control feedback for a publisher, when packets came since the last.
    pub(super) fn congestion_feedback(&mut self, now: Instant, connection: usize) {
        let mut written = true;
        while written {
            written = self.write(connection, |conn, bytes, start| match &mut conn.role {
                Role::Publisher { twcc, .. } => {
                    twcc.write(now, RECEIVER_SSRC, bytes) && conn.transport.seal_rtcp(bytes, start).is_ok()
                }
                Role::Subscriber { .. } => false,
            });
        }
    }

    /// Receiver reports for a publisher.
    pub(super) fn receiver_reports(&mut self, now: Instant, connection: usize) {
        let mut blocks: SmallVec<[rtcp::ReportBlock; 31]> = SmallVec::new();
        let Some(ingress) = self.connections.get_mut(connection).and_then(Connection::ingress) else {
            return;
        };
        blocks.extend(ingress.report_blocks(now));
        // A report has room for 31 blocks (RFC 3550 section 6.4.1); each goes out with a name.
        for chunk in blocks.chunks(31) {
            self.write_rtcp(connection, |bytes| {
                rtcp::write_receiver_report(bytes, RECEIVER_SSRC, chunk, RECEIVER_NAME).is_ok()
            });
        }
    }
}
