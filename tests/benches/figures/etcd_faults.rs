//! How long the cluster takes to recover after each fault of etcd: from the moment at which etcd is honest and
//! answers again until its records are as the nodes write them, and joins are placed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_tests::cluster::{Cluster, token};
use systir_tests::hostile_etcd::{Attack, HostileEtcd, Record};
use systir_tests::meeting::{Member, wait_until_all_hear};
use systir_tests::process::eventually;
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};

use crate::figure::Figure;

/// How often each fault is made.
const ROUNDS: u64 = 3;
/// How long etcd or a node's path to it is away: more than the life of a lease, 3 s.
const OUTAGE: Duration = Duration::from_secs(5);
/// Limit for the recovery.
const LIMIT: Duration = Duration::from_secs(60);
/// The nodes that the room may use.
const APPROVED: [&str; 2] = ["cph-1", "sto-1"];
const ROOM: &str = "lecture";

/// The faults, with the words of the table.
const FAULTS: [(Attack, &str); 10] = [
    (Attack::DeleteAll, "etcd's content deleted"),
    (Attack::Garbage, "records of rooms overwritten with garbage"),
    (Attack::ForgedGrant, "records of rooms forged"),
    (Attack::RestoreBackup, "etcd restored from an old backup"),
    (Attack::UnapprovedAddress, "leases forged"),
    (Attack::RevokeLeases, "leases ended"),
    (Attack::Crash, "etcd stopped and started"),
    (Attack::Withhold, "etcd silent"),
    (Attack::CutOne, "the home cut off from etcd"),
    (Attack::WithholdFromOne, "etcd silent to the home"),
];

/// Times from the end of a fault.
struct Recovery {
    /// The record of the running room is as its home writes it.
    record: Duration,
    /// The leases are as their nodes write them.
    leases: Duration,
    /// A participant was placed in the running room through each gateway.
    join: Duration,
    /// A new room was placed through each gateway.
    new_room: Duration,
}

impl Recovery {
    fn whole(&self) -> Duration {
        self.record.max(self.leases).max(self.join).max(self.new_room)
    }
}

pub(crate) async fn measure(progress: impl Fn(&str)) -> Result<Vec<Figure>> {
    let (mut etcd, cluster) = HostileEtcd::start(&[("cph-1", 6), ("sto-1", 40)]).await?;
    etcd.set_outage(OUTAGE);
    let mut members = Vec::new();
    for count in 0..7 {
        let identity = format!("member-{count}");
        let member = Member::join(&cluster, "cph-1", ROOM, &identity, &[ScriptedCodec::Opus]);
        members.push(member.await?);
    }
    // A seat for the home of new rooms.
    drop(members.remove(0));
    wait_until_all_hear(&members).await?;
    let wanted = Wanted::read(&etcd).await?;
    let mut figures = Vec::new();
    for (attack, name) in FAULTS {
        progress(name);
        let mut slowest: Option<Recovery> = None;
        for round in 0..ROUNDS {
            if matches!(attack, Attack::CutOne | Attack::WithholdFromOne) {
                etcd.attack_node("cph-1", attack).await?;
            } else {
                etcd.attack(round, [attack]).await?;
            }
            let recovery = recover(&etcd, &cluster, &wanted, attack, round).await.context(name)?;
            if slowest.as_ref().is_none_or(|slowest| slowest.whole() < recovery.whole()) {
                slowest = Some(recovery);
            }
        }
        let slowest = slowest.context("no round")?;
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let how = format!(
            "slowest of {ROUNDS}: room's record {}, leases {}, join to the running room {}, new room {}",
            seconds(slowest.record),
            seconds(slowest.leases),
            seconds(slowest.join),
            seconds(slowest.new_room),
        );
        figures.push(Figure::without_goal(name, slowest.whole().as_secs_f64(), "s", how));
    }
    for member in &mut members {
        ensure!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    wait_until_all_hear(&members).await?;
    Ok(figures)
}

async fn recover(
    etcd: &HostileEtcd,
    cluster: &Cluster,
    wanted: &Wanted,
    attack: Attack,
    round: u64,
) -> Result<Recovery> {
    let start = Instant::now();
    let as_wanted = async |what: &str, kind: &str| {
        let is_wanted = async || {
            let records = etcd.records(kind).await.ok()?;
            wanted.is_among(&records, kind).then(|| start.elapsed())
        };
        eventually(what, LIMIT, is_wanted).await
    };
    let new_room = format!("{}-{round}", attack.name());
    let (record, leases, join, new_room) = tokio::join!(
        as_wanted("the room's record", "rooms/"),
        as_wanted("the leases", "nodes/"),
        joins(cluster, ROOM, start),
        joins(cluster, &new_room, start),
    );
    Ok(Recovery { record: record?, leases: leases?, join: join?, new_room: new_room? })
}

/// A participant joins the room through each gateway. Returns the time of the last one.
async fn joins(cluster: &Cluster, room: &str, start: Instant) -> Result<Duration> {
    let mut last = Duration::ZERO;
    for gateway in APPROVED {
        let token = token(room, &format!("late-{gateway}"))?;
        let placed = async || ScriptedClient::join(&cluster.url(gateway), &token, "").await.ok();
        let client = eventually(&format!("a join at {gateway}"), LIMIT, placed).await?;
        ensure!(APPROVED.contains(&client.node.as_str()), "a join was placed on {}", client.node);
        last = last.max(start.elapsed());
    }
    Ok(last)
}

/// The records as the nodes write them.
struct Wanted {
    room: Value,
    leases: Vec<Value>,
}

impl Wanted {
    async fn read(etcd: &HostileEtcd) -> Result<Self> {
        let rooms = parsed(&etcd.records("rooms/").await?);
        let room = rooms.first().context("the room has no record")?;
        Ok(Self {
            room: part(room, &ROOM_FIELDS),
            leases: parsed(&etcd.records("nodes/").await?)
                .iter()
                .map(|one| part(one, &LEASE_FIELDS))
                .collect(),
        })
    }

    fn is_among(&self, records: &[Record], kind: &str) -> bool {
        let records = parsed(records);
        if kind == "rooms/" {
            return records.iter().any(|record| part(record, &ROOM_FIELDS) == self.room);
        }
        self.leases.iter().all(|lease| records.iter().any(|record| part(record, &LEASE_FIELDS) == *lease))
    }
}

/// The fields that stay the same. A record's grant is renewed, and a lease's load changes.
const ROOM_FIELDS: [&str; 5] = ["room", "sid", "home", "spill", "epoch"];
const LEASE_FIELDS: [&str; 4] = ["node", "grpc", "quic", "draining"];

fn part(record: &Value, fields: &[&str]) -> Value {
    fields.iter().map(|field| record[*field].clone()).collect()
}

fn parsed(records: &[Record]) -> Vec<Value> {
    records.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect()
}
