//! Hostile nodes that policy does not approve, or that are no nodes at all.

use std::net::{IpAddr, Ipv4Addr};

use systir_documents::SigningKey;
use systir_identity::ca;
use systir_proto::cluster::v1::{
    RefusalCode, ReserveRequest, RoomOpened, SignalMessage, SignalStart, Subscribe, reserve_reply,
    signal_message,
};
use systir_tests::scripted::ScriptedCodec;

use super::*;

/// Addresses of those who cannot prove that they are nodes.
fn address_of(index: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 2, index).into()
}

/// Counts packets to each of them.
fn unauthenticated_ruleset(count: u8) -> String {
    let each = (0..count).map(|index| {
        let address = address_of(index);
        format!(
            "counter unauthenticated_{index} {{}}
            chain to_{index} {{ type filter hook input priority 0;
                ip daddr {address} counter name unauthenticated_{index}; }}
            "
        )
    });
    format!("table inet unauthenticated {{ {} }}", each.collect::<String>())
}

/// Those whom TLS or the node key proof refuses.
async fn unauthenticated_nodes_get_no_packet_after_their_refusal(
    attacked: &Attacked,
    members: &[Member],
) -> Result<()> {
    let read = |file| std::fs::read_to_string(attacked.cluster.folder().join(file));
    let authority = ca::Pem { certificate: read("ca.pem")?, key: read("ca.key")? };
    let domain = TrustDomain::new("nordu.net")?;
    let (now, life) = (SystemTime::now(), Duration::from_secs(3600));
    let issue = |authority: &ca::Pem, node: &str| -> Result<Credentials> {
        let pem = ca::issue(authority, &domain.relay(node)?, now, life)?;
        let roots = TrustBundle::new().with(domain.clone(), &read("ca.pem")?)?;
        Ok(Credentials::new(NodeCertificate::from_pem(&pem.certificate, &pem.key)?, roots)?)
    };
    let own_key = || SigningKey::from_seed("nordu.net/other", rand::random());
    let another_ca = ca::create(&domain, now)?;
    let nodes = [
        ("our CA issued for a node on no list", issue(&authority, "osl-1")?, own_key()?),
        ("a listed id without its node key", issue(&authority, "sto-1")?, attacked.node_key(UNAPPROVED)?),
        ("another CA issued for our id", issue(&another_ca, "sto-1")?, attacked.node_key("sto-1")?),
    ];
    let packets = PacketCounters::load(&unauthenticated_ruleset(nodes.len() as u8))?;
    for (index, (what, credentials, key)) in (0..).zip(nodes) {
        let mut node = HostileNode::at(address_of(index), credentials, key)?;
        for honest in ["cph-1", "sto-1"] {
            let to = attacked.target(honest)?;
            let refused = node.client(&to).await.is_err();
            ensure!(refused, "{honest} accepts calls: {what}");
            let bound = node.quic(&to, LINK).await.unwrap_or_default();
            ensure!(!bound, "{honest} accepts a QUIC connection: {what}");
        }
        drop(node);
        let counter = format!("unauthenticated_{index}");
        let before = packets.packets(&counter)?;
        ensure!(before > 0, "{counter} counts nothing");
        while_media_flows(members).await?;
        // The closing of its connections may come once more.
        let after = packets.packets(&counter)? - before;
        ensure!(after <= 10, "{after} packets after the refusal: {what}");
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the figures of a run are for its reader")]
async fn an_unapproved_node_asks_for_everything(attacked: &Attacked, members: &[Member]) -> Result<()> {
    let held = attacked.grant_in_etcd().await?;
    let grant = attacked.read(&held)?;
    let forged = attacked.sign(UNAPPROVED, &grant, |forged| {
        (forged.epoch, forged.home) = (grant.epoch + 1, UNAPPROVED.to_owned());
        forged.successor_of = Some("cph-1".to_owned());
    })?;
    let room = grant.room.as_str();
    for honest in ["cph-1", "sto-1"] {
        let to = attacked.target(honest)?;
        let mut node = attacked.hostile(UNAPPROVED)?;
        let mut client = node.client(&to).await?;
        for note in ["", &held, &forged] {
            for purpose in [GrantPurpose::Held, GrantPurpose::Create, GrantPurpose::TakeOver] {
                for name in [room, "ku.dk/unknown"] {
                    let told = ask_grant(&node, &to, name, purpose, note).await?;
                    ensure!(told.is_none(), "{honest} tells it a grant: {purpose:?}");
                }
            }
            let request = ReserveRequest {
                room: room.to_owned(),
                identity: "eve".to_owned(),
                join_id: "hostile".to_owned(),
                grant: note.to_owned(),
                ..ReserveRequest::default()
            };
            match client.reserve(request).await?.into_inner().result {
                Some(reserve_reply::Result::Refused(refused)) => {
                    assert_eq!(refused.code(), RefusalCode::Policy, "{honest}: {refused:?}");
                    assert_eq!(refused.assignment, None, "{honest}");
                }
                other => anyhow::bail!("{honest} gives it a seat: {other:?}"),
            }
            let start = SignalStart {
                room: room.to_owned(),
                join_id: "hostile".to_owned(),
                claims_json: r#"{"identity": "eve", "video": {"roomJoin": true, "hidden": true}}"#.to_owned(),
                grant: note.to_owned(),
                ..SignalStart::default()
            };
            let start = SignalMessage { seq: 0, body: Some(signal_message::Body::Start(start)) };
            let refused = client.signal(tokio_stream::iter([start])).await.is_err();
            ensure!(refused, "{honest} accepts its participant");
        }
        link(&mut node, &to).await?;
        for (note, epoch) in [("", 1), (held.as_str(), grant.epoch), (&forged, grant.epoch + 1)] {
            node.send(open_room(room, epoch, note)).await?;
            until(&mut node, "the room's refusal", |body| matches!(body, Body::RoomRefused(_)).then_some(()))
                .await?;
        }
        // It says that the room is open, subscribes to all tracks, and shows a node that it carries the room.
        node.send(Body::RoomOpened(RoomOpened { room: room.to_owned() })).await?;
        for (flow, track) in (0..).zip(members.iter().flat_map(Member::track_sids)) {
            // Flows of both nodes.
            for parity in [0, 1] {
                let flow = (flow + 1) << 5 | parity;
                let subscribe = Subscribe { track_sid: track.to_owned(), layer: 0, flow };
                node.send(in_room(room, RoomBody::Subscribe(subscribe))).await?;
            }
        }
        node.send(in_room(room, RoomBody::Assignment(told(&forged)))).await?;
        // What it got, while media flows between the approved nodes.
        let bytes = || -> Result<[u64; 2]> {
            Ok([attacked.packets.bytes("aws_sto_1_address")?, attacked.packets.bytes("sto_1_address")?])
        };
        let before = bytes()?;
        let connection = node.quic.first().context("no connection")?.clone();
        let mut datagrams = 0;
        tokio::select! {
            () = count_packets(&connection, &mut datagrams) => {}
            flowed = while_media_flows(members) => flowed?,
        }
        assert_eq!(datagrams, 0, "{honest} sends it media");
        let after = bytes()?;
        let [hostile, sister] = [after[0] - before[0], after[1] - before[1]];
        // Heartbeats of both nodes with their acknowledgements, and the end of TCP exchanges from before. All media of
        // two participants goes to the sister; any of their video would be over a quarter of that.
        println!("while media flowed: {hostile} bytes at the hostile node, {sister} at the sister");
        ensure!(sister > 4 * hostile, "{hostile} bytes at the hostile node, {sister} at the sister");
        // Nothing of the room by gRPC: messages of a link are in order, so the reply to the last request ends them.
        node.send(open_room(room, 1, "")).await?;
        until(&mut node, "the last refusal", |body| match body {
            Body::Room(message) => panic!("{honest} sends it {message:?}"),
            Body::RoomRefused(_) => Some(()),
            _ => None,
        })
        .await?;
    }
    Ok(())
}

async fn unapproved_and_unauthenticated_nodes_get_nothing_of_a_room() -> Result<()> {
    let mut attacked = Attacked::start(&[("cph-1", 2), ("sto-1", 2), (UNAPPROVED, 50)]).await?;
    let both = [ScriptedCodec::Opus, ScriptedCodec::Vp8];
    let mut members = Vec::new();
    for identity in ["anna", "bo", "carl", "dina"] {
        members.push(Member::join(&attacked.cluster, "cph-1", "lecture", identity, &both).await?);
    }
    let nodes: Vec<&str> = members.iter().map(|member| member.client.node.as_str()).collect();
    assert_eq!(nodes, ["cph-1", "cph-1", "sto-1", "sto-1"]);
    wait_until_all_hear(&members).await?;
    attacked.assert_unapproved_idle().await?;
    attacked.cluster.kill(UNAPPROVED);
    unauthenticated_nodes_get_no_packet_after_their_refusal(&attacked, &members).await?;
    an_unapproved_node_asks_for_everything(&attacked, &members).await?;
    for member in &mut members {
        assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    Ok(())
}

#[test]
fn unapproved_and_unauthenticated_nodes_get_nothing() -> Result<()> {
    run_attack(
        "hostile_node::unapproved::unapproved_and_unauthenticated_nodes_get_nothing",
        unapproved_and_unauthenticated_nodes_get_nothing_of_a_room(),
    )
}
