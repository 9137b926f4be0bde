#![no_main]

use libfuzzer_sys::fuzz_target;
use systir_transport::{
    rtcp::{Packet, parse},
    twcc::Feedback,
};

fuzz_target!(|data: &[u8]| {
    for packet in parse(data) {
        match packet {
            Packet::Nack { seqs, .. } => assert!(seqs.count() <= 17 * data.len()),
            Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                assert!(blocks.count() < 32);
            }
            Packet::TransportCc { fci } => {
                if let Some(feedback) = Feedback::parse(fci) {
                    assert!(feedback.packets().count() <= 65_535);
                }
            }
            _ => {}
        }
    }
});
