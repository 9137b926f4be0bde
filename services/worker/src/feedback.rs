//! RTCP: handles feedback and reports from clients and links, and writes the periodic ones.

use std::time::Instant;

use systir_forwarding::SubscriptionId;
use systir_media_control::{ParticipantKey, WorkerEvent};
use systir_rtp::packet::SenderReport;
use systir_rtp::parse_link_packet;
use systir_rtp::rtcp::{self, ReportBlock, RtcpPacket};
use systir_rtp::twcc::Feedback;
use systir_transport::Protocol;
use tracing::trace;

use super::connection::Role;
use super::demux::protocol_of;
use super::engine::{Engine, ingest};

impl Engine {
    /// Handles RTCP from a client.
    pub(super) fn rtcp(&mut self, now: Instant, connection: usize, bytes: &mut [u8]) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let Ok(plain) = conn.transport.open_rtcp(bytes) else {
            self.egress.counts.unauthentic += 1;
            return;
        };
        for packet in rtcp::parse(plain) {
            match packet {
                RtcpPacket::SenderReport { ssrc, ntp, rtp, blocks, .. } => {
                    self.publisher_report(now, connection, ssrc, ntp, rtp);
                    for block in blocks {
                        self.reported(now, connection, &block);
                    }
                }
                RtcpPacket::ReceiverReport { blocks, .. } => {
                    for block in blocks {
                        self.reported(now, connection, &block);
                    }
                }
                RtcpPacket::Nack { ssrc, seqs } => {
                    let Some(sub) = self.subscription(connection, ssrc) else { continue };
                    let lost = seqs.clone().count();
                    self.egress.counts.nacked += lost as u64;
                    trace!(connection, ?sub, lost, "a subscriber requests lost packets");
                    let round_trip =
                        self.egress.connections.get(connection).and_then(|conn| conn.round_trip.mean());
                    self.core.nack(now, sub, seqs, round_trip, &mut self.egress);
                }
                RtcpPacket::TransportCc { fci } => self.arrivals_reported(now, connection, fci),
                RtcpPacket::Remb { bitrate } => {
                    if let Some(control) = self.egress.send_control(connection) {
                        control.remb(now, bitrate);
                    }
                }
                RtcpPacket::Pli { ssrc } | RtcpPacket::Fir { ssrc, .. } => {
                    trace!(connection, ssrc, "a subscriber requests a key frame");
                    self.key_frame_requested(now, connection, ssrc);
                }
                _ => {}
            }
        }
    }

    fn publisher_report(&mut self, now: Instant, connection: usize, ssrc: u32, ntp: u64, timestamp: u32) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        let Role::Publisher { ingress, .. } = &mut conn.role else { return };
        if let Some((track, layer)) = ingress.sender_report(now, ssrc, ntp) {
            let report = SenderReport { ntp, timestamp };
            self.core.sender_report(now, track, layer, report, &mut self.egress);
        }
    }

    /// The client reports which packets arrived, and when.
    fn arrivals_reported(&mut self, now: Instant, connection: usize, fci: &[u8]) {
        let Some(feedback) = Feedback::parse(fci) else { return };
        let Some(control) = self.egress.send_control(connection) else { return };
        control.feedback(now, &feedback);
        self.egress.counts.feedback_in += 1;
        self.divide_bandwidth(now, connection);
        // A probe may follow at once.
        self.egress.list_ready(connection);
    }

    /// The downtrack that has this SSRC on this connection.
    fn subscription(&self, connection: usize, ssrc: u32) -> Option<SubscriptionId> {
        match &self.egress.connections.get(connection)?.role {
            Role::Subscriber { by_ssrc, .. } => by_ssrc.get(&ssrc).copied(),
            Role::Publisher { .. } => None,
        }
    }

    /// The client has reported on an SSRC of ours.
    fn reported(&mut self, now: Instant, connection: usize, block: &ReportBlock) {
        if let Some(sub) = self.subscription(connection, block.ssrc)
            && let Some(sender) = self.egress.downtrack_sender(sub)
        {
            sender.acknowledge();
            let (sample, codec) = (sender.round_trip(now, block), sender.codec);
            let covered = sender.reported(block.extended_seq);
            let Some(conn) = self.egress.connections.get_mut(connection) else { return };
            conn.quality.report(codec, block);
            if let Some(sample) = sample {
                conn.round_trip.add(sample);
            }
            if let Some(control) = conn.send_control() {
                control.receiver_report(now, block.fraction_lost, covered);
                if let Some(sample) = sample {
                    control.round_trip(sample);
                }
            }
        }
    }

    /// Passes the round-trip time of a participant to the tracks that it publishes. Only its other connection
    /// measures it: the server receives media on this one, and a receiver's reports are not answered.
    fn update_publisher_round_trip(&mut self, connection: usize) {
        let Some(conn) = self.egress.connections.get(connection) else { return };
        let Role::Publisher { ingress, .. } = &conn.role else { return };
        let subscriber = self.participants.get(&conn.participant).map(|participant| participant.subscriber);
        let other = subscriber.and_then(|key| self.egress.connections.get(key));
        if let Some(round_trip) = other.and_then(|conn| conn.round_trip.mean()) {
            for track in ingress.tracks() {
                self.core.set_round_trip(track, round_trip);
            }
        }
    }

    fn key_frame_requested(&mut self, now: Instant, connection: usize, ssrc: u32) {
        if let Some(sub) = self.subscription(connection, ssrc) {
            self.egress.counts.key_frame_requests_in += 1;
            self.core.key_frame_wanted(now, sub, &mut self.egress);
        }
    }

    /// Handles RTP or RTCP from a link.
    pub(super) fn link_packet(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        match protocol_of(bytes) {
            Some(Protocol::Rtp) => self.link_media(now, peer, flow, bytes),
            Some(Protocol::Rtcp) => self.link_feedback(now, peer, flow, bytes),
            _ => self.egress.counts.unknown_flow += 1,
        }
    }

    fn link_media(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        let (Some(known), Ok(packet)) = (self.flows.get_mut(&(peer, flow)), parse_link_packet(bytes)) else {
            self.egress.counts.unknown_flow += 1;
            return;
        };
        if !packet.codec.shares_stream_with(known.codec) {
            self.egress.counts.media_unmatched += 1;
            return;
        }
        let Some(seq) = known.seq.extend(packet.seq) else { return };
        let (track, layer) = (known.track, known.layer);
        self.egress.counts.link_in += 1;
        ingest(now, &mut self.core, &mut self.egress, track, layer, &packet.packet(seq));
    }

    fn link_feedback(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        for packet in rtcp::parse(bytes) {
            match packet {
                RtcpPacket::SenderReport { ntp, rtp, .. } => {
                    let Some(known) = self.flows.get(&(peer, flow)) else {
                        self.egress.counts.unknown_flow += 1;
                        continue;
                    };
                    let (track, layer) = (known.track, known.layer);
                    let report = SenderReport { ntp, timestamp: rtp };
                    self.core.sender_report(now, track, layer, report, &mut self.egress);
                }
                RtcpPacket::Nack { seqs, .. } => self.core.feed_nack(now, peer, flow, seqs, &mut self.egress),
                _ => {}
            }
        }
    }

    /// Writes feedback and reports that are due, and sends waiting data messages.
    pub(super) fn tick(&mut self, now: Instant) {
        self.write_feedback(now);
        self.write_first_reports(now);
        while let Some((due, connection)) = self.due.reports.pop(now) {
            self.due.visits += 1;
            if self.egress.connections.get(connection).is_some_and(|conn| conn.next_report == due) {
                self.report(now, connection);
            }
        }
        while let Some((due, connection)) = self.due.control.pop(now) {
            self.due.visits += 1;
            if self.egress.connections.get(connection).is_some_and(|conn| conn.next_control == Some(due)) {
                self.tick_control(now, connection);
            }
        }
        self.check_readers(now);
        self.note_caught_up();
    }

    /// Writes transport-wide feedback to the publishers that wait for it.
    fn write_feedback(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.due.feedback);
        waiting.retain(|connection| {
            self.due.visits += 1;
            if !self.egress.connections.get(*connection).is_some_and(|conn| conn.connected) {
                return false;
            }
            self.egress.congestion_feedback(now, *connection);
            matches!(
                self.egress.connections.get(*connection).map(|conn| &conn.role),
                Some(Role::Publisher { twcc, .. }) if twcc.poll_timeout().is_some()
            )
        });
        self.due.feedback = waiting;
    }

    /// Writes the first sender reports of downtracks as soon as that is possible: without one, a client cannot play
    /// audio and video in step.
    fn write_first_reports(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.due.first_reports);
        waiting.retain(|(end, sub)| {
            self.due.visits += 1;
            let is_new = self.egress.downtrack(*sub).is_some_and(|sender| sender.last_report.is_none());
            if is_new && let Some(info) = self.core.sender_info(now, *sub) {
                self.egress.sender_report(now, *sub, &info);
                return false;
            }
            is_new && now < *end
        });
        self.due.first_reports = waiting;
    }

    /// Writes the periodic reports of a connection, and judges its participant's quality.
    fn report(&mut self, now: Instant, connection: usize) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        conn.next_report = self.due.reports.push(now, connection);
        let (participant, is_publisher) = (conn.participant, matches!(conn.role, Role::Publisher { .. }));
        if conn.connected && is_publisher {
            self.egress.receiver_reports(now, connection);
            self.update_publisher_round_trip(connection);
        } else if conn.connected {
            let core = &self.core;
            self.egress.sender_reports(now, connection, |sub| core.sender_info(now, sub));
        }
        self.tell_quality(now, participant);
    }

    /// Lets the congestion control of a connection do what is due.
    fn tick_control(&mut self, now: Instant, connection: usize) {
        let Some(conn) = self.egress.connections.get_mut(connection) else { return };
        conn.next_control = Some(self.due.control.push(now, connection));
        if !conn.connected {
            return;
        }
        if let Some(control) = conn.send_control() {
            control.handle_timeout(now);
            self.divide_bandwidth(now, connection);
            // A probe may be due, also while nothing else is sent.
            self.egress.list_ready(connection);
        }
    }

    /// Tells the room if a participant's quality changed.
    fn tell_quality(&mut self, now: Instant, key: ParticipantKey) {
        let Some(state) = self.participants.get_mut(&key) else { return };
        let both = [state.publisher, state.subscriber];
        let mut judged = false;
        for connection in both {
            if let Some(conn) = self.egress.connections.get_mut(connection) {
                judged |= conn.quality.judge(now, conn.round_trip.mean());
            }
        }
        if !judged {
            return;
        }
        let meters = both.into_iter().filter_map(|key| Some(&self.egress.connections.get(key)?.quality));
        let scores = meters.map(|meter| (meter.quality(), meter.mean_opinion()));
        let Some((quality, score)) = scores.min_by(|one, other| one.1.total_cmp(&other.1)) else { return };
        if std::mem::replace(&mut state.quality, quality) != quality {
            let event = WorkerEvent::Quality { participant: key, quality, score };
            self.egress.notify_room(state.room, event);
        }
    }
}
