//! Compares the bytes of each message between nodes with committed ones, with each field and each choice of a `oneof` in use.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use std::collections::HashMap;
use std::fmt::Debug;

use prost::Message;
use systir_golden::Golden;
use systir_proto::LINK_VERSION;
use systir_proto::cluster::v1::*;
use systir_version::VersionRange;

/// The fixtures, and the names of those that were checked.
struct Messages {
    golden: Golden,
    checked: Vec<String>,
}

impl Messages {
    fn check<M: Message + PartialEq + Default + Debug>(&mut self, name: &str, message: &M) {
        let name = format!("{name}.hex");
        self.golden.check(&name, &message.encode_to_vec(), |version, bytes| {
            assert_eq!(M::decode(bytes).as_ref(), Ok(message), "{name} of version {version}");
            // A field of a later version is ignored: number 1000, of two bytes.
            let longer = [bytes, &[0xc2, 0x3e, 2, 7, 7]].concat();
            assert_eq!(M::decode(&*longer).as_ref(), Ok(message), "{name} of version {version}, longer");
        });
        self.checked.push(name);
    }

    fn session(&mut self, name: &str, body: session_message::Body) {
        self.check(&format!("session-{name}"), &SessionMessage { body: Some(body) });
    }

    fn room(&mut self, name: &str, body: room_message::Body) {
        self.check(&format!("room-{name}"), &RoomMessage { room: room(), body: Some(body) });
    }

    fn signal(&mut self, name: &str, seq: u64, body: signal_message::Body) {
        self.check(&format!("signal-{name}"), &SignalMessage { seq, body: Some(body) });
    }
}

fn room() -> String {
    "a3UuZGs/bGVjdHVyZQ".to_owned()
}

fn grant() -> String {
    "systir.org/grant/v1\n...\n".to_owned()
}

fn assignment() -> RoomAssignment {
    let spill = vec![CarryingNode { node: "sto-1".to_owned(), since_ms: 1_795_939_200_001 }];
    RoomAssignment { grant: grant(), spill, created_ms: 1_795_939_200_000 }
}

fn refused() -> ReserveRefused {
    ReserveRefused {
        code: RefusalCode::Policy.into(),
        reason: "why".to_owned(),
        rules: vec!["ku-spill-cloud".to_owned(), "eea".to_owned()],
        assignment: Some(assignment()),
    }
}

fn traceparent() -> String {
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()
}

fn documents() -> DocumentList {
    let kinds = [DocumentKind::Bundle, DocumentKind::Floor, DocumentKind::Directory];
    let documents = kinds.into_iter().zip(7..).map(|(kind, version)| DocumentVersion {
        kind: kind.into(),
        owner: "ku.dk".to_owned(),
        version,
        hash: vec![9; 32].into(),
    });
    DocumentList { documents: documents.collect() }
}

fn record() -> StateRecord {
    StateRecord {
        sid: "PA_anna".to_owned(),
        identity: "anna".to_owned(),
        join_number: 1_795_939_200_000,
        counter: 3,
        body: Some(vec![10, 7, b'P', b'A', b'_', b'a', b'n', b'n', b'a'].into()),
        ticket: "systir.org/ticket/v1\n...\n".into(),
    }
}

#[test]
fn messages_between_nodes_are_written_and_read_as_their_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let golden = Golden::new(env!("CARGO_PKG_NAME"), folder, VersionRange::OWN);
    let mut messages = Messages { golden, checked: Vec::new() };
    sessions(&mut messages);
    rooms(&mut messages);
    calls(&mut messages);
    signalling(&mut messages);
    let names: Vec<&str> = messages.checked.iter().map(String::as_str).collect();
    messages.golden.check_names(&names);
}

fn sessions(messages: &mut Messages) {
    use session_message::Body;
    let hello = Hello {
        version: LINK_VERSION,
        extension_table: 1,
        link_id: vec![9; 16].into(),
        node: "spiffe://nordu.net/relay/cph-1".to_owned(),
        connections: 2,
    };
    messages.session("hello", Body::Hello(hello));
    let open = OpenRoom { room: room(), epoch: 3, policy_version: 7, grant: grant() };
    messages.session("open-room", Body::OpenRoom(open));
    messages.session("room-opened", Body::RoomOpened(RoomOpened { room: room() }));
    let refused = RoomRefused { room: room(), reason: "why".to_owned(), rules: vec!["eea".to_owned()] };
    messages.session("room-refused", Body::RoomRefused(refused));
    messages.session("close-room", Body::CloseRoom(CloseRoom { room: room() }));
    let message =
        RoomMessage { room: room(), body: Some(room_message::Body::SlowData(SlowData { slow: true })) };
    messages.session("room", Body::Room(message));
    messages.session("goodbye", Body::Goodbye(Goodbye { reason: "no room needs it".to_owned() }));
    messages.session("documents", Body::Documents(documents()));
}

fn rooms(messages: &mut Messages) {
    use room_message::Body;
    let write = StateWrite {
        owner: "cph-1".to_owned(),
        incarnation: 77,
        seq: 5,
        snapshot: true,
        records: vec![record(), StateRecord { body: None, ticket: Vec::new().into(), ..record() }],
    };
    let metadata = StateMetadata {
        home: "cph-1".to_owned(),
        epoch: 3,
        incarnation: 77,
        counter: 2,
        value: "topic".into(),
    };
    let write = RoomUpdate { body: Some(room_update::Body::Write(write)) };
    let metadata = RoomUpdate { body: Some(room_update::Body::Metadata(metadata)) };
    messages.check("state-write", &write);
    messages.check("state-metadata", &metadata);
    let updates = vec![write.encode_to_vec().into(), metadata.encode_to_vec().into()];
    messages.room("state-update", Body::StateUpdate(StateUpdate { updates, snapshot: true }));
    let track_sid = || "TR_camera".to_owned();
    messages.room("subscribe", Body::Subscribe(Subscribe { track_sid: track_sid(), layer: 2, flow: 33 }));
    messages.room("unsubscribe", Body::Unsubscribe(Unsubscribe { track_sid: track_sid(), layer: 2 }));
    messages.room("key-frame", Body::KeyFrame(KeyFrame { track_sid: track_sid(), layer: 1 }));
    let (sender_sid, packet) = (|| "PA_anna".to_owned(), || vec![1, 2, 3].into());
    let destination_identities = || vec!["bo".to_owned()];
    let reliable = ReliableData {
        sender_sid: sender_sid(),
        packet: packet(),
        destination_identities: destination_identities(),
    };
    messages.room("reliable-data", Body::ReliableData(reliable));
    let lossy = LossyData {
        sender_sid: sender_sid(),
        packet: packet(),
        destination_identities: destination_identities(),
    };
    messages.room("lossy-data", Body::LossyData(lossy));
    let speaker = Speaker { participant_sid: sender_sid(), track_sid: track_sid(), level: 0.5, active: true };
    messages.room("speakers", Body::Speakers(Speakers { speakers: vec![speaker] }));
    let links = vec![RoomLink { node: "sto-1".to_owned(), open: true }];
    messages.room("links", Body::Links(RoomLinks { links }));
    messages.room("assignment", Body::Assignment(assignment()));
    messages.room("ticket", Body::Ticket("systir.org/ticket/v1\n...\n".into()));
    messages.room("slow-data", Body::SlowData(SlowData { slow: true }));
    let quality = Quality { participant_sid: sender_sid(), quality: 2, score: 4.5 };
    messages.room("qualities", Body::Qualities(Qualities { qualities: vec![quality] }));
}

fn calls(messages: &mut Messages) {
    let asked = GrantRequest {
        room: room(),
        grant: grant(),
        purpose: GrantPurpose::TakeOver.into(),
        traceparent: traceparent(),
    };
    messages.check("grant-request", &asked);
    let told = GrantReply { result: Some(grant_reply::Result::Assignment(assignment())) };
    messages.check("grant-reply", &told);
    messages.check("grant-refused", &GrantReply { result: Some(grant_reply::Result::Refused(refused())) });
    let reserve = ReserveRequest {
        room: room(),
        join_id: "j-1".to_owned(),
        traceparent: traceparent(),
        identity: "anna".to_owned(),
        grant: grant(),
        probe: true,
    };
    messages.check("reserve-request", &reserve);
    let admitted = Admitted { ttl_seconds: 10, last_join: 1_795_939_200_000 };
    messages
        .check("reserve-admitted", &ReserveReply { result: Some(reserve_reply::Result::Admitted(admitted)) });
    messages
        .check("reserve-refused", &ReserveReply { result: Some(reserve_reply::Result::Refused(refused())) });
    messages.check("release-request", &ReleaseRequest { room: room(), join_id: "j-1".to_owned() });
    messages.check("release-reply", &ReleaseReply {});
    messages.check("heartbeat-request", &HeartbeatRequest {});
    messages.check("heartbeat-reply", &HeartbeatReply {});
    messages.check("renew-request", &RenewRequest { connection: vec![9; 32].into() });
    messages.check("renew-reply", &RenewReply {});
    let kind = DocumentKind::Bundle.into();
    messages.check("fetch-document", &FetchDocumentRequest { kind, owner: "ku.dk".to_owned(), version: 7 });
    messages.check("document-part", &DocumentPart { bytes: "systir.org/bundle/v1\n".into() });
}

fn signalling(messages: &mut Messages) {
    use signal_message::Body;
    let start = SignalStart {
        room: room(),
        join_id: "j-1".to_owned(),
        claims_json: "{}".to_owned(),
        client_info: vec![8, 1].into(),
        query: HashMap::from([("auto_subscribe".to_owned(), "1".to_owned())]),
        resume_sid: "PA_before".to_owned(),
        traceparent: traceparent(),
        grant: grant(),
        ticket: "systir.org/ticket/v1\n...\n".into(),
    };
    messages.signal("start", 0, Body::Start(start));
    messages.signal("payload", 1, Body::Payload(vec![1, 2, 3].into()));
    messages.signal("ticket", 2, Body::Ticket("systir.org/ticket/v1\n...\n".into()));
    let reason = SignalEndReason::Draining.into();
    messages.signal("end", 3, Body::End(SignalEnd { reason, detail: "why".to_owned() }));
}

/// The names of messages, by the protocol's text: each is in a fixture, alone or inside another one.
#[test]
fn each_message_of_the_protocol_has_a_fixture() {
    let text = include_str!("../systir/cluster/v1/cluster.proto");
    let declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("message ")?.split_whitespace().next()).collect();
    let test = include_str!("golden.rs");
    let missing: Vec<&&str> = declared.iter().filter(|name| !test.contains(&format!("{name} {{"))).collect();
    assert!(declared.len() > 40 && missing.is_empty(), "no fixture has {missing:?}");
}
