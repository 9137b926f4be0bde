//! The worker's [`Egress`]: passes what the forwarding core sends to subscribers' connections, publishers,
//! links and rooms. Each packet is written into a send buffer and sealed in place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use smallvec::SmallVec;
use systir_forwarding::batch::Priority;
use systir_forwarding::{Egress, Forward, PACKET_OVERHEAD, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Kind, Layer, Packet, SenderReport};
use systir_rtp::rtcp;
use systir_rtp::{ExtensionIds, HeaderFields, write_header, write_link_packet};

use super::connection::{Connection, Role};
use super::demand::DemandedLayers;
use super::estimates::Estimates;
use super::frame_hold::FrameHold;
use super::links::Links;
use super::padding::push_padding;
use super::pending::PendingDowntracks;
use super::room_events::RoomEvents;
use super::round_trip::SentReport;
use super::send_control::SendControl;
use super::send_queue::SendQueue;
use super::stats::WorkerCounts;
use super::table::Table;
use systir_media_control::{
    Downtrack, ParticipantKey, RoomNumber, Side, TrackDemand, TrackKey, TrackSpec, WorkerEvent,
};
use systir_rtp::extension_table;

/// Our SSRC in RTCP on connections where we send no media.
pub(super) const RECEIVER_SSRC: u32 = 1;

/// The CNAME in reports on links. It is not read: the flow id identifies the track.
const LINK_CNAME: &str = "-";

/// Extension ids for subscribers: those of the server's table.
const SUBSCRIBER_IDS: ExtensionIds = ExtensionIds {
    audio_level: Some(extension_table::AUDIO_LEVEL),
    capture_time: Some(extension_table::CAPTURE_TIME),
    orientation: Some(extension_table::ORIENTATION),
    dependency: Some(extension_table::DEPENDENCY),
    playout_delay: Some(extension_table::PLAYOUT_DELAY),
};

/// Where a track's packets come from, and where key frames and retransmissions are requested.
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
    pub(super) room: RoomNumber,
    pub(super) spec: TrackSpec,
    pub(super) source: Source,
    /// Id of the publisher, on this or another node; the CNAME of its streams.
    pub(super) publisher: Box<str>,
    /// The layers that its downtracks ask for.
    pub(super) demanded: DemandedLayers,
}

/// The value of the mid extension.
pub(super) type Mid = SmallVec<[u8; 16]>;

/// State of sending one downtrack.
#[derive(Debug)]
pub(super) struct DowntrackSender {
    pub(super) id: SubscriptionId,
    pub(super) connection: usize,
    pub(super) track: TrackId,
    pub(super) downtrack: Downtrack,
    /// `a=mid` of the m-line, stored without another allocation.
    pub(super) mid: Mid,
    /// The track's codec, which has the downtrack's payload type.
    pub(super) codec: Codec,
    /// What the subscriber asks for.
    pub(super) demand: TrackDemand,
    /// Is it paused for lack of bandwidth?
    pub(super) is_paused: bool,
    /// The layer with which it counts among the track's demanded ones.
    pub(super) counted: Option<Layer>,
    /// From this sequence number on, packets have no mid extension: the client has reported on the SSRC, so
    /// it knows the m-line. Only the number decides, because a packet that is sealed again must be identical.
    pub(super) mid_omitted_from: Option<u16>,
    /// The highest sequence number sent.
    pub(super) last_seq: Option<u16>,
    /// The highest number, extended, that the client's reports cover.
    pub(super) last_reported: Option<u32>,
    /// The last sender report that was sent.
    pub(super) last_report: Option<SentReport>,
    /// The next sequence number of the RTX stream.
    pub(super) rtx_seq: u16,
}

/// Packets that are this far behind the newest are no longer retransmitted.
const MAX_RETRANSMIT_AGE: u16 = 4096;

/// The first sequence number of an RTX stream. In the lower half, because the SRTP rollover counters of both
/// ends differ for good when all packets up to a wrap are lost (RFC 3711 section 3.3.1).
pub(super) fn first_rtx_seq(random: &mut fastrand::Rng) -> u16 {
    random.u16(..0x8000)
}

impl DowntrackSender {
    /// The payload type of a codec; none if it was not negotiated.
    fn payload_type(&self, codec: Codec) -> Option<u8> {
        if codec == self.codec {
            Some(self.downtrack.pt)
        } else {
            self.downtrack.opus_pt.filter(|_| codec == Codec::Opus)
        }
    }

    /// Do its packets have transport-wide sequence numbers? Without an RTX stream a packet is sent again as it was, so
    /// it cannot have a new number.
    pub(super) fn is_numbered(&self) -> bool {
        self.downtrack.transport_cc && self.downtrack.rtx_ssrc.is_some() && self.downtrack.rtx_pt.is_some()
    }

    /// Whether the packet of this number has no mid.
    fn omits_mid(&self, seq: u16) -> bool {
        self.mid_omitted_from.is_some_and(|from| seq.wrapping_sub(from) < 0x8000)
    }

    /// Records that a packet was sent.
    fn sent(&mut self, seq: u16) {
        if self.last_seq.is_none_or(|last| seq.wrapping_sub(last) < 0x8000) {
            self.last_seq = Some(seq);
        }
        // The start moves along: 16-bit numbers wrap, and after 2^15 packets it would seem to be ahead.
        if let Some(from) = &mut self.mid_omitted_from
            && (2 * MAX_RETRANSMIT_AGE..0x8000).contains(&seq.wrapping_sub(*from))
        {
            *from = seq.wrapping_sub(MAX_RETRANSMIT_AGE);
        }
    }

    /// The client's report covers packets up to this extended number. Returns how many it covers anew.
    pub(super) fn reported(&mut self, highest: u32) -> u32 {
        let covered = self.last_reported.map_or(0, |before| highest.wrapping_sub(before));
        // An older report that came late covers nothing anew.
        if covered >= 1 << 31 {
            return 0;
        }
        self.last_reported = Some(highest);
        covered.min(u16::MAX.into())
    }

    /// The round-trip time, if the client's report block answers our last sender report.
    pub(super) fn round_trip(&self, now: Instant, block: &rtcp::ReportBlock) -> Option<Duration> {
        self.last_report.as_ref()?.round_trip(now, block)
    }

    /// The client has reported on the SSRC: later packets go without mid.
    pub(super) fn acknowledge(&mut self) {
        if self.mid_omitted_from.is_none() {
            self.mid_omitted_from = self.last_seq.map(|last| last.wrapping_add(1));
        }
    }
}

/// What is written and not passed to the kernel yet.
#[derive(Debug, Default)]
pub(super) struct SendBuffers {
    pub(super) queue: SendQueue,
    /// Connections with datagrams that are not submitted yet.
    dirty: Vec<usize>,
}

impl SendBuffers {
    /// Writes one packet into the buffer of a connection, whose key this is.
    fn write(
        &mut self,
        key: usize,
        conn: &mut Connection,
        write: impl FnOnce(&mut Connection, &mut Vec<u8>, usize) -> bool,
    ) -> bool {
        let Some(route) = conn.route.filter(|_| conn.connected) else { return false };
        let mut waiting = match conn.waiting.take() {
            Some(waiting) => waiting,
            None => {
                self.dirty.push(key);
                self.queue.empty_buffer()
            }
        };
        let written = waiting.push_with(|bytes, start| write(conn, bytes, start));
        if waiting.is_full() {
            let full = std::mem::replace(&mut waiting, self.queue.empty_buffer());
            self.queue.submit(route, full);
        }
        conn.waiting = Some(waiting);
        written
    }
}

/// Connections, tracks, rooms and links of the worker: everything that the core sends to.
#[derive(Debug)]
pub(super) struct WorkerEgress {
    pub(super) connections: Slab<Connection>,
    pub(super) tracks: Table<Track>,
    pub(super) downtracks: Table<DowntrackSender>,
    pub(super) rooms: FxHashMap<RoomNumber, RoomEvents>,
    /// Rooms for which events wait.
    pub(super) rooms_behind: Vec<RoomNumber>,
    pub(super) links: Links,
    pub(super) buffers: SendBuffers,
    pub(super) counts: WorkerCounts,
    pub(super) estimates: Estimates,
    /// Tracks whose wanted layers may have changed.
    pub(super) wanted_checks: Vec<TrackId>,
    /// Connections with queued packets that may be sent.
    pub(super) ready: VecDeque<usize>,
    /// Those of them whose socket is full, until the end of the turn.
    pub(super) held: Vec<usize>,
    /// Frames of which packets are held back.
    pub(super) frames: FrameHold,
    /// Ids of publishers who speak.
    pub(super) speaking: FxHashSet<Box<str>>,
    /// Time of the current iteration.
    pub(super) now: Instant,
}

impl WorkerEgress {
    pub(super) fn new(links: Links, now: Instant) -> Self {
        Self {
            connections: Slab::new(),
            tracks: Table::default(),
            downtracks: Table::default(),
            rooms: FxHashMap::default(),
            rooms_behind: Vec::new(),
            links,
            buffers: SendBuffers::default(),
            counts: WorkerCounts::default(),
            estimates: Estimates::default(),
            wanted_checks: Vec::new(),
            ready: VecDeque::new(),
            held: Vec::new(),
            frames: FrameHold::default(),
            speaking: FxHashSet::default(),
            now,
        }
    }

    pub(super) fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.get(id.index()).filter(|track| track.id == id)
    }

    pub(super) fn track_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        self.tracks.get_mut(id.index()).filter(|track| track.id == id)
    }

    pub(super) fn downtrack(&self, id: SubscriptionId) -> Option<&DowntrackSender> {
        self.downtracks.get(id.index()).filter(|sender| sender.id == id)
    }

    pub(super) fn downtrack_sender(&mut self, id: SubscriptionId) -> Option<&mut DowntrackSender> {
        self.downtracks.get_mut(id.index()).filter(|sender| sender.id == id)
    }

    /// The downtracks of a subscriber's connection that have queued packets.
    pub(super) fn pending(&mut self, connection: usize) -> Option<&mut PendingDowntracks> {
        self.connections.get_mut(connection)?.pending()
    }

    /// The congestion control of a subscriber's connection.
    pub(super) fn send_control(&mut self, connection: usize) -> Option<&mut SendControl> {
        self.connections.get_mut(connection)?.send_control()
    }

    /// Lists a connection among those that may send.
    pub(super) fn list_ready(&mut self, connection: usize) {
        if let Some(pending) = self.pending(connection)
            && !std::mem::replace(&mut pending.listed, true)
        {
            self.ready.push_back(connection);
        }
    }

    /// Lists connections whose packets were held back.
    pub(super) fn release(&mut self, mut connections: Vec<usize>) {
        for connection in connections.drain(..) {
            self.list_ready(connection);
        }
        self.frames.recycle(connections);
    }

    /// Do the downtrack's packets have transport-wide sequence numbers?
    pub(super) fn is_numbered(&self, id: SubscriptionId) -> bool {
        self.downtrack(id).is_some_and(DowntrackSender::is_numbered)
    }

    /// Does the participant with this id speak?
    pub(super) fn is_speaking(&self, publisher: &str) -> bool {
        self.speaking.contains(publisher)
    }

    /// Sends an event to a room.
    pub(super) fn notify_room(&mut self, number: RoomNumber, event: WorkerEvent) {
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if !room.send(event) {
            self.counts.events_dropped += 1;
        }
        if room.is_behind() && !std::mem::replace(&mut room.is_listed, true) {
            self.rooms_behind.push(number);
        }
    }

    /// Notifies the room, once, that a connection closed.
    pub(super) fn notify_closed(&mut self, connection: usize, reason: String) {
        let Some(conn) = self.connections.get_mut(connection) else { return };
        conn.connected = false;
        if std::mem::replace(&mut conn.closed, true) {
            return;
        }
        let (room, participant, side): (_, _, Side) = (conn.room, conn.participant, conn.side());
        self.notify_room(room, WorkerEvent::Closed { participant, side, reason });
    }

    /// Writes one packet into the buffer of a connection.
    pub(super) fn write(
        &mut self,
        connection: usize,
        write: impl FnOnce(&mut Connection, &mut Vec<u8>, usize) -> bool,
    ) -> bool {
        let Some(conn) = self.connections.get_mut(connection) else { return false };
        self.buffers.write(connection, conn, write)
    }

    /// Writes and seals RTCP for a connection.
    pub(super) fn write_rtcp(&mut self, connection: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.write(connection, |conn, bytes, start| {
            write(bytes) && conn.transport.seal_rtcp(bytes, start).is_ok()
        })
    }

    /// Submits the buffered packets of a connection.
    pub(super) fn submit(&mut self, connection: usize) {
        let Some(conn) = self.connections.get_mut(connection) else { return };
        let Some(waiting) = conn.waiting.take() else { return };
        if self.buffers.dirty.last() == Some(&connection) {
            self.buffers.dirty.pop();
        }
        match conn.route {
            Some(route) if !waiting.is_empty() => self.buffers.queue.submit(route, waiting),
            _ => self.buffers.queue.recycle(waiting),
        }
    }

    /// Submits the buffered packets of all connections and links.
    pub(super) fn submit_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.buffers.dirty);
        for connection in dirty.drain(..) {
            self.submit(connection);
        }
        self.buffers.dirty = dirty;
        self.links.flush(&mut self.counts);
    }

    /// Notifies the room that the packets of a published track have another codec than the track.
    pub(super) fn notify_codec(&mut self, track: TrackId, codec: Codec) {
        let Some(Track { room, key, source, .. }) = self.track(track) else { return };
        if let Source::Publisher { participant, .. } = *source {
            let (room, event) = (*room, WorkerEvent::Codec { participant, track: *key, codec });
            self.notify_room(room, event);
        }
    }
}

impl Egress for WorkerEgress {
    fn queued(&mut self, sub: SubscriptionId) {
        let Some(sender) = self.downtrack(sub) else { return };
        let (connection, kind) = (sender.connection, sender.codec.kind());
        let Some(pending) = self.pending(connection) else { return };
        pending.add(sub, kind);
        if kind == Kind::Audio || !self.frames.hold(connection) {
            self.list_ready(connection);
        }
    }

    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>) {
        let Some(sender) = self.downtracks.get_mut(sub.index()).filter(|sender| sender.id == sub) else {
            return;
        };
        let Some(payload_type) = sender.payload_type(out.codec) else {
            self.counts.media_unmatched += 1;
            return;
        };
        let (connection, is_numbered, now) = (sender.connection, sender.is_numbered(), self.now);
        let is_video = sender.codec.kind() == Kind::Video;
        let Some(conn) = self.connections.get_mut(connection) else { return };
        // Header, extensions, tag, UDP and IP included.
        let bytes_on_wire = out.head.len() + out.payload.len() + PACKET_OVERHEAD;
        if out.retransmission
            && is_video
            && conn.send_control().is_some_and(|control| !control.may_retransmit(now, out.is_superseded))
        {
            self.counts.retransmissions_refused += 1;
            return;
        }
        let mut fields = HeaderFields {
            payload_type,
            marker: out.marker,
            seq: out.seq,
            timestamp: out.timestamp,
            ssrc: sender.downtrack.ssrc,
        };
        let rtx = sender.downtrack.rtx_ssrc.zip(sender.downtrack.rtx_pt);
        let original_seq = match rtx {
            Some((ssrc, pt)) if out.retransmission => {
                fields.ssrc = ssrc;
                fields.payload_type = pt;
                fields.seq = sender.rtx_seq;
                sender.rtx_seq = sender.rtx_seq.wrapping_add(1);
                Some(out.seq.to_be_bytes())
            }
            _ => None,
        };
        let omits_mid = sender.omits_mid(out.seq);
        if !out.retransmission {
            sender.sent(out.seq);
        }
        let mid = (!omits_mid).then_some((extension_table::MID, sender.mid.as_slice()));
        let written = self.buffers.write(connection, conn, |conn, bytes, start| {
            let number = conn.send_control().and_then(|control| {
                if !is_video {
                    control.sent_audio(now, bytes_on_wire);
                    return None;
                }
                if is_numbered {
                    return Some(control.sent(now, bytes_on_wire, out.retransmission));
                }
                control.sent_unnumbered(now, bytes_on_wire, out.retransmission);
                None
            });
            let number = number.map(u16::to_be_bytes);
            let number = number.as_ref().map(|number| (extension_table::TRANSPORT_CC, number.as_slice()));
            let hop: SmallVec<[_; 2]> = mid.into_iter().chain(number).collect();
            write_header(bytes, &fields, &SUBSCRIBER_IDS, &out.ext, &hop);
            if let Some(original_seq) = original_seq {
                bytes.extend_from_slice(&original_seq);
            }
            bytes.extend_from_slice(out.head);
            bytes.extend_from_slice(out.payload);
            // Without an RTX stream, what is sent again has to be the same bytes, and it is not padded then.
            if rtx.is_some() {
                push_padding(bytes, start, out.padding);
            }
            let sealed = match (rtx, out.retransmission) {
                (Some(_), _) => conn.transport.seal_rtp(bytes, start),
                // Without an RTX stream (audio has none) the original packet is sent again.
                (None, false) => conn.transport.seal_rtp_resendable(bytes, start),
                (None, true) => conn.transport.reseal_rtp(bytes, start),
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
            let _ = rtcp::write_sender_report(bytes, flow, report.ntp, report.timestamp, 0, 0, LINK_CNAME);
        });
    }

    fn request_key_frame(&mut self, track: TrackId, layer: Layer) {
        let Some(track) = self.track(track) else { return };
        match track.source {
            Source::Link { .. } => {
                let (room, track) = (track.room, track.key);
                self.notify_room(room, WorkerEvent::KeyFrameNeeded { track, layer });
            }
            Source::Publisher { connection, .. } => {
                let id = track.id;
                let Some(ssrc) = self.publisher_ssrc(connection, id, layer) else { return };
                if self.write_rtcp(connection, |bytes| rtcp::write_pli(bytes, RECEIVER_SSRC, ssrc).is_ok()) {
                    self.counts.key_frame_requests_out += 1;
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

impl WorkerEgress {
    fn publisher_ssrc(&self, connection: usize, track: TrackId, layer: Layer) -> Option<u32> {
        match &self.connections.get(connection)?.role {
            Role::Publisher { ingress, .. } => ingress.ssrc(track, layer),
            Role::Subscriber { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rtx_stream_starts_far_from_the_wrap_of_its_numbers() {
        let mut random = fastrand::Rng::with_seed(1);
        let highest = (0..1000).map(|_| first_rtx_seq(&mut random)).max().unwrap();
        assert!(
            highest < 0x8000,
            "if all packets up to a wrap are lost, the receiver's rollover counter is wrong"
        );
    }
}
