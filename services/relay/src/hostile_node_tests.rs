//! A hostile node that signs, asks and tells what it may not, against whole honest nodes: they and their participants
//! notice nothing.

use systir_cascade::CallError;
use systir_proto::cluster::v1::GrantPurpose as Purpose;

use super::hostile_node::HostileNode;
use super::*;

impl TestCluster {
    /// Lists the third node as the operator's own machine, so that policy approves it like sto-1.
    pub(super) fn approve_third_node(&self) {
        let note = self.documents.directory(1, |directory| {
            for node in directory.nodes.iter_mut().filter(|node| node.id == "aws-sto-1") {
                (node.host, node.host_controlled_from) = ("nordunet".to_owned(), "DK".to_owned());
            }
        });
        self.publish("directory.note", &note.unwrap());
    }

    /// Denies each node outside Denmark the role of a gateway.
    pub(super) fn deny_gateways_outside_denmark(&self) {
        self.publish_rules(1, |rules| {
            let at = rules.rfind(r#"resource.country in Zone::"Nordic""#).unwrap();
            let (before, after) = rules.split_at(at);
            before.to_owned()
                + &after.replacen(
                    r#"resource.country in Zone::"Nordic""#,
                    r#"resource.country == Country::"DK""#,
                    1,
                )
        });
    }

    /// Signs the room's grant with the key of a hostile node, which names itself home.
    pub(super) fn forged(&self, hostile: &str, held: &Grant, change: impl FnOnce(&mut Grant)) -> String {
        let all = || ["cph-1", "sto-1", "aws-sto-1"].map(str::to_owned).into();
        let forged = self.granted_with(hostile, held.epoch, |grant| {
            grant.sid.clone_from(&held.sid);
            (grant.terms.homes, grant.terms.spill, grant.terms.gateways) = (all(), all(), all());
            grant.successor_of.clone_from(&held.successor_of);
            change(grant);
        });
        forged.grant
    }

    /// Signs tickets with the key of a node.
    pub(super) fn issuer_of(&self, node: &str) -> TicketIssuer {
        let key = self.documents.node_key(node).unwrap().to_text();
        TicketIssuer {
            node: node.to_owned(),
            key: key.parse::<systir_documents::SigningKey>().unwrap().into(),
            key_changes: tokio::sync::watch::channel(0).1,
            tasks: TaskTracker::new(),
            signed: prometheus_client::metrics::counter::Counter::default(),
        }
    }

    /// The grant in a note of an honest home.
    pub(super) fn read(&self, note: &str) -> Grant {
        let keys = |home: &str| vec![self.documents.node_key(home).unwrap().public()];
        SignedGrant::verify(note, keys).unwrap().grant().clone()
    }
}

/// A counter of the node with a label `reason`.
pub(super) fn counted(node: &Node, counter: &str, reason: Reason) -> u64 {
    let (mut text, registry) = (String::new(), node.parts.metrics.registry(&node.parts.assignments));
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let name = format!("systir_{counter}_total{{reason=\"{}\"}} ", reason.as_str());
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or_default()
}

/// Waits until the node has counted more than `before`.
pub(super) async fn until_counted(node: &Node, counter: &str, reason: Reason, before: u64) {
    let more = async {
        while counted(node, counter, reason) <= before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let more = tokio::time::timeout(TIMEOUT, more).await;
    assert!(more.is_ok(), "{} counts no {counter} with {reason}", node.name);
}

/// The home that a node follows.
pub(super) fn home_of(node: &Node) -> (String, String) {
    let known = node.parts.assignments.get(&room()).unwrap();
    (known.home.to_string(), known.sid)
}

impl TestParticipant {
    /// Has it seen these other participants and no more, and no one leave?
    pub(super) fn saw_only(&mut self, others: &[&str]) {
        while let Ok(response) = self.pipe.from_media.try_recv() {
            self.received.extend(response.message);
        }
        const GONE: i32 = livekit_protocol::participant_info::State::Disconnected as i32;
        let ended = |message: &ServerMessage| match message {
            ServerMessage::Leave(_) => true,
            ServerMessage::Update(update) => update.participants.iter().any(|one| one.state == GONE),
            _ => false,
        };
        assert!(!self.received.iter().any(ended), "{:?}", self.received);
        let mut seen = self.identities_seen();
        // Its own updates.
        seen.retain(|identity| Some(identity.as_str()) != self.own_identity());
        assert_eq!(
            seen.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            others.iter().copied().collect()
        );
    }

    fn own_identity(&self) -> Option<&str> {
        self.received.iter().find_map(|message| match message {
            ServerMessage::Join(join) => Some(join.participant.as_ref()?.identity.as_str()),
            _ => None,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_a_spill_node_that_signs_itself_as_home() {
    let cluster = TestCluster::new();
    cluster.approve_third_node();
    let (home, member) = (cluster.node("cph-1", 1).await, cluster.node("aws-sto-1", 1).await);
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut bob = TestParticipant::join(&home, "bob").await;
    anna.until_sees("bob").await;
    assert_eq!(member.parts.local_load.load().participants, 1);
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    let grant = cluster.read(&held);
    let before = home_of(&home);
    let next = |epochs: u64| {
        cluster.forged("sto-1", &grant, |forged| {
            (forged.epoch, forged.successor_of) = (grant.epoch + epochs, Some("cph-1".to_owned()));
        })
    };
    let rival = cluster.forged("sto-1", &grant, |_| {});
    let altered = held.replace("cph-1 sto-1", "sto-1");
    let extended = held.replace(&grant.not_after_ms.to_string(), &(grant.not_after_ms + 1).to_string());
    assert!(altered != held && extended != held);
    let forged = [
        (next(1), Reason::PolicyDenied),
        (next(1000), Reason::PolicyDenied),
        (rival, Reason::PolicyDenied),
        (altered, Reason::GrantInvalid),
        (extended, Reason::GrantInvalid),
    ];
    hostile.opens_room("cph-1", &held).await;
    for (note, reason) in &forged {
        // As a message of the open room.
        let count = counted(&home, "grants_refused", *reason);
        hostile.send_assignment("cph-1", note);
        until_counted(&home, "grants_refused", *reason, count).await;
        for node in ["cph-1", "aws-sto-1"] {
            let told = hostile.ask_grant(node, Purpose::Held, note).await.unwrap();
            assert_eq!(told.grant, held);
            let refused = hostile.reserve(node, note).await;
            assert_eq!(refused, Err((*reason, Some(held.clone()))), "{node} tells the true grant");
        }
        hostile.is_refused_room("aws-sto-1", note).await;
        // It tells it to a gateway that asks it for a seat.
        hostile.refuses_seats();
        hostile.tell(note);
        let count = counted(&home, "grants_refused", *reason);
        let refused = TestParticipant::try_join(&home, grants("chen")).await.err().unwrap();
        assert_eq!(status_and_code(&refused), (403, "approved-full"));
        until_counted(&home, "grants_refused", *reason, count).await;
        assert_eq!((home_of(&home), home_of(&member)), (before.clone(), before.clone()));
    }
    assert_eq!(cluster.record().unwrap().home.as_str(), "cph-1");
    anna.saw_only(&["bob"]);
    bob.saw_only(&["anna"]);
    home.stop().await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_possible_home_takes_no_room_from_its_living_home() {
    for (living, usurper) in [("cph-1", "sto-1"), ("sto-1", "cph-1")] {
        let cluster = TestCluster::new();
        cluster.approve_third_node();
        cluster.allow_any_nordic_home();
        let home = cluster.node(living, 1).await;
        let mut anna = TestParticipant::join(&home, "anna").await;
        let member = cluster.node("aws-sto-1", 1).await;
        let mut bob = TestParticipant::join(&home, "bob").await;
        anna.until_sees("bob").await;
        let mut hostile = HostileNode::start(&cluster, usurper).await;
        let held = hostile.ask_grant(living, Purpose::Held, "").await.unwrap().grant;
        let grant = cluster.read(&held);
        assert_eq!(grant.epoch, 1);
        let before = home_of(&home);
        let rival = cluster.forged(usurper, &grant, |_| {});
        let epochs = [1, 1000, 100_000, systir_assignment::LAST_EPOCH, u64::MAX - 1];
        let later = epochs.map(|epochs| {
            cluster.forged(usurper, &grant, |forged| {
                (forged.epoch, forged.successor_of) = (1 + epochs, Some(living.to_owned()));
            })
        });
        for note in [rival].iter().chain(&later) {
            for node in [living, "aws-sto-1"] {
                let told = hostile.ask_grant(node, Purpose::Held, note).await.unwrap().grant;
                let told = cluster.read(&told);
                assert_eq!(told.home, living, "{node} follows {}", cluster.read(note).epoch);
                assert!(told.epoch < 10, "epoch {}", told.epoch);
            }
            assert_eq!((home_of(&home), home_of(&member)), (before.clone(), before.clone()));
        }
        assert_eq!(cluster.record().unwrap().home.as_str(), living);
        anna.saw_only(&["bob"]);
        bob.saw_only(&["anna"]);
        hostile.receive_all();
        home.stop().await;
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_older_grant_of_the_home_changes_nothing() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 5).await;
    let mut anna = TestParticipant::join(&home, "anna").await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let older = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    // The home signs anew, because its policy changed: sto-1 may be home too.
    cluster.publish_rules(2, |rules| {
        rules.replace(r#"resource.country == Country::"DK""#, r#"resource.country in Zone::"Nordic""#)
    });
    let renewed = async {
        loop {
            let held = hostile.ask_grant("cph-1", Purpose::Held, &older).await.unwrap().grant;
            if held != older {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let newer = tokio::time::timeout(TIMEOUT, renewed).await.unwrap();
    let refused = hostile.reserve("cph-1", &older).await;
    assert_eq!(refused, Ok(()), "the newer grant, which the home holds, counts");
    hostile.opens_room("cph-1", &older).await;
    hostile.send_assignment("cph-1", &older);
    assert_eq!(hostile.ask_grant("cph-1", Purpose::Held, &older).await.unwrap().grant, newer);
    assert_eq!(home.parts.assignments.note(&room()), newer);
    anna.saw_only(&[]);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_policy_denies_as_gateway_gets_no_seat_no_signalling_and_no_new_room() {
    let cluster = TestCluster::new();
    cluster.deny_gateways_outside_denmark();
    let home = cluster.node("cph-1", 5).await;
    let hostile = HostileNode::start(&cluster, "sto-1").await;
    for purpose in [Purpose::Create, Purpose::TakeOver] {
        let refused = hostile.ask_grant("cph-1", purpose, "").await.unwrap_err();
        assert_eq!(refused.reason, Reason::PolicyDenied, "{purpose:?}");
    }
    assert_eq!(cluster.record(), None, "no room was made");
    let mut anna = TestParticipant::join(&home, "anna").await;
    let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
    for purpose in [Purpose::Create, Purpose::TakeOver] {
        let refused = hostile.ask_grant("cph-1", purpose, &held).await.unwrap_err();
        assert_eq!(refused.reason, Reason::PolicyDenied, "{purpose:?}");
    }
    let refused = hostile.reserve("cph-1", &held).await;
    assert_eq!(refused, Err((Reason::PolicyDenied, None)), "it is told nothing");
    let eve = grants("eve");
    let issuer = cluster.issuer_of("sto-1");
    let assignment = home.parts.assignments.get(&room()).unwrap();
    for ticket in [
        issuer.issue(&assignment, "cph-1", &eve, 0),
        home.parts.joins.tickets.issue(&assignment, "cph-1", &eve, 0),
    ] {
        let refused = hostile.signal("cph-1", &held, &ticket.unwrap(), &eve).await.err();
        assert!(matches!(refused, Some(CallError::Refused(_))), "{refused:?}");
    }
    assert_eq!(home.parts.local_load.load().participants, 1);
    anna.saw_only(&[]);
    home.stop().await;
}
