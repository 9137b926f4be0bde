//! RTCP reports that are written from time to time: sender reports to subscribers, receiver reports and transport-wide
//! feedback to publishers.

use std::time::Instant;

use smallvec::SmallVec;
use systir_forwarding::{SenderInfo, SubscriptionId};
use systir_rtp::rtcp;

use super::connection::{Connection, Role};
use super::egress::{RECEIVER_SSRC, WorkerEgress};
use super::round_trip::SentReport;

/// Our CNAME on connections where we send no media.
const RECEIVER_CNAME: &str = "systir";

impl WorkerEgress {
    /// Writes sender reports for all downtracks of a subscriber.
    pub(super) fn sender_reports(
        &mut self,
        now: Instant,
        connection: usize,
        info: impl Fn(SubscriptionId) -> Option<SenderInfo>,
    ) {
        let subs: SmallVec<[SubscriptionId; 16]> = match self.connections.get(connection) {
            Some(Connection { role: Role::Subscriber { downtracks, .. }, connected: true, .. }) => {
                SmallVec::from_slice(downtracks)
            }
            _ => return,
        };
        for sub in subs {
            if let Some(info) = info(sub) {
                self.sender_report(now, sub, &info);
            }
        }
    }

    /// Writes a sender report for a downtrack.
    pub(super) fn sender_report(&mut self, now: Instant, sub: SubscriptionId, info: &SenderInfo) {
        let Some(sender) = self.downtrack_sender(sub) else { return };
        sender.last_report = Some(SentReport::new(now, info.ntp));
        let (connection, ssrc, track) = (sender.connection, sender.downtrack.ssrc, sender.track);
        // Streams of one publisher have one CNAME and one clock (RFC 7022); SDP carries the CNAME too.
        let Some(cname) = self.track(track).map(|track| track.publisher.clone()) else { return };
        self.write_rtcp(connection, |bytes| {
            let SenderInfo { ntp, timestamp, packets, octets } = *info;
            rtcp::write_sender_report(bytes, ssrc, ntp, timestamp, packets, octets, &cname).is_ok()
        });
    }

    /// Writes transport-wide congestion control feedback to a publisher, if any is due.
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

    /// Writes receiver reports to a publisher.
    pub(super) fn receiver_reports(&mut self, now: Instant, connection: usize) {
        let mut blocks: SmallVec<[rtcp::ReportBlock; 31]> = SmallVec::new();
        let Some(Connection { role: Role::Publisher { ingress, .. }, quality, .. }) =
            self.connections.get_mut(connection)
        else {
            return;
        };
        for (codec, block) in ingress.report_blocks(now) {
            if let Some(codec) = codec {
                quality.report(codec, &block);
            }
            blocks.push(block);
        }
        // A report holds 31 blocks (RFC 3550 section 6.4.1).
        for chunk in blocks.chunks(31) {
            self.write_rtcp(connection, |bytes| {
                rtcp::write_receiver_report(bytes, RECEIVER_SSRC, chunk, RECEIVER_CNAME).is_ok()
            });
        }
    }
}
