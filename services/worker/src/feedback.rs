//! RTCP: what clients and links say about packets, and what we tell publishers and subscribers
//! regularly.

use std::time::Instant;

use systir_forwarding::SubscriptionId;
use systir_rtp::packet::SenderReport;
use systir_rtp::parse_link_packet;
use systir_rtp::rtcp::{self, Packet};
use systir_transport::Class;

use super::connection::Role;
use super::demux::protocol_of;
use super::engine::{Engine, REPORTS};

impl Engine {
    /// RTCP from a client.
    pub(super) fn rtcp(&mut self, now: Instant, connection: usize, bytes: &mut [u8]) {
        let Some(conn) = self.outside.connections.get_mut(connection) else { return };
        let Ok(plain) = conn.transport.open_rtcp(bytes) else {
            self.outside.counts.unauthentic += 1;
            return;
        };
        for packet in rtcp::parse(plain) {
            match packet {
                Packet::SenderReport { ssrc, ntp, rtp, blocks, .. } => {
                    self.publisher_report(now, connection, ssrc, ntp, rtp);
                    for block in blocks {
                        self.acknowledged(connection, block.ssrc);
                    }
                }
                Packet::ReceiverReport { blocks, .. } => {
                    for block in blocks {
                        self.acknowledged(connection, block.ssrc);
                    }
                }
                Packet::Nack { ssrc, seqs } => {
                    let Some(sub) = self.subscription(connection, ssrc) else { continue };
                    self.outside.counts.nacked += seqs.clone().count() as u64;
                    self.core.nack(now, sub, seqs, &mut self.outside);
                }
                Packet::Pli { ssrc } | Packet::Fir { ssrc, .. } => {
                    self.key_frame_asked(now, connection, ssrc);
                }
                _ => {}
            }
        }
    }

    fn publisher_report(&mut self, now: Instant, connection: usize, ssrc: u32, ntp: u64, timestamp: u32) {
        let Some(conn) = self.outside.connections.get_mut(connection) else { return };
        let Role::Publisher { ingress, .. } = &mut conn.role else { return };
        if let Some((track, layer)) = ingress.sender_report(now, ssrc, ntp) {
            let report = SenderReport { ntp, timestamp };
            self.core.sender_report(now, track, layer, report, &mut self.outside);
        }
    }

    /// The downtrack that has this SSRC on this connection.
    fn subscription(&self, connection: usize, ssrc: u32) -> Option<SubscriptionId> {
        let Role::Subscriber { downtracks, .. } = &self.outside.connections.get(connection)?.role else {
            return None;
        };
        let is = |id: &&SubscriptionId| {
            self.outside
                .downtracks
                .get(id.index())
                .is_some_and(|sending| sending.id == **id && sending.is.ssrc == ssrc)
        };
        downtracks.iter().find(is).copied()
    }

    fn acknowledged(&mut self, connection: usize, ssrc: u32) {
        if let Some(sub) = self.subscription(connection, ssrc)
            && let Some(sending) = self.outside.sending(sub)
        {
            sending.acknowledge();
        }
    }

    fn key_frame_asked(&mut self, now: Instant, connection: usize, ssrc: u32) {
        if let Some(sub) = self.subscription(connection, ssrc) {
            self.outside.counts.key_frames_asked += 1;
            self.core.key_frame_wanted(now, sub, &mut self.outside);
        }
    }

    /// RTP or RTCP from a link.
    pub(super) fn link_packet(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        match protocol_of(bytes) {
            Some(Class::Rtp) => self.link_media(now, peer, flow, bytes),
            Some(Class::Rtcp) => self.link_feedback(now, peer, flow, bytes),
            _ => self.outside.counts.unknown_flow += 1,
        }
    }

    fn link_media(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        let (Some(known), Ok(packet)) = (self.flows.get_mut(&(peer, flow)), parse_link_packet(bytes)) else {
            self.outside.counts.unknown_flow += 1;
            return;
        };
        if packet.codec != known.codec {
            self.outside.counts.unclaimed += 1;
            return;
        }
        let Some(seq) = known.seq.extend(packet.seq) else { return };
        let (track, layer) = (known.track, known.layer);
        self.outside.counts.link_in += 1;
        self.core.ingest(now, track, layer, &packet.packet(seq), &mut self.outside);
    }

    fn link_feedback(&mut self, now: Instant, peer: u32, flow: u32, bytes: &[u8]) {
        for packet in rtcp::parse(bytes) {
            match packet {
                Packet::SenderReport { ntp, rtp, .. } => {
                    let Some(known) = self.flows.get(&(peer, flow)) else {
                        self.outside.counts.unknown_flow += 1;
                        continue;
                    };
                    let (track, layer) = (known.track, known.layer);
                    let report = SenderReport { ntp, timestamp: rtp };
                    self.core.sender_report(now, track, layer, report, &mut self.outside);
                }
                Packet::Nack { seqs, .. } => self.core.feed_nack(now, peer, flow, seqs, &mut self.outside),
                _ => {}
            }
        }
    }

    /// What is due several times a second: feedback, reports, data that waits.
    pub(super) fn tick(&mut self, now: Instant) {
        let all: Vec<_> = self.outside.connections.iter().map(|(key, _)| key).collect();
        for connection in all {
            let Some(conn) = self.outside.connections.get_mut(connection) else { continue };
            if !conn.connected {
                continue;
            }
            let report = now >= conn.next_report;
            if report {
                conn.next_report = now + REPORTS;
            }
            match &mut conn.role {
                Role::Publisher { .. } => {
                    self.outside.congestion_feedback(now, connection);
                    if report {
                        self.outside.receiver_reports(now, connection);
                    }
                }
                Role::Subscriber { channels, .. } => {
                    if channels.is_behind() {
                        self.outside.counts.data_dropped += channels.retry(&mut conn.transport);
                        self.settle(now, connection);
                    }
                    let core = &self.core;
                    self.outside.sender_reports(connection, report, |sub| core.sender_info(now, sub));
                }
            }
        }
    }
}
