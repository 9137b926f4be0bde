//! RTP padding: of packets of one video frame, so that they are equally long; and packets of padding only on the RTX
//! stream of a downtrack, which probe for bandwidth while there is nothing to send again (RFC 4588 lets a receiver ignore
//! them).

use systir_forwarding::{PACKET_OVERHEAD, SubscriptionId};
use systir_rtp::packet::Extensions;
use systir_rtp::{ExtensionIds, HeaderFields, extension_table, write_header};

use super::connection::Connection;
use super::egress::WorkerEgress;

/// Bytes of padding: the most that the count in the last byte allows (RFC 3550 section 5.1).
const PADDING: u8 = 255;
/// The P bit of the first byte.
const HAS_PADDING: u8 = 0x20;

/// Pads the RTP packet that begins at `start` and ends with the buffer (RFC 3550 section 5.1).
pub(super) fn push_padding(bytes: &mut Vec<u8>, start: usize, count: u8) {
    if count == 0 {
        return;
    }
    if let Some(first) = bytes.get_mut(start) {
        *first |= HAS_PADDING;
    }
    bytes.resize(bytes.len() + usize::from(count) - 1, 0);
    bytes.push(count);
}

impl WorkerEgress {
    /// Sends one packet of padding, if the downtrack has an RTX stream.
    pub(super) fn send_padding(&mut self, id: SubscriptionId) {
        let now = self.now;
        let Some(sender) = self.downtrack_sender(id) else { return };
        let Some((ssrc, payload_type)) = sender.downtrack.rtx_ssrc.zip(sender.downtrack.rtx_pt) else {
            return;
        };
        let seq = sender.rtx_seq;
        sender.rtx_seq = seq.wrapping_add(1);
        let fields = HeaderFields { payload_type, marker: false, seq, timestamp: 0, ssrc };
        let connection = sender.connection;
        self.write(connection, |conn, bytes, start| {
            let Some(control) = Connection::send_control(conn) else { return false };
            let number = control.sent(now, usize::from(PADDING) + PACKET_OVERHEAD, true).to_be_bytes();
            let number = (extension_table::TRANSPORT_CC, number.as_slice());
            write_header(bytes, &fields, &ExtensionIds::default(), &Extensions::default(), &[number]);
            push_padding(bytes, start, PADDING);
            conn.transport.seal_rtp(bytes, start).is_ok()
        });
    }
}
