//! A hostile approved node floods its link, then is silent, then reads slowly. Meanwhile rooms that it does not carry go on at
//! the node at the other end: their participants receive all media, and others join.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write as _, stdout};
use std::ops::Range;

use bytes::Bytes;
use livekit_protocol::{ParticipantInfo, ParticipantPermission, TrackInfo, TrackSource, TrackType};
use prost::Message as _;
use systir_documents::{Ticket, TicketPermission};
use systir_proto::cluster::v1::room_update::Body as UpdateBody;
use systir_proto::cluster::v1::{
    KeyFrame, RoomUpdate, SessionMessage, StateRecord, StateUpdate, StateWrite, Subscribe, Unsubscribe,
};
use systir_tests::cluster::token;
use systir_tests::process::eventually;
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};
use tokio::time::{Instant, sleep};

use super::*;

/// Joins to other rooms in each phase.
const JOINS: usize = 25;
/// How often what members received is taken.
const SAMPLE: Duration = Duration::from_millis(50);
const TRACK: &str = "TR_eve";

/// What one member received of one track: sequence numbers.
type Received = BTreeMap<(String, String), BTreeSet<u64>>;

/// Takes what the members receive of each other, until it is dropped.
async fn receive(members: &[Member], received: &mut Received) {
    loop {
        for member in members {
            for (track, packets) in member.client.take_packets() {
                let of_track = received.entry((member.identity.clone(), track)).or_default();
                of_track.extend(packets.iter().map(|packet| packet.seq));
            }
        }
        sleep(SAMPLE).await;
    }
}

/// Packets between the first and the last one that did not arrive.
fn missing(received: &Received) -> u64 {
    let of_track = |seqs: &BTreeSet<u64>| {
        let (first, last) = (seqs.first().copied().unwrap_or(0), seqs.last().copied().unwrap_or(0));
        last + 1 - first - seqs.len() as u64
    };
    received.values().map(of_track).sum()
}

/// Packets that the kernel dropped because this test's clients read them too late (proc(5)): at all sockets but those of nodes,
/// whose losses are what an attack may cause.
fn dropped_at_clients(nodes: &[Range<u16>]) -> Result<u64> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let dropped = table.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = fields.get(1).and_then(|local| local.rsplit_once(':'));
        let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        let dropped = fields.last().and_then(|count| count.parse::<u64>().ok());
        let is_node = port.is_some_and(|port| nodes.iter().any(|ports| ports.contains(&port)));
        if is_node { 0 } else { dropped.unwrap_or_default() }
    });
    Ok(dropped.sum())
}

/// A write of the hostile node about its participant, with a track.
fn write_of_eve(ticket: &Ticket, note: &str, seq: u64) -> RoomBody {
    let permission = ParticipantPermission { can_publish: true, can_subscribe: true, ..Default::default() };
    let track = TrackInfo {
        sid: TRACK.to_owned(),
        r#type: TrackType::Audio.into(),
        name: "microphone".to_owned(),
        source: TrackSource::Microphone.into(),
        mime_type: "audio/opus".to_owned(),
        ..TrackInfo::default()
    };
    let info = ParticipantInfo {
        sid: ticket.participant_sid.clone(),
        identity: ticket.identity.clone(),
        tracks: vec![track],
        permission: Some(permission),
        is_publisher: true,
        ..ParticipantInfo::default()
    };
    let record = StateRecord {
        sid: ticket.participant_sid.clone(),
        identity: ticket.identity.clone(),
        join_number: ticket.join_number,
        counter: seq as u32,
        body: Some(info.encode_to_vec().into()),
        ticket: note.as_bytes().to_vec().into(),
    };
    let write = StateWrite {
        owner: "sto-1".to_owned(),
        incarnation: 1,
        seq,
        snapshot: seq == 1,
        records: vec![record],
    };
    let update = RoomUpdate { body: Some(UpdateBody::Write(write)) };
    RoomBody::StateUpdate(StateUpdate { updates: vec![update.encode_to_vec().into()], snapshot: seq == 1 })
}

/// A datagram with an Opus packet.
fn packet(flow: u32, seq: u16) -> Bytes {
    let header = [0x80, 111];
    let seq_and_time = [seq.to_be_bytes().as_slice(), &(u32::from(seq) * 960).to_be_bytes()].concat();
    // A varint of RFC 9000 with 4 bytes.
    let id = (flow | 0x8000_0000).to_be_bytes();
    [&id[..], &header, &seq_and_time, &flow.to_be_bytes(), &[7; 1_000]].concat().into()
}

/// Floods the link with media of a flow that the other node chose, of unknown flows, and with messages of the room, until it is
/// aborted. Each kind has a task of its own.
fn flood(hostile: &HostileNode, room: &str, flow: u32, eve: (&Ticket, &str)) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for connection in &hostile.quic {
        let connection = connection.clone();
        tasks.spawn(async move {
            for seq in (0..=u16::MAX).cycle() {
                let unknown = ((2 << 20) + (u32::from(seq) << 5)) | (flow & 1);
                for flow in [flow, unknown, unknown ^ 1] {
                    if connection.send_datagram_wait(packet(flow, seq)).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    let (out, room) = (hostile.sender(), room.to_owned());
    let (ticket, note) = (eve.0.clone(), eve.1.to_owned());
    tasks.spawn(async move {
        for seq in 2_u64.. {
            let track_sid = || TRACK.to_owned();
            let malformed = StateUpdate { updates: vec![vec![0x0a, 0].into(); 1_000], snapshot: false };
            for body in [
                write_of_eve(&ticket, &note, seq),
                write_of_eve(&ticket, &note.replace("eve", "eva"), seq),
                RoomBody::StateUpdate(malformed),
                RoomBody::KeyFrame(KeyFrame { track_sid: track_sid(), layer: 0 }),
                RoomBody::Subscribe(Subscribe {
                    track_sid: track_sid(),
                    layer: 0,
                    flow: ((seq as u32) << 5) | 1,
                }),
                RoomBody::Unsubscribe(Unsubscribe { track_sid: track_sid(), layer: 0 }),
            ] {
                if out.send(SessionMessage { body: Some(in_room(&room, body)) }).await.is_err() {
                    return;
                }
            }
        }
    });
    tasks
}

/// Reads a message of the link now and then, until it is dropped.
async fn read_slowly(hostile: &mut HostileNode) {
    loop {
        sleep(Duration::from_millis(200)).await;
        // The other node may end the link, which changes nothing here.
        let _ = hostile.receive().await;
    }
}

/// While the attack goes on, participants join other rooms, and one room that all of them are in.
async fn others_join(attacked: &Attacked, phase: &str) -> Result<Vec<Duration>> {
    let url = attacked.cluster.url("cph-1");
    let mut times = Vec::new();
    for number in 0..JOINS {
        let rooms = ["lecture".to_owned(), format!("{phase}-{number}")];
        for room in rooms {
            let identity = format!("{phase}-{number}");
            let begun = Instant::now();
            let guest = ScriptedClient::join_and_connect(&url, &token(&room, &identity)?, "").await;
            let guest = guest.with_context(|| format!("{identity} joins {room}"))?;
            ensure!(guest.node == "cph-1", "{identity} is at {}", guest.node);
            times.push(begun.elapsed());
        }
    }
    times.sort();
    Ok(times)
}

/// Others join during an attack, and the members of the room receive all that they send each other.
async fn goes_on(attacked: &Attacked, members: &[Member], phase: &str) -> Result<()> {
    wait_until_all_hear(members).await?;
    let nodes =
        ["cph-1", "sto-1"].map(|node| attacked.cluster.port(node, 0)..attacked.cluster.port(node, 100));
    let before = dropped_at_clients(&nodes)?;
    let mut received = Received::new();
    for member in members {
        member.client.clear_packets();
    }
    let begun = Instant::now();
    let times = tokio::select! {
        () = receive(members, &mut received) => anyhow::bail!("unreachable"),
        times = others_join(attacked, phase) => times?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let at_clients = dropped_at_clients(&nodes)?.saturating_sub(before);
    let packets: usize = received.values().map(BTreeSet::len).sum();
    let p99 = times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default();
    writeln!(
        stdout(),
        "{phase}: {} joins, p50 {:.1} ms, p99 {:.1} ms; {packets} packets in {seconds:.1} s, {} missing, {at_clients} dropped at clients",
        times.len(),
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        missing(&received),
    )?;
    let tracks: usize = members.iter().map(|member| member.track_sids().count()).sum();
    ensure!(
        received.len() >= tracks * (members.len() - 1),
        "not every member received every track in {phase}"
    );
    ensure!(missing(&received) <= at_clients, "packets are missing in {phase}: {}", missing(&received));
    Ok(())
}

async fn other_rooms_go_on() -> Result<()> {
    let mut attacked = Attacked::start(&[("cph-1", 400), ("sto-1", 10), (UNAPPROVED, 50)]).await?;
    let both = [ScriptedCodec::Opus, ScriptedCodec::Vp8];
    let mut members = Vec::new();
    for identity in ["anna", "bo"] {
        members.push(Member::join(&attacked.cluster, "cph-1", "lecture", identity, &both).await?);
    }
    goes_on(&attacked, &members, "before").await?;

    // The attacker's node has a participant, of whom it signed the ticket, in a room of its own, and one there hears it.
    let before = attacked.etcd.records("rooms/").await?;
    let _cara = Member::join(&attacked.cluster, "cph-1", "seminar", "cara", &[]).await?;
    let held = eventually("the record of the seminar", LIMIT, || async {
        let now = attacked.etcd.records("rooms/").await.ok()?;
        let (_, record) = now.iter().find(|(key, _)| before.iter().all(|(known, _)| known != key))?;
        let record: Value = serde_json::from_slice(record).ok()?;
        Some(record["grant"].as_str()?.to_owned())
    })
    .await?;
    let grant = attacked.read(&held)?;
    let room = grant.room.clone();
    let mut sto = attacked.seize("sto-1").await?;
    let to = attacked.target("cph-1")?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let ticket = Ticket {
        gateway: "sto-1".to_owned(),
        institution: "ku.dk".to_owned(),
        room: room.clone(),
        room_sid: grant.sid.clone(),
        identity: "eve".to_owned(),
        participant_sid: "PA_eve".to_owned(),
        join_number: now_ms,
        kind: 0,
        hidden: false,
        recorder: false,
        permissions: [TicketPermission::Publish, TicketPermission::Subscribe].into(),
        sources: None,
        media_node: "sto-1".to_owned(),
        issued_ms: now_ms,
        not_after_ms: now_ms + 600_000,
    };
    let note = ticket.sign(&attacked.node_key("sto-1")?)?;
    link(&mut sto.node, &to).await?;
    sto.node.send(open_room(&room, grant.epoch, &held)).await?;
    until(&mut sto.node, "the room opens", |body| matches!(body, Body::RoomOpened(_)).then_some(())).await?;
    sto.node.send(in_room(&room, write_of_eve(&ticket, &note, 1))).await?;
    let flow = until(&mut sto.node, "cara's node subscribes to eve's track", |body| match body {
        Body::Room(RoomMessage { body: Some(RoomBody::Subscribe(subscribe)), .. }) => Some(subscribe.flow),
        _ => None,
    })
    .await?;

    let flooding = flood(&sto.node, &room, flow, (&ticket, &note));
    goes_on(&attacked, &members, "flood").await?;
    let unroutable = attacked.cluster.counter("cph-1", "systir_link_unroutable_total").await?;
    ensure!(unroutable > 1_000, "the flood did not arrive: {unroutable}");
    drop(flooding);

    // It answers nothing, on its link and to calls.
    sto.script.be_silent();
    attacked.write_lease(&sto.lease, |_| {}).await?;
    goes_on(&attacked, &members, "silence").await?;

    // A new link, of which it reads a message now and then, while much is sent to it.
    link(&mut sto.node, &to).await?;
    sto.node.send(open_room(&room, grant.epoch, &held)).await?;
    tokio::select! {
        () = read_slowly(&mut sto.node) => {}
        done = goes_on(&attacked, &members, "slow") => done?,
    }
    for member in &mut members {
        assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    attacked.assert_unapproved_idle().await
}

#[test]
fn a_neighbour_that_floods_is_silent_or_reads_slowly_harms_no_room_that_it_does_not_carry() -> Result<()> {
    run_attack(
        "hostile_node::neighbour::a_neighbour_that_floods_is_silent_or_reads_slowly_harms_no_room_that_it_does_not_carry",
        other_rooms_go_on(),
    )
}
