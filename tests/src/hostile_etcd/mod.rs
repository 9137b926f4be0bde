//! An attacker who controls etcd: rewrites, deletes, replays and withholds its records while the cluster
//! runs. A seed determines the attacks, their order and what they write.

mod attack;
mod forge;
mod requests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::cluster::{Cluster, NODES};
use crate::etcd::{Etcd, RestoredAs};
use crate::etcd_path::EtcdPath;
use crate::process::port_block;
pub use attack::{Attack, attacks_of, dealt_to};
use forge::{NOBODY, Unapproved, flood, forge, is_of_leases};
use requests::Requests;

/// The keys of the tests' cluster.
const PREFIX: &str = "/systir/v1/nordunet/";

/// Ports after the first one of a cluster's block.
const ETCD_PORT: u16 = 20;
const OTHER_ETCD_PORT: u16 = 22;

/// The time between two attacks, milliseconds: less and more than a node needs to correct a record.
const PAUSE_MS: Range<u64> = 50..2_000;

/// How long etcd answers nothing, milliseconds: less and more than a request's time limit, and more than a
/// lease's time to live.
const OUTAGE_MS: Range<u64> = 300..4_500;

/// Most rooms whose records a flood copies.
const FLOOD_ROOMS: usize = 3;

/// A record: its key and its value.
pub type Record = (String, Vec<u8>);

/// An etcd and its attacker.
#[derive(Debug)]
pub struct HostileEtcd {
    etcd: Etcd,
    requests: Requests,
    paths: Vec<EtcdPath>,
    unapproved: Unapproved,
    other_port: u16,
    /// How long etcd answers nothing, milliseconds.
    outage_ms: Range<u64>,
    random: fastrand::Rng,
    /// Records as they were before each attack.
    seen: Vec<Vec<Record>>,
    backup: PathBuf,
    made: BTreeMap<Attack, u32>,
}

impl HostileEtcd {
    /// Starts etcd and three nodes. Each node has its own path to etcd, and its own address for links.
    ///
    /// # Errors
    /// When etcd or a node does not start.
    pub async fn start(capacities: &[(&str, u32)]) -> Result<(Self, Cluster)> {
        let base = port_block()?;
        let etcd = Etcd::start(base + ETCD_PORT).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, capacities).await?;
        cluster.separate_links()?;
        let mut paths = Vec::new();
        for node in NODES {
            let path = EtcdPath::open(etcd.port()).await?;
            cluster.set_etcd(node, path.url())?;
            cluster.start(node)?;
            paths.push(path);
        }
        cluster.wait_ready(&NODES).await?;
        let name = NODES[NODES.len() - 1];
        let link = |offset| format!("{}:{}", Cluster::link_address(name), cluster.port(name, offset));
        let hostile = Self {
            requests: Requests::new(etcd.url())?,
            backup: etcd.backup("backup").await?,
            etcd,
            paths,
            unapproved: Unapproved { name, quic: link(0), grpc: link(1) },
            other_port: base + OTHER_ETCD_PORT,
            outage_ms: OUTAGE_MS,
            random: fastrand::Rng::with_seed(0),
            seen: Vec::new(),
            made: BTreeMap::new(),
        };
        Ok((hostile, cluster))
    }

    /// The attacker makes a backup, in place of the earlier one.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub async fn back_up(&mut self) -> Result<()> {
        self.backup = self.etcd.backup("backup").await?;
        Ok(())
    }

    /// Each later outage of etcd, or of one node's path to it, takes so long.
    pub fn set_outage(&mut self, length: Duration) {
        let ms = length.as_millis() as u64;
        self.outage_ms = ms..ms + 1;
    }

    /// Attacks the path of one node.
    ///
    /// # Errors
    /// When there is no such node, or etcd fails.
    pub async fn attack_node(&mut self, node: &str, attack: Attack) -> Result<()> {
        let at = NODES.iter().position(|known| *known == node).context("no such node")?;
        self.attack_path(at, attack).await
    }

    /// Attacks in this order, with pauses of random length. Then etcd is honest again, with what the attacks
    /// left in it.
    ///
    /// # Errors
    /// When etcd refuses an attack.
    pub async fn attack(&mut self, seed: u64, attacks: impl IntoIterator<Item = Attack>) -> Result<()> {
        self.random = fastrand::Rng::with_seed(seed);
        for (count, attack) in attacks.into_iter().enumerate() {
            if count > 0 {
                self.pause(PAUSE_MS).await;
            }
            self.once(attack).await.with_context(|| format!("{} of seed {seed}", attack.name()))?;
        }
        Ok(())
    }

    /// Makes one attack again and again, until it is dropped.
    ///
    /// # Errors
    /// When etcd refuses it.
    pub async fn keep(&mut self, attack: Attack) -> Result<()> {
        loop {
            self.once(attack).await?;
            self.pause(10..30).await;
        }
    }

    /// How often each attack was made.
    #[must_use]
    pub fn made(&self) -> &BTreeMap<Attack, u32> {
        &self.made
    }

    /// All records whose key starts so, after the cluster's prefix.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn records(&self, below: &str) -> Result<Vec<Record>> {
        self.requests.records(below).await
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn put(&self, (key, value): &Record) -> Result<()> {
        self.requests.put(key, value).await
    }

    async fn pause(&mut self, range: Range<u64>) {
        let ms = self.random.u64(range);
        sleep(Duration::from_millis(ms)).await;
    }

    /// Answers nothing for so long.
    async fn outage(&mut self) {
        self.pause(self.outage_ms.clone()).await;
    }

    async fn once(&mut self, attack: Attack) -> Result<()> {
        *self.made.entry(attack).or_default() += 1;
        let records = self.records("").await?;
        self.seen.push(records.clone());
        let of = |kind| {
            let kept = records.iter().filter(|(key, _)| is_of(key, kind) && !key.contains(NOBODY));
            kept.cloned().collect::<Vec<_>>()
        };
        match attack {
            Attack::DeleteRooms => self.requests.delete("rooms/").await,
            Attack::DeleteLeases => self.requests.delete("nodes/").await,
            Attack::DeleteAll => self.requests.delete("").await,
            Attack::RevokeLeases => self.requests.revoke_leases().await,
            Attack::Compact => self.requests.compact().await,
            Attack::ReplayOld => {
                let at = self.random.usize(..self.seen.len());
                let old = self.seen.get(at).cloned().unwrap_or_default();
                self.requests.put_all(&old).await
            }
            Attack::SwapValues => {
                for mut some in [of("rooms/"), of("nodes/")] {
                    let values: Vec<Vec<u8>> = some.iter().map(|(_, value)| value.clone()).collect();
                    for ((_, value), other) in some.iter_mut().zip(values.into_iter().cycle().skip(1)) {
                        *value = other;
                    }
                    self.requests.put_all(&some).await?;
                }
                Ok(())
            }
            Attack::Flood => {
                let mut some = of("rooms/");
                some.truncate(FLOOD_ROOMS);
                let flood = flood(&[some, of("nodes/")].concat(), &mut self.random);
                self.requests.put_all(&flood).await
            }
            Attack::RestoreBackup => self.etcd.restore(&self.backup, RestoredAs::AnotherCluster).await,
            Attack::RestoreSame => self.etcd.restore(&self.backup, RestoredAs::SameCluster).await,
            Attack::Withhold => {
                self.etcd.signal("STOP")?;
                self.outage().await;
                self.etcd.signal("CONT")
            }
            Attack::Crash => {
                self.etcd.kill();
                self.outage().await;
                self.etcd.restart().await
            }
            Attack::Refuse => {
                self.requests.refuse_others().await?;
                self.outage().await;
                self.requests.refuse_nobody().await
            }
            Attack::WithholdFromOne | Attack::CutOne | Attack::ShowOneBackup => {
                let node = self.random.usize(..self.paths.len());
                self.attack_path(node, attack).await
            }
            _ if is_of_leases(attack) => self.rewrite(&of("nodes/"), attack).await,
            _ => self.rewrite(&of("rooms/"), attack).await,
        }
    }

    async fn attack_path(&mut self, node: usize, attack: Attack) -> Result<()> {
        let path = self.paths.get(node).context("no such node")?;
        let mut other = None;
        match attack {
            Attack::WithholdFromOne => path.hold(),
            Attack::ShowOneBackup => {
                other = Some(self.etcd.another_from(&self.backup, self.other_port).await?);
                path.lead_to(self.other_port);
            }
            _ => path.cut(),
        }
        self.outage().await;
        self.paths.get(node).context("no such node")?.restore();
        drop(other);
        Ok(())
    }

    /// Rewrites records, up to three times in short succession, so that some writes meet corrected records.
    async fn rewrite(&mut self, records: &[Record], attack: Attack) -> Result<()> {
        let read = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).ok();
        let grants: Vec<Option<String>> =
            records.iter().map(|(_, value)| Some(read(value)?["grant"].as_str()?.to_owned())).collect();
        for round in 0..self.random.u8(1..=3) {
            if round > 0 {
                self.pause(50..500).await;
            }
            for (at, (key, value)) in records.iter().enumerate() {
                let other = grants.iter().cycle().nth(at + 1).and_then(Option::as_deref);
                let forged = match read(value) {
                    Some(record) => forge(attack, record, other, &self.unapproved, &mut self.random),
                    // Another attack's garbage.
                    None => value.clone(),
                };
                self.requests.put(key, &forged).await?;
            }
        }
        Ok(())
    }
}

fn is_of(key: &str, kind: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(kind))
}
