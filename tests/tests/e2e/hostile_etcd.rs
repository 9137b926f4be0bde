//! An attacker rewrites, deletes, replays and withholds the records in etcd while rooms run and participants
//! join. The meeting keeps its media, the unapproved node gets no packet, and afterwards everything works
//! without a repair.
//!
//! By default three seeds make each kind of attack once together. Longer runs read the environment:
//! - `HOSTILE_ETCD_SEEDS=7,8,9` takes other seeds.
//! - `HOSTILE_ETCD_SECONDS=120` lets each seed attack for so long.
//! - `HOSTILE_ETCD_ATTACKS='garbage;withhold,delete-all'` makes these attacks: two sequences, of one and of two.

mod joins;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use joins::Joins;
use systir_tests::cluster::{Cluster, token};
use systir_tests::hostile_etcd::{Attack, HostileEtcd, attacks_of, dealt_to};
use systir_tests::meeting::{Member, Receptions, wait_until_all_hear};
use systir_tests::network_namespace::{PacketCounters, in_namespace, run_in_namespace};
use systir_tests::process::eventually;
use systir_tests::scenario::{run_scenario_within, waiting};
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};
use tokio::time::Instant;

use crate::unapproved_node::{UNAPPROVED, assert_idle, ruleset};

const APPROVED: [&str; 2] = ["cph-1", "sto-1"];

/// The seeds of a short run.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Limit for the cluster to accept new participants on each node after the attacks. A lease takes up to 3 s
/// to end, and a node up to 5 s to ask etcd again after failures.
const RECOVERY: Duration = Duration::from_secs(15);

/// Limit for everything beside the attacks, and for a short run.
const LIMIT: Duration = Duration::from_secs(240);

/// The share of its packets that each member receives of each track. Nothing of etcd is in the path of
/// media; a busy machine may still drop some.
const RECEIVED: f64 = 0.95;

/// A meeting of four, two on each approved node, with one more seat on the home node. The attacker has a
/// backup from before the room spilled.
async fn meeting(etcd: &mut HostileEtcd, cluster: &Cluster, room: &str) -> Result<Vec<Member>> {
    let both = [ScriptedCodec::Opus, ScriptedCodec::Vp8];
    let mut members = vec![Member::join(cluster, "cph-1", room, "anna", &both).await?];
    etcd.back_up().await?;
    for (identity, codecs) in [("bo", &both[..1]), ("extra", &[]), ("carl", &both), ("dina", &both[..1])] {
        members.push(Member::join(cluster, "cph-1", room, identity, codecs).await?);
    }
    let nodes: Vec<&str> = members.iter().map(|member| member.client.node.as_str()).collect();
    ensure!(nodes == ["cph-1", "cph-1", "cph-1", "sto-1", "sto-1"], "{nodes:?}");
    drop(members.remove(2));
    for member in &mut members {
        member.wait_until_gone("extra").await?;
    }
    wait_until_all_hear(&members).await?;
    Ok(members)
}

/// New participants join at both gateways, and all hear all. Returns how long it took. They are placed on approved nodes
/// only; on which of them also depends on how busy the machine is.
async fn wait_for_recovery(
    cluster: &Cluster,
    room: &str,
    members: &mut [Member],
    seed: u64,
) -> Result<Duration> {
    let start = Instant::now();
    let mut new: Vec<Member> = Vec::new();
    // A seat on the home node may still be reserved for a join that ended with the attacks.
    for (count, gateway) in APPROVED.into_iter().cycle().take(4).enumerate() {
        let identity = format!("new-{seed}-{count}");
        let token = token(room, &identity)?;
        let client = eventually(&format!("a join at {gateway}"), RECOVERY, || async {
            ScriptedClient::join_and_connect(&cluster.url(gateway), &token, "").await.ok()
        })
        .await?;
        new.push(Member::publishing(client, &identity, &[ScriptedCodec::Opus]).await?);
        if APPROVED.iter().all(|node| new.iter().any(|one| one.client.node == *node)) {
            break;
        }
    }
    wait_until_all_hear(&new).await?;
    for one in &new {
        for member in members.iter() {
            one.wait_until_hears(member).await?;
            member.wait_until_hears(one).await?;
        }
    }
    let took = start.elapsed();
    let nodes: BTreeSet<&str> = new.iter().map(|member| member.client.node.as_str()).collect();
    ensure!(nodes.is_subset(&BTreeSet::from(APPROVED)), "the new participants are on {nodes:?}");
    for one in new {
        let identity = one.identity.clone();
        drop(one);
        for member in members.iter_mut() {
            member.wait_until_gone(&identity).await?;
        }
    }
    // A room that nobody knows yet needs etcd.
    let new_room = format!("after-{seed}");
    for gateway in APPROVED {
        let token = token(&new_room, gateway)?;
        eventually(&format!("a new room at {gateway}"), RECOVERY, || async {
            ScriptedClient::join(&cluster.url(gateway), &token, "").await.ok().map(drop)
        })
        .await?;
    }
    Ok(took)
}

/// The attacks of each seed.
type Sequences = Vec<(u64, Box<dyn Iterator<Item = Attack>>)>;

/// How long each seed attacks in a long run.
fn seconds() -> Result<Option<Duration>> {
    let Ok(text) = std::env::var("HOSTILE_ETCD_SECONDS") else { return Ok(None) };
    Ok(Some(Duration::from_secs(text.parse().context("HOSTILE_ETCD_SECONDS")?)))
}

fn seeds() -> Result<Vec<u64>> {
    let Ok(text) = std::env::var("HOSTILE_ETCD_SEEDS") else { return Ok(SEEDS.to_vec()) };
    text.split(',').map(|seed| seed.trim().parse().context("HOSTILE_ETCD_SEEDS")).collect()
}

fn sequences() -> Result<Sequences> {
    let finite = |(seed, attacks): (u64, Vec<Attack>)| -> (u64, Box<dyn Iterator<Item = Attack>>) {
        (seed, Box::new(attacks.into_iter()))
    };
    if let Ok(text) = std::env::var("HOSTILE_ETCD_ATTACKS") {
        let attack = |name: &str| Attack::from_name(name).with_context(|| format!("no attack {name}"));
        let chosen = text.split(';').map(|names| names.split(',').map(attack).collect::<Result<Vec<_>>>());
        return (0..).zip(chosen).map(|(seed, attacks)| Ok(finite((seed, attacks?)))).collect();
    }
    let seeds = seeds()?;
    let Some(length) = seconds()? else { return Ok(dealt_to(&seeds).into_iter().map(finite).collect()) };
    let until = move |seed| -> (u64, Box<dyn Iterator<Item = Attack>>) {
        let mut end = None;
        let lasts = move |_: &Attack| Instant::now() < *end.get_or_insert_with(|| Instant::now() + length);
        (seed, Box::new(attacks_of(seed).take_while(lasts)))
    };
    Ok(seeds.into_iter().map(until).collect())
}

/// Limit for the whole run.
fn limit() -> Result<Duration> {
    let attacks = seconds()?.unwrap_or_default() * u32::try_from(seeds()?.len())?;
    Ok(LIMIT + attacks * 3 / 2)
}

/// Packets at the unapproved node, counted by the kernel.
fn unapproved_packets(packets: &PacketCounters) -> Result<u64> {
    let counters = ["address", "links", "control", "media", "signalling"];
    counters.iter().map(|what| packets.packets(&format!("aws_sto_1_{what}"))).sum()
}

#[allow(clippy::print_stdout, reason = "the figures of a run are for its reader")]
async fn a_meeting_goes_on_while_etcd_is_attacked() -> Result<()> {
    let (mut etcd, cluster) = HostileEtcd::start(&[("cph-1", 4), ("sto-1", 10), (UNAPPROVED, 50)]).await?;
    let packets = PacketCounters::load(&ruleset(&cluster))?;
    // Another room, whose record the attacker can swap with the meeting's.
    let mut other = Member::join(&cluster, "sto-1", "seminar", "olga", &[ScriptedCodec::Opus]).await?;
    let mut members = meeting(&mut etcd, &cluster, "lecture").await?;
    let (mut all_joins, mut all_new_rooms) = (Joins::default(), Joins::default());
    for (seed, attacks) in sequences()? {
        let _waiting = waiting(&format!("attacks of seed {seed}"));
        let (mut joins, mut new_rooms, mut received) =
            (Joins::default(), Joins::default(), Receptions::default());
        let member = members.first().context("no members")?;
        let mut order = Vec::new();
        let start = Instant::now();
        tokio::select! {
            attacked = etcd.attack(seed, attacks.inspect(|attack| order.push(attack.name()))) => attacked?,
            joined = joins.join_running_room(&cluster, "lecture", member) => joined?,
            joined = new_rooms.join_new_rooms(&cluster) => joined?,
            () = received.count(&members) => {}
        }
        println!("seed {seed}, {:.1} s: {}", start.elapsed().as_secs_f64(), order.join(", "));
        println!("seed {seed}: joins to the running room: {joins}");
        println!("seed {seed}: joins to new rooms: {new_rooms}");
        println!("seed {seed}: media {received}");
        println!("seed {seed}: {} packets at the unapproved node", unapproved_packets(&packets)?);
        all_joins.add(&joins);
        all_new_rooms.add(&new_rooms);
        let took = wait_for_recovery(&cluster, "lecture", &mut members, seed)
            .await
            .with_context(|| format!("recovery after seed {seed}: {}", order.join(", ")))?;
        println!("seed {seed}: all hear all after {took:?}");
        let (share, what) = received.worst()?;
        ensure!(share >= RECEIVED, "only {share:.3} of the packets arrived: {what}");
        assert_idle(&cluster, &packets).await.with_context(|| format!("seed {seed}"))?;
        assert_eq!(unapproved_packets(&packets)?, 0, "seed {seed}");
    }
    for member in members.iter_mut().chain([&mut other]) {
        assert!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    let made: Vec<String> =
        etcd.made().iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
    println!("attacks: {}", made.join(", "));
    println!("joins to the running room: {all_joins}");
    println!("joins to new rooms: {all_new_rooms}");
    for node in APPROVED {
        let log = cluster.log(node)?;
        assert!(!log.contains("the node never had a lease"), "{node} forgot the address of another node");
        let warnings = log.lines().filter(|line| line.contains("in etcd cannot be read")).count();
        // The attacks write and write again hundreds of such records.
        assert!(warnings < 100, "{node} warns {warnings} times of unreadable records");
    }
    all_joins.check()?;
    all_new_rooms.check()?;
    for counter in
        ["cph_1_links", "cph_1_media", "cph_1_address", "sto_1_links", "sto_1_media", "sto_1_address"]
    {
        assert!(packets.packets(counter)? > 0, "{counter}");
    }
    Ok(())
}

#[test]
fn a_meeting_goes_on_and_recovers_while_etcd_is_attacked() -> Result<()> {
    let limit = limit()?;
    if in_namespace() {
        return run_scenario_within(limit, a_meeting_goes_on_while_etcd_is_attacked());
    }
    run_scenario_within(limit, async move {
        let name = "hostile_etcd::a_meeting_goes_on_and_recovers_while_etcd_is_attacked";
        tokio::task::spawn_blocking(move || run_in_namespace(name, limit)).await?
    })
}

/// The links that a node did not dial, because the address is not one of the other node's.
async fn refused_addresses(cluster: &Cluster, node: &str) -> Option<u64> {
    let reason = "reason=\"address-not-listed\"";
    cluster.counter_with(node, "systir_link_identities_refused_total", reason).await.ok()
}

/// How often the two nodes may meet before the attacker has written their leases, and how long they have each time.
const MEETINGS: u32 = 4;
const MEETING: Duration = Duration::from_secs(10);

/// Waits until each of the two did not dial the other's forged address.
async fn both_are_led_to_a_wrong_address(cluster: &Cluster) -> Result<()> {
    for node in APPROVED {
        eventually(&format!("{node} is led to a wrong address"), MEETING, || async {
            // The home is full: the join needs a link between the two.
            let join = ScriptedClient::join(&cluster.url("cph-1"), &token("lecture", "bo").ok()?, "").await;
            if let Ok(client) = join {
                assert_eq!(client.node, "sto-1");
            }
            refused_addresses(cluster, node).await.filter(|count| *count > 0)
        })
        .await?;
    }
    Ok(())
}

/// Two nodes meet for the first time while their leases have the link addresses of the unapproved one.
async fn forged_addresses_lead_no_node_to_the_unapproved_one() -> Result<()> {
    let (mut etcd, mut cluster) = HostileEtcd::start(&[("cph-1", 1), ("sto-1", 4), (UNAPPROVED, 50)]).await?;
    let packets = PacketCounters::load(&ruleset(&cluster))?;
    let anna = Member::join(&cluster, "cph-1", "lecture", "anna", &[ScriptedCodec::Opus]).await?;
    cluster.kill("sto-1");
    let both = async {
        // They may meet before the attacker has written. Then they meet anew.
        for meeting in 1.. {
            cluster.start("sto-1")?;
            let led = both_are_led_to_a_wrong_address(&cluster).await;
            if led.is_ok() || meeting == MEETINGS {
                return led;
            }
            cluster.kill("sto-1");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        attacked = etcd.keep(Attack::UnapprovedAddress) => attacked?,
        both = both => both?,
    }
    let bo = eventually("a join at the spill node", RECOVERY, || async {
        Member::join(&cluster, "cph-1", "lecture", "bo", &[ScriptedCodec::Opus]).await.ok()
    })
    .await?;
    assert_eq!(bo.client.node, "sto-1");
    wait_until_all_hear(&[anna, bo]).await?;
    assert_idle(&cluster, &packets).await?;
    assert_eq!(unapproved_packets(&packets)?, 0);
    assert!(packets.packets("cph_1_address")? > 0, "packets at addresses of links are counted");
    Ok(())
}

#[test]
fn a_forged_address_leads_no_node_to_the_unapproved_one() -> Result<()> {
    let limit = Duration::from_secs(120);
    if in_namespace() {
        return run_scenario_within(limit, forged_addresses_lead_no_node_to_the_unapproved_one());
    }
    run_scenario_within(limit, async move {
        let name = "hostile_etcd::a_forged_address_leads_no_node_to_the_unapproved_one";
        tokio::task::spawn_blocking(move || run_in_namespace(name, limit)).await?
    })
}
