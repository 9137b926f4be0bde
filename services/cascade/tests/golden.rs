//! Compares the datagrams of links with committed ones.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use bytes::BytesMut;
use prost::Message as _;
use systir_cascade::frame::{self, Frame};
use systir_cascade::{FlowId, FlowNumbers, Parity};
use systir_golden::Golden;
use systir_proto::cluster::v1::room_message::Body;
use systir_proto::cluster::v1::{LossyData, RoomMessage};
use systir_version::VersionRange;

#[test]
fn datagrams_of_links_are_written_and_read_as_their_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
    golden.check("heartbeat.hex", &frame::heartbeat(), |_, bytes| {
        assert_eq!(Frame::parse(bytes), Some(Frame::Heartbeat));
    });
    let flow: FlowId = FlowNumbers::new(Parity::Greater).allocate(3).unwrap();
    let packet = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9];
    let mut out = BytesMut::new();
    frame::write_packet(&mut out, flow, &packet);
    golden.check("packet.hex", &out, |_, bytes| {
        assert_eq!(Frame::parse(bytes), Some(Frame::Packet { flow, packet: &packet }));
    });
    let halves = frame::split(&[7; 40], 258, 30).unwrap();
    golden.check("halves.hex", &halves.concat(), |_, bytes| {
        let (first, second) = bytes.split_at(halves[0].len());
        let parts = [first, second].map(|half| match Frame::parse(half) {
            Some(Frame::Part { id: 258, second, body }) => (second, body.to_vec()),
            other => panic!("{other:?}"),
        });
        let [(false, one), (true, two)] = parts else { panic!("{parts:?}") };
        assert_eq!([one, two].concat(), [7; 40]);
    });
    let data =
        LossyData { sender_sid: "PA_anna".to_owned(), packet: vec![1, 2].into(), ..LossyData::default() };
    let message = RoomMessage { room: "a3UuZGs/board".to_owned(), body: Some(Body::LossyData(data)) };
    golden.check("message.hex", &frame::message(&message), |_, bytes| match Frame::parse(bytes) {
        Some(Frame::Message(encoded)) => assert_eq!(RoomMessage::decode(encoded).as_ref(), Ok(&message)),
        other => panic!("{other:?}"),
    });
    // Those of unit tests too.
    golden.check_names(&[
        "bind-request.hex",
        "node-key-proof.hex",
        "heartbeat.hex",
        "packet.hex",
        "halves.hex",
        "message.hex",
    ]);
}
