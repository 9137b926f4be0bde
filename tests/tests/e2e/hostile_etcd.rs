//! An attacker rewrites, deletes, replays and withholds the records in etcd while rooms run. The meeting
//! keeps its media, the unapproved node gets no packet, and afterwards everything works without a repair.
//!
//! `HOSTILE_ETCD_SEEDS=7,8` runs other seeds. `HOSTILE_ETCD_ATTACKS='garbage;withhold,delete-all'` runs these
//! attacks: two sequences, here of one and of two.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_tests::cluster::{Cluster, token};
use systir_tests::etcd::Etcd;
use systir_tests::hostile_etcd::{Attack, HostileEtcd, attacks_of};
use systir_tests::network_namespace::{PacketCounters, in_namespace, run_in_namespace};
use systir_tests::process::eventually;
use systir_tests::scenario::{run_scenario_within, waiting};
use systir_tests::scripted::{ClientEvent, Response, ScriptedClient, ScriptedCodec};
use tokio::time::{Instant, sleep};

use crate::unapproved_node::{UNAPPROVED, assert_idle, ruleset};

const APPROVED: [&str; 2] = ["cph-1", "sto-1"];

/// Attacks of one seed.
const ATTACKS: usize = 5;

/// Limit for the cluster to accept new participants on each node after the attacks. A lease takes up to 3 s
/// to end, and a node up to 5 s to ask etcd again after failures.
const RECOVERY: Duration = Duration::from_secs(15);

/// How often the packets of the running meeting are counted.
const SAMPLE: Duration = Duration::from_millis(100);

/// A participant that publishes its microphone.
struct Member {
    identity: String,
    client: ScriptedClient,
    track: String,
}

impl Member {
    async fn join(cluster: &Cluster, gateway: &str, room: &str, identity: &str) -> Result<Self> {
        let token = token(room, identity)?;
        let client = ScriptedClient::join_and_connect(&cluster.url(gateway), &token, "").await?;
        Self::publishing(client, identity).await
    }

    async fn publishing(mut client: ScriptedClient, identity: &str) -> Result<Self> {
        let track = client.publish("mic", ScriptedCodec::Opus, &[]).await?;
        Ok(Self { identity: identity.to_owned(), client, track: track.sid })
    }

    /// Waits until this participant hears the other one.
    async fn wait_until_hears(&mut self, other: &Self) -> Result<()> {
        let what = format!("{} hears {}", self.identity, other.identity);
        self.client.wait_for_packets(&what, &other.track, |packets| packets.len() > 5).await.map(drop)
    }

    async fn wait_until_gone(&mut self, identity: &str) -> Result<()> {
        self.client
            .wait_for_response(&format!("{identity} left"), |response| match response {
                Response::Update(update) => update.participants.iter().find_map(|one| {
                    let left = one.state() == livekit_protocol::participant_info::State::Disconnected;
                    (one.identity == identity && left).then_some(())
                }),
                _ => None,
            })
            .await
    }
}

/// Waits until all hear each other.
async fn wait_until_all_hear(members: &mut [Member]) -> Result<()> {
    for at in 0..members.len() {
        let (before, rest) = members.split_at_mut(at);
        let (listener, after) = rest.split_first_mut().context("no member")?;
        for other in before.iter().chain(after.iter()) {
            listener.wait_until_hears(other).await?;
        }
    }
    Ok(())
}

/// Measures the longest time that any member did not hear another one, until it is dropped.
async fn listen(members: &[Member], longest: &mut (Duration, String)) {
    let start = Instant::now();
    let mut heard = vec![vec![start; members.len()]; members.len()];
    loop {
        sleep(SAMPLE).await;
        let now = Instant::now();
        for (listener, heard) in members.iter().zip(&mut heard) {
            for (other, heard) in members.iter().zip(heard).filter(|(other, _)| other.track != listener.track)
            {
                if !listener.client.packets(&other.track).is_empty() {
                    *heard = now;
                }
                let stall = now.duration_since(*heard);
                if stall > longest.0 {
                    *longest = (stall, format!("{} did not hear {}", listener.identity, other.identity));
                }
            }
            listener.client.clear_packets();
        }
    }
}

/// A meeting of four, two on each approved node, with one more seat on the home node. The attacker has a
/// backup from before the room spilled.
async fn meeting(etcd: Etcd, cluster: &Cluster, room: &str) -> Result<(HostileEtcd, Vec<Member>)> {
    let mut members = vec![Member::join(cluster, "cph-1", room, "anna").await?];
    let etcd = HostileEtcd::new(etcd).await?;
    for identity in ["bo", "extra", "carl", "dina"] {
        members.push(Member::join(cluster, "cph-1", room, identity).await?);
    }
    let nodes: Vec<&str> = members.iter().map(|member| member.client.node.as_str()).collect();
    ensure!(nodes == ["cph-1", "cph-1", "cph-1", "sto-1", "sto-1"], "{nodes:?}");
    drop(members.remove(2));
    for member in &mut members {
        member.wait_until_gone("extra").await?;
    }
    wait_until_all_hear(&mut members).await?;
    Ok((etcd, members))
}

/// While etcd is attacked, joins may be refused, but none is placed on the unapproved node.
async fn join_again_and_again(cluster: &Cluster, room: &str) -> Result<()> {
    for count in 0.. {
        let gateway = APPROVED[count % APPROVED.len()];
        let token = token(room, "late")?;
        if let Ok(client) = ScriptedClient::join(&cluster.url(gateway), &token, "").await {
            ensure!(APPROVED.contains(&client.node.as_str()), "a join was placed on {}", client.node);
        }
        sleep(Duration::from_millis(400)).await;
    }
    Ok(())
}

/// New participants join until each approved node has one; all hear all. Returns how long it took.
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
        new.push(Member::publishing(client, &identity).await?);
        if APPROVED.iter().all(|node| new.iter().any(|one| one.client.node == *node)) {
            break;
        }
    }
    for at in 0..new.len() {
        let (before, rest) = new.split_at_mut(at);
        let (one, after) = rest.split_first_mut().context("no member")?;
        for member in members.iter_mut() {
            one.wait_until_hears(member).await?;
            member.wait_until_hears(one).await?;
        }
        for other in before.iter().chain(after.iter()) {
            one.wait_until_hears(other).await?;
        }
    }
    let took = start.elapsed();
    let nodes: BTreeSet<&str> = new.iter().map(|member| member.client.node.as_str()).collect();
    ensure!(nodes == BTreeSet::from(APPROVED), "the new participants are on {nodes:?}");
    for one in new {
        let identity = one.identity.clone();
        drop(one);
        for member in members.iter_mut() {
            member.wait_until_gone(&identity).await?;
        }
    }
    ensure!(took < RECOVERY, "it took {took:?}");
    Ok(took)
}

/// The seeds, and for each its attacks.
fn sequences() -> Result<Vec<(u64, Vec<Attack>)>> {
    if let Ok(text) = std::env::var("HOSTILE_ETCD_ATTACKS") {
        let attack = |name: &str| Attack::from_name(name).with_context(|| format!("no attack {name}"));
        let chosen = text.split(';').map(|names| names.split(',').map(attack).collect::<Result<Vec<_>>>());
        return (0..).zip(chosen).map(|(seed, attacks)| Ok((seed, attacks?))).collect();
    }
    let seeds = std::env::var("HOSTILE_ETCD_SEEDS").unwrap_or_else(|_| "1,2,3".to_owned());
    let seeds = seeds.split(',').map(|seed| seed.parse().context("HOSTILE_ETCD_SEEDS"));
    seeds.map(|seed| seed.map(|seed| (seed, attacks_of(seed, ATTACKS)))).collect()
}

#[allow(clippy::print_stdout, reason = "the figures of a run are for its reader")]
async fn a_meeting_goes_on_while_etcd_is_attacked() -> Result<()> {
    let (etcd, cluster) = Cluster::three_nodes(&[("cph-1", 4), ("sto-1", 8), (UNAPPROVED, 50)]).await?;
    let packets = PacketCounters::load(&ruleset(&cluster))?;
    // Another room, whose record the attacker can swap with the meeting's.
    let _other = Member::join(&cluster, "sto-1", "seminar", "olga").await?;
    let (mut etcd, mut members) = meeting(etcd, &cluster, "lecture").await?;
    for (seed, attacks) in sequences()? {
        let names: Vec<&str> = attacks.iter().map(|attack| attack.name()).collect();
        println!("seed {seed}: {}", names.join(", "));
        let _waiting = waiting(&format!("attacks of seed {seed}"));
        let mut longest = (Duration::ZERO, String::new());
        tokio::select! {
            attacked = etcd.attack(seed, &attacks) => attacked?,
            joined = join_again_and_again(&cluster, "lecture") => joined?,
            () = listen(&members, &mut longest) => {}
        }
        println!("seed {seed}: longest silence {:?} ({})", longest.0, longest.1);
        let took = wait_for_recovery(&cluster, "lecture", &mut members, seed)
            .await
            .with_context(|| format!("recovery after seed {seed}: {}", names.join(", ")))?;
        println!("seed {seed}: all hear all after {took:?}");
        assert_idle(&cluster, &packets).await.with_context(|| format!("seed {seed}"))?;
    }
    for member in &mut members {
        let ended = |one: &ClientEvent| match one {
            ClientEvent::Closed => Some(()),
            ClientEvent::Response(response) => matches!(**response, Response::Leave(_)).then_some(()),
            _ => None,
        };
        assert!(!member.client.has_seen(ended), "{} was interrupted", member.identity);
    }
    for counter in ["cph_1_links", "cph_1_media", "sto_1_links", "sto_1_media"] {
        assert!(packets.packets(counter)? > 0, "{counter}");
    }
    Ok(())
}

#[test]
fn a_meeting_goes_on_and_recovers_while_etcd_is_attacked() -> Result<()> {
    let limit = Duration::from_secs(240);
    if in_namespace() {
        return run_scenario_within(limit, a_meeting_goes_on_while_etcd_is_attacked());
    }
    run_scenario_within(limit, async move {
        let name = "hostile_etcd::a_meeting_goes_on_and_recovers_while_etcd_is_attacked";
        tokio::task::spawn_blocking(move || run_in_namespace(name, limit)).await?
    })
}
