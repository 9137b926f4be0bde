//! Seeds of messages between nodes, and of clients' signalling.

use livekit_protocol as proto;
use prost::Message;
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::room_message::Body;
use systir_room_tag::test_keys;
use systir_rtp::extension_table;

use super::{Seed, piece};

fn room() -> String {
    test_keys::room("lecture").key()
}

fn grant() -> String {
    include_str!("../../../../../services/documents/tests/golden/1/grant.note").to_owned()
}

fn told() -> wire::RoomAssignment {
    let spill = vec![wire::CarryingNode { node: "sto-1".to_owned(), since_ms: 1_800_000_000_000 }];
    wire::RoomAssignment { grant: grant(), spill, created_ms: 1_800_000_000_000 }
}

fn refused(code: wire::RefusalCode) -> wire::ReserveRefused {
    wire::ReserveRefused {
        code: code.into(),
        reason: "cph-1 is full".to_owned(),
        rules: vec!["ku-dk-spill-1".to_owned()],
        assignment: Some(told()),
    }
}

fn calls() -> Vec<(&'static str, Vec<u8>)> {
    let reserve = wire::ReserveRequest {
        room: room(),
        join_id: "join-1".to_owned(),
        identity: "ada".to_owned(),
        grant: grant(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ..Default::default()
    };
    let ask = wire::GrantRequest {
        room: room(),
        purpose: wire::GrantPurpose::Create.into(),
        traceparent: reserve.traceparent.clone(),
        ..Default::default()
    };
    let reply = |result| wire::ReserveReply { result: Some(result) }.encode_to_vec();
    let granted = |result| wire::GrantReply { result: Some(result) }.encode_to_vec();
    vec![
        ("reserve", reserve.encode_to_vec()),
        ("ask-grant", ask.encode_to_vec()),
        (
            "admitted",
            reply(wire::reserve_reply::Result::Admitted(wire::Admitted { ttl_seconds: 10, last_join: 7 })),
        ),
        ("refused", reply(wire::reserve_reply::Result::Refused(refused(wire::RefusalCode::Full)))),
        ("told", granted(wire::grant_reply::Result::Assignment(told()))),
        ("no-grant", granted(wire::grant_reply::Result::Refused(refused(wire::RefusalCode::Policy)))),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let session = |body| wire::SessionMessage { body: Some(body) }.encode_to_vec();
    let document = wire::DocumentVersion {
        kind: wire::DocumentKind::Bundle.into(),
        owner: "ku.dk".to_owned(),
        version: 7,
        hash: vec![7; 32].into(),
    };
    use wire::session_message::Body as Session;
    let open = wire::OpenRoom { room: room(), epoch: 1, policy_version: 7, grant: grant() };
    let renew = wire::RenewRequest { connection: vec![1; 32].into() };
    let fetch = wire::FetchDocumentRequest {
        kind: document.kind,
        owner: document.owner.clone(),
        version: document.version,
    };
    let documents = wire::DocumentList { documents: vec![document] };
    let hello = session(Session::Hello(wire::Hello {
        version: systir_proto::LINK_VERSION,
        extension_table: extension_table::VERSION,
        link_id: vec![1; 16].into(),
        node: "spiffe://nordu.net/relay/sto-1".to_owned(),
        connections: 2,
    }));
    let header =
        [&[0], u32::try_from(hello.len()).expect("a short message").to_be_bytes().as_slice()].concat();
    let of_room = |body| session(Session::Room(wire::RoomMessage { room: room(), body: Some(body) }));
    let links = ["cph-1", "sto-1"].map(|node| wire::RoomLink { node: node.to_owned(), open: true });
    let level = |level| wire::Speaker { level, ..Default::default() };
    let data = wire::LossyData {
        destination_identities: vec!["ada".to_owned(), "bo".to_owned()],
        ..Default::default()
    };
    vec![
        ("first", [header, hello.clone()].concat()),
        ("hello-accepted", hello),
        ("links", of_room(Body::Links(wire::RoomLinks { links: links.into() }))),
        ("speakers", of_room(Body::Speakers(wire::Speakers { speakers: vec![level(0.5), level(f32::NAN)] }))),
        ("assignment", of_room(Body::Assignment(told()))),
        ("lossy-data", of_room(Body::LossyData(data))),
        ("open-room", session(Session::OpenRoom(open))),
        ("documents", documents.encode_to_vec()),
        ("session-documents", session(Session::Documents(documents))),
        ("renew", renew.encode_to_vec()),
        ("fetch", fetch.encode_to_vec()),
    ]
}

/// A message of another node, with the step that passes it.
fn step(body: Body) -> Vec<u8> {
    let message = wire::RoomMessage { room: room(), body: Some(body) };
    [&[5, 0], piece(&message.encode_to_vec()).as_slice()].concat()
}

/// What another node sends when its participant joins. The order of attributes in it is random.
pub(super) fn random() -> Vec<Seed> {
    let own = systir_fuzz::room::messages_of_second_node();
    let own = own.into_iter().filter_map(|message| message.body).map(step).collect::<Vec<_>>().concat();
    vec![
        ("room_link", "own-messages".to_owned(), own.clone()),
        ("room_link", "opened-again".to_owned(), [vec![2, 0, 0, 50, 1, 9], own].concat()),
        ("room_update", "own-updates".to_owned(), updates()),
    ]
}

/// Other messages of that node.
fn room_link() -> Vec<(&'static str, Vec<u8>)> {
    let (track_sid, participant_sid) = ("TR_1".to_owned(), "PA_2".to_owned());
    let speaker = wire::Speaker {
        participant_sid: participant_sid.clone(),
        track_sid: track_sid.clone(),
        level: 0.5,
        active: true,
    };
    let quality = wire::Quality { participant_sid, quality: 2, score: 4.5 };
    let links = wire::RoomLinks { links: vec![wire::RoomLink { node: "cph-1".to_owned(), open: true }] };
    let data = data_packet("bo", "PA_2");
    let small = [
        Body::Subscribe(wire::Subscribe { track_sid: track_sid.clone(), layer: 1, flow: 70 }),
        Body::KeyFrame(wire::KeyFrame { track_sid: track_sid.clone(), layer: 1 }),
        Body::Unsubscribe(wire::Unsubscribe { track_sid, layer: 1 }),
        Body::Speakers(wire::Speakers { speakers: vec![speaker] }),
        Body::Qualities(wire::Qualities { qualities: vec![quality] }),
        Body::SlowData(wire::SlowData { slow: true }),
        Body::Links(links),
        Body::Assignment(told()),
    ];
    let small = small.into_iter().map(step).collect::<Vec<_>>().concat();
    let arrives = |number: u8| [&[3, number], piece(&data).as_slice()].concat();
    vec![("small-messages", small), ("data", [arrives(0), arrives(1), vec![0, 100]].concat())]
}

fn updates() -> Vec<u8> {
    let own = systir_fuzz::room::messages_of_second_node();
    let updates = own.into_iter().filter_map(|message| match message.body {
        Some(Body::StateUpdate(update)) => Some(update.updates),
        _ => None,
    });
    updates.flatten().flat_map(|update| piece(&update)).collect()
}

#[allow(deprecated)]
fn data_packet(identity: &str, sid: &str) -> Vec<u8> {
    let user = proto::UserPacket {
        payload: b"hello".to_vec(),
        topic: Some("chat".to_owned()),
        ..Default::default()
    };
    proto::DataPacket {
        participant_identity: identity.to_owned(),
        participant_sid: sid.to_owned(),
        value: Some(proto::data_packet::Value::User(user)),
        ..Default::default()
    }
    .encode_to_vec()
}

fn signal() -> Vec<u8> {
    use proto::signal_request::Message as Request;
    let requests = [
        Request::Mute(proto::MuteTrackRequest { sid: "TR_1".to_owned(), muted: true }),
        Request::AddTrack(proto::AddTrackRequest {
            cid: "c1".to_owned(),
            name: "camera".to_owned(),
            ..Default::default()
        }),
        Request::Subscription(proto::UpdateSubscription {
            track_sids: vec!["TR_100".to_owned()],
            subscribe: true,
            ..Default::default()
        }),
        Request::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec!["TR_101".to_owned()],
            width: 640,
            height: 360,
            ..Default::default()
        }),
        Request::UpdateMetadata(proto::UpdateParticipantMetadata {
            name: "Ada L".to_owned(),
            ..Default::default()
        }),
        Request::Ping(7),
        Request::Leave(proto::LeaveRequest::default()),
    ];
    let steps = requests.into_iter().map(|message| {
        let request = proto::SignalRequest { message: Some(message) }.encode_to_vec();
        [&[2, 1], piece(&request).as_slice()].concat()
    });
    steps.collect::<Vec<_>>().concat()
}

pub(super) fn all() -> Vec<Seed> {
    let named = |target: &'static str, seeds: Vec<(&'static str, Vec<u8>)>| {
        seeds.into_iter().map(move |(name, bytes)| (target, name.to_owned(), bytes)).collect::<Vec<_>>()
    };
    [
        named("calls", calls()),
        named("messages", messages()),
        named("room_link", room_link()),
        named("data", vec![("topic", data_packet("ada", "PA_ada"))]),
        named("signal", vec![("requests", signal())]),
    ]
    .concat()
}
