//! A subscriber whose video has no RTX stream: a lost packet is sent again as it was.

use systir_media_control::Side;

use crate::client::run_until;
use crate::harness::{Camera, Harness};
use crate::{ALICE, BOB, Duration, Instant, connect};

#[test]
fn a_lost_packet_of_an_uneven_frame_is_sent_again() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    let (_, mut bob) = harness.join(BOB);
    harness.publish(ALICE, &mut alice);
    harness.subscribe_with(BOB, &mut bob, None);
    connect(&mut harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    let (mut seen, mut lost) = (0, None);
    let (lost_sender, lost_receiver) = std::sync::mpsc::channel();
    bob.lose(move |bytes| {
        let is_camera = bytes.len() > 12 && bytes[0] >> 6 == 2 && bytes[1] & 0x7F == 96;
        seen += usize::from(is_camera);
        // The second packet of a frame, which is shorter than the last one.
        if is_camera && seen == 14 && lost.is_none() {
            let seq = u16::from_be_bytes([bytes[2], bytes[3]]);
            lost = Some(seq);
            lost_sender.send(seq).unwrap();
            return true;
        }
        false
    });
    let mut camera = Camera::default();
    camera.is_uneven = true;
    let (mut next, mut missing) = (Instant::now(), None);
    run_until(&mut [&mut alice, &mut bob], "the lost packet", |clients| {
        if Instant::now() >= next {
            next = Instant::now() + Duration::from_millis(20);
            camera.step(clients[0]);
        }
        missing = missing.or_else(|| lost_receiver.try_recv().ok());
        let camera = clients[1].packets(6000);
        missing.is_some_and(|seq| camera.iter().any(|packet| packet.header.sequence_number == seq))
    });
    harness.wait_counts("a retransmission", |counts| counts.nacked >= 1 && counts.retransmitted >= 1);
}
