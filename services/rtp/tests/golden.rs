//! Compares packets on links with committed ones: all header extensions of the table.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use systir_golden::Golden;
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Packet};
use systir_rtp::{parse_link_packet, write_link_packet};
use systir_version::VersionRange;

#[test]
fn packets_on_links_are_written_and_read_as_their_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
    let capture_time = [1, 2, 3, 4, 5, 6, 7, 8];
    let ext = Extensions {
        audio_level: Some(AudioLevel { voice: true, level: 30 }),
        capture_time: Some(&capture_time),
        orientation: Some(1),
        dependency: Some(&[0x80, 0, 1]),
        playout_delay: Some([0, 0x10, 0x20]),
    };
    let names = Codec::ALL.map(|codec| format!("link-{}.hex", format!("{codec:?}").to_lowercase()));
    for (codec, name) in Codec::ALL.into_iter().zip(&names) {
        let packet =
            Packet { codec, seq: 0x1_0203, timestamp: 0x0405_0607, marker: true, ext, payload: &[9, 8, 7] };
        let mut written = Vec::new();
        write_link_packet(&packet, 33, &mut written);
        golden.check(name, &written, |_, bytes| {
            let read = parse_link_packet(bytes).unwrap();
            assert_eq!((read.flow, read.packet(0x1_0203)), (33, packet), "{name}");
        });
    }
    golden.check_names(&names.each_ref().map(String::as_str));
}
