//! A hostile gateway that policy approves, against whole honest nodes: it signs tickets that match whatever it claims. And
//! an honest one, whose media node gets a stricter policy between the reservation and the signalling.

use systir_cascade::CallError;
use systir_placement::Demand;
use systir_proto::cluster::v1::{GrantPurpose as Purpose, SignalStart};

use super::admission::{until_used, used};
use super::hostile_node::HostileNode;
use super::*;

/// The sentence with which a media node refused signalling.
fn sentence<T>(answer: Result<T, CallError>) -> String {
    match answer.err() {
        Some(CallError::Refused(sentence)) => sentence,
        other => panic!("signalling was not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_node_decides_itself_who_joins_whatever_an_approved_gateway_signs() {
    let cluster = TestCluster::new();
    let home = cluster.node("cph-1", 50).await;
    let mut hostile = HostileNode::start(&cluster, "sto-1").await;
    let issuer = cluster.issuer_of("sto-1");
    type Claim = fn(Grants) -> Grants;
    let other_institution: Claim = |claims| Grants { institution: "au.dk".to_owned(), ..claims };
    let recorder: Claim = |claims| Grants { recorder: true, ..claims };
    let hidden: Claim = |claims| Grants { hidden: true, ..claims };
    let both: Claim = |claims| Grants { hidden: true, recorder: true, ..claims };
    let cases = [
        ("lecture-1", recorder, "no rule of ku.dk permits join-recorder"),
        ("lecture-2", both, "no rule of ku.dk permits join-recorder"),
        ("lecture-3", other_institution, "another institution"),
        ("exam-1", hidden, "no rule of ku.dk permits join-hidden"),
        ("exam-2", recorder, "no rule of ku.dk permits join-recorder"),
    ];
    let mut streams = Vec::new();
    let before = used(&home);
    for (name, claim, why) in cases {
        hostile.room = test_keys::room(name);
        let claims = |identity: &str| Grants { room: name.to_owned(), ..grants(identity) };
        let mut anna = TestParticipant::try_join(&home, claims("anna")).await.unwrap();
        let held = hostile.ask_grant("cph-1", Purpose::Held, "").await.unwrap().grant;
        let assignment = home.parts.assignments.get(&hostile.room).unwrap();
        let seats = used(&home);
        hostile.join_id = format!("{name} refused");
        hostile.reserve("cph-1", &held).await.unwrap();
        assert_eq!(used(&home), seats + 1);
        let inflated = claim(claims("eve"));
        let ticket = issuer.issue(&assignment, "cph-1", &inflated, 0).unwrap();
        let refused = sentence(hostile.signal("cph-1", &held, &ticket, &inflated).await);
        assert!(refused.contains(why), "{name}: {refused}");
        until_used(&home, seats).await;
        anna.saw_only(&[]);
        // What policy allows, an approved gateway can mint.
        hostile.join_id = format!("{name} allowed");
        hostile.reserve("cph-1", &held).await.unwrap();
        let ticket = issuer.issue(&assignment, "cph-1", &claims("eve"), 0).unwrap();
        streams.push(hostile.signal("cph-1", &held, &ticket, &claims("eve")).await.unwrap());
        anna.until_sees("eve").await;
        // Her seat is free before the next case counts.
        drop(anna);
        until_used(&home, before + streams.len() as u32).await;
    }
    home.stop().await;
}

/// A stricter policy, as a change of the rules' text, and the sentence of its denial.
type Stricter = (fn(&str) -> String, &'static str);

const STRICTER: [Stricter; 3] = [
    (
        |rules| {
            rules.replacen(r#"resource.country in Zone::"Nordic""#, r#"resource.country == Country::"DK""#, 1)
        },
        "no rule of ku.dk permits spill on sto-1",
    ),
    (
        |rules| rules.replace(r#"Action::"join","#, r#"Action::"join-recorder","#),
        "no rule of ku.dk permits join to participants of ku.dk",
    ),
    (
        |rules| {
            let at = rules.rfind(r#"resource.country in Zone::"Nordic""#).unwrap();
            let (before, gateway) = rules.split_at(at);
            let sweden = r#"resource.country == Country::"SE""#;
            before.to_owned() + &gateway.replacen(r#"resource.country in Zone::"Nordic""#, sweden, 1)
        },
        "no rule of ku.dk permits relay-signal on cph-1",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_lost_when_policy_changes_between_its_reservation_and_the_signalling() {
    for (stricter, why) in STRICTER {
        let cluster = TestCluster::new();
        let (home, sister) = (cluster.node("cph-1", 1).await, cluster.node("sto-1", 5).await);
        let _anna = TestParticipant::join(&home, "anna").await;
        let bob = grants("bob");
        let seat = home.parts.admission.admit(&room(), &bob, &Demand::default(), 0).await.unwrap();
        assert_eq!((seat.node.as_str(), used(&sister)), ("sto-1", 1));
        let note = cluster.documents.bundle(2, |bundle| bundle.policy = stricter(&bundle.policy)).unwrap();
        let _ = sister.parts.documents.take(&note).unwrap();
        let ticket = home.parts.joins.tickets.issue(&seat.assignment, "sto-1", &bob, 0).unwrap();
        let start = SignalStart {
            room: room().key(),
            join_id: seat.join_id.clone(),
            claims_json: serde_json::to_string(&bob).unwrap(),
            grant: seat.assignment.grant.clone(),
            ticket: ticket.note().clone(),
            ..SignalStart::default()
        };
        let refused = sentence(home.directory.signal("sto-1", start).await);
        assert!(refused.contains(why), "{refused}");
        // The gateway still holds the seat: the media node has released it itself.
        until_used(&sister, 0).await;
        assert!(sister.parts.rooms.get(&room()).is_none(), "it opened no room");
        drop(seat);
        home.stop().await;
        sister.stop().await;
    }
}
