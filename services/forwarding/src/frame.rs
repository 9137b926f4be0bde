//! The newest video frame of a layer: how much padding makes its packets equally long. An encoder's packets of one frame
//! often differ by a byte or two, and the kernel cuts a message into datagrams of one length only.

use systir_rtp::packet::Packet;

/// Packets of a frame that lack more than this many bytes are not padded.
pub const MAX_PADDING: u8 = 16;

/// The newest frame of a layer.
#[derive(Debug, Default)]
pub(crate) struct NewestFrame {
    timestamp: u32,
    /// The longest packet so far.
    longest: usize,
}

impl NewestFrame {
    /// Records a packet that arrives in order.
    pub(crate) fn add(&mut self, packet: &Packet<'_>) {
        if packet.timestamp != self.timestamp {
            *self = Self { timestamp: packet.timestamp, longest: 0 };
        }
        self.longest = self.longest.max(len(packet));
    }

    /// Bytes that the packet lacks to the longest one of its frame, if it is of the newest frame and they are few.
    pub(crate) fn padding(&self, packet: &Packet<'_>) -> u8 {
        if packet.timestamp != self.timestamp {
            return 0;
        }
        let lacking = u8::try_from(self.longest.saturating_sub(len(packet))).unwrap_or(u8::MAX);
        if lacking <= MAX_PADDING { lacking } else { 0 }
    }
}

fn len(packet: &Packet<'_>) -> usize {
    packet.ext.element_bytes() + packet.payload.len()
}

#[cfg(test)]
mod tests {
    use systir_rtp::packet::{Codec, Extensions};

    use super::*;

    fn packet(timestamp: u32, payload: &[u8]) -> Packet<'_> {
        let ext = Extensions::default();
        Packet { codec: Codec::Vp8, seq: 1, timestamp, marker: false, ext, payload }
    }

    #[test]
    fn packets_of_a_frame_become_as_long_as_the_longest() {
        let mut frame = NewestFrame::default();
        frame.add(&packet(1, &[0; 1000]));
        frame.add(&packet(1, &[0; 1001]));
        let turned = Packet {
            ext: Extensions { orientation: Some(1), ..Extensions::default() },
            ..packet(1, &[0; 998])
        };
        assert_eq!(frame.padding(&packet(1, &[0; 1000])), 1);
        assert_eq!(frame.padding(&packet(1, &[0; 1001])), 0);
        assert_eq!(frame.padding(&turned), 1, "its extension has two bytes");
        assert_eq!(frame.padding(&packet(1, &[0; 985])), 16);
        assert_eq!(frame.padding(&packet(1, &[0; 984])), 0, "a short last packet ends the message");
    }

    #[test]
    fn a_packet_alone_or_of_an_older_frame_is_not_padded() {
        let mut frame = NewestFrame::default();
        frame.add(&packet(1, &[0; 1000]));
        assert_eq!(frame.padding(&packet(1, &[0; 1000])), 0);
        frame.add(&packet(2, &[0; 900]));
        assert_eq!(frame.padding(&packet(1, &[0; 990])), 0);
        assert_eq!(frame.padding(&packet(2, &[0; 890])), 10);
    }
}
