//! A hostile spill node: policy approves it, so it gets the rooms that it carries. It leads nothing to another node.

use systir_proto::cluster::v1::{RoomLink, RoomLinks, StateRecord, StateUpdate, StateWrite, Subscribe};
use systir_proto::cluster::v1::{RoomUpdate, room_update};
use systir_tests::cluster::token;
use systir_tests::process::eventually;
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};

use super::*;

/// A write of state in the name of a node, with one participant.
fn write_of(owner: &str, ticket: &[u8]) -> RoomBody {
    let record = StateRecord {
        sid: "PA_mallory".to_owned(),
        identity: "mallory".to_owned(),
        join_number: 1,
        counter: 1,
        body: Some(Vec::new().into()),
        ticket: ticket.to_vec().into(),
    };
    let write =
        StateWrite { owner: owner.to_owned(), incarnation: 1, seq: 1, snapshot: true, records: vec![record] };
    let update = RoomUpdate { body: Some(room_update::Body::Write(write)) };
    RoomBody::StateUpdate(StateUpdate {
        updates: vec![prost::Message::encode_to_vec(&update).into()],
        snapshot: true,
    })
}

/// Is it a snapshot of the room's state?
fn snapshot(body: &Body) -> Option<()> {
    let Body::Room(RoomMessage { body: Some(RoomBody::StateUpdate(update)), .. }) = body else { return None };
    update.snapshot.then_some(())
}

async fn nothing_is_led_to_the_unapproved_node() -> Result<()> {
    let mut attacked = Attacked::start(&[("cph-1", 2), ("sto-1", 10), (UNAPPROVED, 50)]).await?;
    let both = [ScriptedCodec::Opus, ScriptedCodec::Vp8];
    let mut members = Vec::new();
    for identity in ["anna", "bo"] {
        members.push(Member::join(&attacked.cluster, "cph-1", "lecture", identity, &both).await?);
    }
    let mut sto = attacked.seize("sto-1").await?;
    attacked.write_lease(&sto.lease, |_| {}).await?;
    let to = attacked.target("cph-1")?;

    // The home is full: the gateway gives it a participant, and with the ticket it gets the room.
    let url = attacked.cluster.url("cph-1");
    let (carl, carls_url) = (token("lecture", "carl")?, url.clone());
    let carl = tokio::spawn(async move { ScriptedClient::join(&carls_url, &carl, "").await });
    let given = sto.script.participant().await?;
    let (held, room) = (given.grant.clone(), given.room.clone());
    let grant = attacked.read(&held)?;
    link(&mut sto.node, &to).await?;
    sto.node.send(open_room(&room, grant.epoch, &held)).await?;
    until(&mut sto.node, "the room opens", |body| matches!(body, Body::RoomOpened(_)).then_some(())).await?;
    sto.node.send(in_room(&room, RoomBody::Ticket(given.ticket.clone()))).await?;
    until(&mut sto.node, "the room's state", snapshot).await?;
    let track = members.first().and_then(|anna| anna.track_sids().next()).context("no track")?.to_owned();
    // The greater id chooses odd flows.
    let flow = 1 << 5 | 1;
    sto.node
        .send(in_room(&room, RoomBody::Subscribe(Subscribe { track_sid: track, layer: 0, flow })))
        .await?;
    let connection = sto.node.quic.first().context("no connection")?.clone();
    let media = async {
        while connection.read_datagram().await?.len() <= 1 {}
        anyhow::Ok(())
    };
    timeout(LIMIT, media).await.context("an approved node that carries a participant gets media")??;

    // It lies, in every message that it may send.
    let takes_over = |epochs: u64| {
        attacked.sign("sto-1", &grant, |forged| {
            (forged.epoch, forged.home) = (grant.epoch + epochs, "sto-1".to_owned());
            forged.successor_of = Some("cph-1".to_owned());
        })
    };
    let lies = [
        held.replace("cph-1 sto-1", &format!("cph-1 sto-1 {UNAPPROVED}")),
        held.replace(
            &format!("not_after {}", grant.not_after_ms),
            &format!("not_after {}", grant.not_after_ms + 1),
        ),
        attacked.sign("sto-1", &grant, |_| {})?,
        takes_over(1)?,
        takes_over(1000)?,
        held.clone(),
    ];
    for (count, lie) in lies.iter().enumerate() {
        for message in [
            RoomBody::Assignment(told(lie)),
            write_of(UNAPPROVED, &given.ticket),
            write_of("cph-1", &given.ticket),
            write_of("sto-1", b"no ticket"),
            RoomBody::Links(RoomLinks { links: vec![RoomLink { node: UNAPPROVED.to_owned(), open: true }] }),
        ] {
            sto.node.send(in_room(&room, message)).await?;
        }
        for purpose in [GrantPurpose::Held, GrantPurpose::TakeOver] {
            if let Some(told) = ask_grant(&sto.node, &to, &room, purpose, lie).await? {
                let told = attacked.read(&told)?;
                assert_eq!((told.home.as_str(), told.epoch), ("cph-1", grant.epoch), "{purpose:?}");
                ensure!(!told.terms.spill.contains(UNAPPROVED), "the home lists the unapproved node");
            }
        }
        // A gateway that asks it for a seat is told the lie.
        sto.script.lie(lie);
        let before = sto.script.asked();
        attacked.write_lease(&sto.lease, |_| {}).await?;
        let eve = token("lecture", &format!("eve-{count}"))?;
        let refused = ScriptedClient::join(&url, &eve, "").await.err().context("nobody has a seat")?;
        ensure!(format!("{refused:#}").contains("approved-full"), "{refused:#}");
        ensure!(sto.script.asked() > before, "the gateway did not ask the hostile node");
    }

    // It offers to be dialled at the address of the unapproved node.
    let unapproved = attacked.target(UNAPPROVED)?;
    drop(sto.node);
    eventually("the home refuses to dial there", LIMIT, || async {
        let lie = |lease: &mut Value| {
            (lease["grpc"], lease["quic"]) =
                (json!(unapproved.grpc.to_string()), json!(unapproved.quic.to_string()));
        };
        attacked.write_lease(&sto.lease, lie).await.ok()?;
        let eve = token("lecture", "eve").ok()?;
        let joined = ScriptedClient::join(&url, &eve, "").await.is_ok();
        assert!(!joined, "nobody has a seat");
        let reason = "reason=\"address-not-listed\"";
        let counter = "systir_link_identities_refused_total";
        let refused = attacked.cluster.counter_with("cph-1", counter, reason).await.ok()?;
        (refused > 0).then_some(())
    })
    .await?;
    carl.abort();

    while_media_flows(&members).await?;
    for member in &mut members {
        assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    let now = attacked.read(&attacked.grant_in_etcd().await?)?;
    assert_eq!((now.home.as_str(), now.epoch, now.sid.as_str()), ("cph-1", grant.epoch, grant.sid.as_str()));
    attacked.assert_unapproved_idle().await
}

#[test]
fn a_hostile_spill_node_leads_nothing_to_an_unapproved_node() -> Result<()> {
    run_attack(
        "hostile_node::spill_node::a_hostile_spill_node_leads_nothing_to_an_unapproved_node",
        nothing_is_led_to_the_unapproved_node(),
    )
}
