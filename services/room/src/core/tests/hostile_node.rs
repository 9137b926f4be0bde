//! A hostile spill node: it is approved for the room, so that its link stands, and writes what it likes.

use prost::Message as _;
use systir_documents::{MAX_TICKET_LIFE_MS, TicketPermission};
use systir_proto::cluster::v1 as wire;

use super::*;
use crate::{ParticipantRecord, ParticipantVersion, RecordState, Update};

/// The hostile node is sto-1.
const HOSTILE: usize = 1;

/// A room with anna in Copenhagen, bob at the hostile node and chen in Oslo; all came through cph-1.
fn lecture() -> Network {
    let mut network = Network::new(21);
    for (index, identity) in ["anna", "bob", "chen"].into_iter().enumerate() {
        network.arrive(index, "cph-1", grants(identity));
    }
    network.settle();
    network
}

impl Network {
    /// All records of the hostile node, as it would send them honestly.
    fn snapshot(&self) -> (u64, u64, Vec<ParticipantRecord>) {
        match self.nodes[HOSTILE].core.replica.snapshot().remove(0) {
            Update::Snapshot { incarnation, seq, records, .. } => (incarnation, seq, records),
            other => panic!("{other:?}"),
        }
    }

    /// The honest record of a participant at a node.
    fn record_at(&self, index: usize, identity: &str) -> ParticipantRecord {
        let Update::Snapshot { records, .. } = self.nodes[index].core.replica.snapshot().remove(0) else {
            panic!("no snapshot")
        };
        records.into_iter().find(|record| record.identity == identity).unwrap()
    }

    /// The hostile node sends an update to cph-1.
    fn send(&mut self, update: &Update) {
        let updates = vec![crate::wire::encode(update)];
        let body = Message::StateUpdate(wire::StateUpdate { updates, snapshot: false });
        self.input(0, RoomInput::Link(RoomLinkEvent::Message { node: "sto-1".to_owned(), body }));
    }

    /// The hostile node sends one record, alone and in a snapshot with bob's honest one and that of `dina`, who is new.
    fn send_record(&mut self, record: &ParticipantRecord) {
        let (incarnation, seq, mut records) = self.snapshot();
        let owner = "sto-1".to_owned();
        let alone =
            Update::Participant { owner: owner.clone(), incarnation, seq: seq + 1, record: record.clone() };
        self.send(&alone);
        records.retain(|known| known.sid != record.sid);
        records.push(record.clone());
        let dina = self.ticket(HOSTILE, "cph-1", &grants("dina"));
        records.push(record_of(&grants("dina"), &signed(dina)));
        self.send(&Update::Snapshot { owner, incarnation, seq: seq + 2, records });
    }

    /// The body of a participant in the replica of cph-1.
    fn record_shown(&self, identity: &str) -> bytes::Bytes {
        self.nodes[0].core.replica.by_identity(identity).unwrap().body
    }

    /// Sends a record, which cph-1 must refuse for this reason: only dina joins.
    fn assert_refused(&mut self, what: &str, record: &ParticipantRecord, reason: Reason) {
        let mut before = participants(&self.nodes[0]);
        before.remove("dina");
        let (clients, refused) = (self.nodes[0].clients.len(), self.refusals_at(0, reason));
        self.send_record(record);
        let mut after = participants(&self.nodes[0]);
        assert!(after.remove("dina").is_some(), "{what}: the rest of the snapshot was not applied");
        assert_eq!(after, before, "{what}");
        assert_eq!(self.nodes[0].clients.len(), clients, "{what}: a participant was evicted");
        assert_eq!(self.refusals_at(0, reason), refused + 2, "{what}: not counted as {reason}");
    }
}

fn body_of(grants: &Grants, sid: &str) -> bytes::Bytes {
    let info = proto::ParticipantInfo {
        sid: sid.to_owned(),
        identity: grants.identity.clone(),
        kind: grants.kind,
        permission: Some(grants.permission()),
        ..Default::default()
    };
    info.encode_to_vec().into()
}

/// A field of an encoded message that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    [field, content.to_vec()].concat()
}

/// The record of a participant with these grants and this ticket.
fn record_of(grants: &Grants, ticket: &SignedTicket) -> ParticipantRecord {
    let Ticket { participant_sid, join_number, .. } = ticket.ticket();
    ParticipantRecord {
        sid: participant_sid.clone(),
        identity: grants.identity.clone(),
        version: ParticipantVersion { epoch: *join_number, counter: 0 },
        state: RecordState::Live(body_of(grants, participant_sid)),
        ticket: Some(ticket.note().clone()),
    }
}

/// A record with a changed ticket, which `signer` signs.
fn forged(
    network: &mut Network,
    identity: &str,
    signer: &str,
    change: impl FnOnce(&mut Ticket),
) -> ParticipantRecord {
    let mut ticket = network.ticket(HOSTILE, "cph-1", &grants(identity));
    change(&mut ticket);
    record_of(&grants(identity), &SignedTicket::issue(ticket, &key_of(signer)).unwrap())
}

#[test]
fn it_cannot_invent_a_participant() {
    let mut network = lecture();
    let mut invented = forged(&mut network, "eve", "sto-1", |_| ());
    network.assert_refused("signed by itself in the gateway's name", &invented, Reason::TicketSignature);
    invented.ticket = None;
    network.assert_refused("without a ticket", &invented, Reason::TicketMissing);
    invented.ticket = Some("no ticket".into());
    network.assert_refused("with another text", &invented, Reason::TicketMalformed);
    // The ticket of another participant.
    invented.ticket = network.record_at(HOSTILE, "bob").ticket;
    network.assert_refused("with bob's ticket", &invented, Reason::TicketMismatch);
    invented.ticket = network.record_at(2, "chen").ticket;
    network.assert_refused("with chen's ticket", &invented, Reason::TicketMismatch);
}

#[test]
fn it_cannot_rename_a_participant() {
    let mut network = lecture();
    let mut renamed = network.record_at(HOSTILE, "bob");
    renamed.version.counter += 1;
    let honest = renamed.clone();
    renamed.identity = "emil".to_owned();
    network.assert_refused("another identity", &renamed, Reason::TicketMismatch);
    renamed.state = RecordState::Live(body_of(&grants("emil"), &honest.sid));
    network.assert_refused("another identity in all places", &renamed, Reason::TicketMismatch);
    renamed.identity = "bob".to_owned();
    network.assert_refused("another identity in the body", &renamed, Reason::TicketMismatch);
    let altered = String::from_utf8(honest.ticket.clone().unwrap().to_vec()).unwrap();
    renamed.identity = "emil".to_owned();
    renamed.ticket = Some(altered.replace("identity bob", "identity emil").into());
    network.assert_refused("an altered ticket", &renamed, Reason::TicketChanged);
    renamed.sid = "PA_other".to_owned();
    renamed.state = RecordState::Live(body_of(&grants("emil"), "PA_other"));
    let altered = altered.replace("identity bob", "identity emil").replace(&honest.sid, "PA_other");
    renamed.ticket = Some(altered.into());
    network.assert_refused("an altered ticket of a new join", &renamed, Reason::TicketSignature);
}

#[test]
fn it_cannot_evict_a_participant_of_another_node() {
    let mut network = lecture();
    let anna = network.record_at(0, "anna");
    let mut evicting = ParticipantRecord {
        sid: "PA_evil".to_owned(),
        version: ParticipantVersion { epoch: anna.version.epoch + 60_000, counter: 0 },
        state: RecordState::Live(body_of(&grants("anna"), "PA_evil")),
        ..anna.clone()
    };
    network.assert_refused("with anna's own ticket", &evicting, Reason::TicketMismatch);
    evicting.ticket = None;
    network.assert_refused("without a ticket", &evicting, Reason::TicketMissing);
    // A participant that joined later and left hides the earlier join.
    evicting.state = RecordState::Removed;
    network.assert_refused("by a tombstone", &evicting, Reason::TicketMissing);
    evicting.sid = anna.sid.clone();
    network.assert_refused("by a tombstone with anna's sid", &evicting, Reason::TicketMissing);
    let genuine = forged(&mut network, "anna", "cph-1", |_| ());
    let late = ParticipantRecord {
        version: ParticipantVersion { epoch: genuine.version.epoch + 1, counter: 0 },
        ..genuine
    };
    network.assert_refused("with a greater join number than its ticket's", &late, Reason::TicketMismatch);
}

#[test]
fn it_cannot_use_a_ticket_that_is_for_something_else_or_not_valid_now() {
    let mut network = lecture();
    let now = network.now.unix_ms;
    let from = |issued: u64, not_after: u64| {
        move |ticket: &mut Ticket| {
            (ticket.issued_ms, ticket.not_after_ms, ticket.join_number) = (issued, not_after, issued);
        }
    };
    let mut check = |what: &str, signer: &str, change: &dyn Fn(&mut Ticket), reason| {
        let record = forged(&mut network, "eve", signer, change);
        network.assert_refused(what, &record, reason);
    };
    let room = test_keys::room("exam").key();
    check("another room", "cph-1", &|ticket| ticket.room = room.clone(), Reason::TicketMismatch);
    let institution = |ticket: &mut Ticket| ticket.institution = "au.dk".to_owned();
    check("another institution", "cph-1", &institution, Reason::TicketMismatch);
    let sid = |ticket: &mut Ticket| ticket.room_sid = "RM_y".to_owned();
    check("an earlier room of that name", "cph-1", &sid, Reason::TicketMismatch);
    let media_node = |ticket: &mut Ticket| ticket.media_node = "osl-1".to_owned();
    check("another media node", "cph-1", &media_node, Reason::TicketMismatch);
    let unapproved = |ticket: &mut Ticket| ticket.gateway = "aws-sto-1".to_owned();
    check("a gateway that policy denies", "aws-sto-1", &unapproved, Reason::TicketGateway);
    let unlisted = |ticket: &mut Ticket| ticket.gateway = "nowhere-1".to_owned();
    check("a gateway that no directory lists", "nowhere-1", &unlisted, Reason::TicketGateway);
    check("a key of another node", "osl-1", &|_| (), Reason::TicketSignature);
    check("a key that no directory lists", "unlisted-1", &|_| (), Reason::TicketSignature);
    let old = from(now - 480_001, now - 480_001 + MAX_TICKET_LIFE_MS);
    check("an old ticket", "cph-1", &old, Reason::TicketNotCurrent);
    let early = from(now + 300_001, now + 300_001 + MAX_TICKET_LIFE_MS);
    check("a ticket of the future", "cph-1", &early, Reason::TicketNotCurrent);
    check("an expired ticket", "cph-1", &from(now - 10, now), Reason::TicketExpired);
}

#[test]
fn it_cannot_be_its_own_gateway_where_policy_denies_that() {
    let mut network = lecture();
    network.replace_policy(0, &with_rule(policy_changes::NO_GATEWAY_IN_SWEDEN));
    let own = forged(&mut network, "eve", "sto-1", |ticket| ticket.gateway = "sto-1".to_owned());
    network.assert_refused("itself as gateway", &own, Reason::TicketGateway);
}

#[test]
fn it_cannot_give_a_participant_more_than_its_ticket_says() {
    let mut network = lecture();
    let with = |change: fn(&mut Grants)| {
        let mut more = grants("bob");
        change(&mut more);
        more
    };
    let bob = network.record_at(HOSTILE, "bob");
    for (what, more) in [
        ("hidden", with(|more| more.hidden = true)),
        ("recorder", with(|more| more.recorder = true)),
        ("kind", with(|more| more.kind = proto::participant_info::Kind::Agent as i32)),
        ("agent", with(|more| more.agent = true)),
    ] {
        let state = RecordState::Live(body_of(&more, &bob.sid));
        let version = ParticipantVersion { counter: bob.version.counter + 1, ..bob.version };
        let record = ParticipantRecord { state, version, ticket: None, ..bob.clone() };
        network.assert_refused(what, &record, Reason::TicketExceeded);
    }
    let viewer = |ticket: &mut Ticket| ticket.permissions.retain(|one| *one != TicketPermission::Publish);
    let publishes = forged(&mut network, "eve", "cph-1", viewer);
    network.assert_refused("publish", &publishes, Reason::TicketExceeded);
    let silent = |ticket: &mut Ticket| ticket.sources = Some([].into());
    let all_sources = forged(&mut network, "eve", "cph-1", silent);
    network.assert_refused("sources", &all_sources, Reason::TicketExceeded);
}

#[test]
fn it_cannot_show_a_participant_that_takes_much_more_memory_than_its_bytes() {
    let mut network = lecture();
    let bob = network.record_at(HOSTILE, "bob");
    let RecordState::Live(honest) = &bob.state else { panic!("bob has left") };
    // Numbers of fields: a participant's tracks and attributes, a track's layers and codecs.
    let codecs = field(13, &field(4, &[]).repeat(50)).repeat(50);
    let attributes: Vec<u8> = (0..40_000).flat_map(|_| field(15, &[])).collect();
    for (what, more) in [
        ("tracks", field(4, &[]).repeat(10_000)),
        ("layers of a track", field(4, &field(10, &[]).repeat(10_000))),
        ("codecs of a track", field(4, &codecs)),
        ("attributes", attributes),
        // It is not decoded: it is no message.
        ("bytes", vec![0xff; crate::MAX_BODY]),
    ] {
        let state = RecordState::Live([&honest[..], &more].concat().into());
        let version = ParticipantVersion { counter: bob.version.counter + 1, ..bob.version };
        let record = ParticipantRecord { state, version, ticket: None, ..bob.clone() };
        let too_large = |network: &Network| {
            let refusals = &network.nodes[0].core.config.metrics.link_refusals;
            refusals.get_or_create(&Reason::StateTooLarge.into()).get()
        };
        let refused = too_large(&network);
        network.send_record(&record);
        assert_eq!(too_large(&network), refused + 2, "{what}: alone and in a snapshot");
        let shown = network.record_shown("bob");
        assert_eq!(shown, *honest, "{what}");
        assert!(participants(&network.nodes[0]).contains_key("dina"), "{what}: the rest of the snapshot");
    }
}

#[test]
fn it_cannot_have_one_participant_shown_very_often_by_one_message() {
    let mut network = lecture();
    let (incarnation, seq, _) = network.snapshot();
    let bob = network.record_at(HOSTILE, "bob");
    let RecordState::Live(honest) = &bob.state else { panic!("bob has left") };
    let mut info = proto::ParticipantInfo::decode(honest.clone()).unwrap();
    let mut update = |number: u32| {
        info.metadata = number.to_string();
        let version = ParticipantVersion { counter: bob.version.counter + number, ..bob.version };
        let state = RecordState::Live(info.encode_to_vec().into());
        let record = ParticipantRecord { state, version, ticket: None, ..bob.clone() };
        let (owner, seq) = ("sto-1".to_owned(), seq + u64::from(number));
        crate::wire::encode(&Update::Participant { owner, incarnation, seq, record })
    };
    let updates = (1..=1_000).map(&mut update).collect();
    let body = Message::StateUpdate(wire::StateUpdate { updates, snapshot: false });
    let message = RoomInput::Link(RoomLinkEvent::Message { node: "sto-1".to_owned(), body });
    let now = network.now;
    let core = &mut network.nodes[0].core;
    core.handle(message, now);
    let told = std::iter::from_fn(|| core.poll_effect()).filter_map(|effect| match effect {
        RoomEffect::Signal { response, .. } => match response.message {
            Some(signal_response::Message::Update(update)) => Some(update.participants),
            _ => None,
        },
        _ => None,
    });
    let shown: Vec<String> = told.flatten().map(|info| info.metadata).collect();
    assert_eq!(shown, ["1000"]);
}

#[test]
fn it_cannot_show_a_participant_again_that_has_left() {
    let mut network = lecture();
    let mut bob = network.record_at(HOSTILE, "bob");
    let key = *network.nodes[HOSTILE].clients.keys().next().unwrap();
    network.input(HOSTILE, RoomInput::SignalClosed(key));
    network.settle();
    assert!(!participants(&network.nodes[0]).contains_key("bob"));
    bob.version.counter += 10;
    network.assert_refused("a later write", &bob, Reason::TicketReplayed);
    // Nor as after a restart: the room is opened again, and its first snapshot has another incarnation.
    network.close(0, HOSTILE);
    network.input(0, RoomInput::Link(RoomLinkEvent::Opened { node: "sto-1".to_owned(), link: 9 }));
    let (owner, replayed) = ("sto-1".to_owned(), network.refusals_at(0, Reason::TicketReplayed));
    network.send(&Update::Snapshot { owner, incarnation: 99, seq: 1, records: vec![bob] });
    assert_eq!(participants(&network.nodes[0]).keys().collect::<Vec<_>>(), ["anna", "chen"]);
    assert_eq!(network.refusals_at(0, Reason::TicketReplayed), replayed + 1);
}
