#![no_main]
use libfuzzer_sys::fuzz_target;
use systir_media::rtp::{parse_link_packet, write_link_packet};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = parse_link_packet(bytes) {
        let mut written = Vec::new();
        write_link_packet(&packet.packet(u64::from(packet.seq)), packet.flow, &mut written);
        assert_eq!(parse_link_packet(&written), Ok(packet));
    }
});
