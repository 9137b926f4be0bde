//! An attacker who controls etcd: rewrites, deletes, replays and withholds its records while the cluster
//! runs. A seed determines the attacks, their order and what they write.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::etcd::Etcd;

/// The keys of the tests' cluster.
const PREFIX: &str = "/systir/v1/nordunet/";

/// The node that policy does not approve.
const UNAPPROVED: &str = "aws-sto-1";

/// The time between two attacks, milliseconds: less and more than a node needs to correct a record.
const PAUSE_MS: std::ops::Range<u64> = 100..2_500;

/// How long etcd answers nothing, milliseconds: less and more than a request's time limit, and more than a
/// lease's time to live.
const WITHHELD_MS: std::ops::Range<u64> = 500..5_000;

/// What the attacker does to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// Adds the unapproved node to the spill nodes of each room.
    UnapprovedSpill,
    /// Makes the unapproved node home, in the next epoch or in the same one.
    UnapprovedHome,
    /// Swaps the home with a spill node.
    SwapHome,
    /// Removes all spill nodes from the records.
    DropSpill,
    /// Writes the highest epoch, with the unapproved node as home.
    LastEpoch,
    /// Writes an epoch that no node reads.
    EndlessEpoch,
    /// Writes a room of another institution under the key of this one.
    OtherInstitution,
    /// Writes bytes that are no record.
    Garbage,
    /// Deletes the records of rooms.
    DeleteRooms,
    /// Deletes everything.
    DeleteAll,
    /// Writes earlier values again.
    ReplayOld,
    /// Swaps values between keys, of rooms and of leases.
    SwapValues,
    /// Deletes the records of leases.
    DeleteLeases,
    /// Ends all leases, so that their records vanish and nodes must get new ones.
    RevokeLeases,
    /// Writes leases with an address at which no node answers.
    WrongAddress,
    /// Restores a backup as another etcd cluster, with an older revision, at the same address.
    RestoreBackup,
    /// Stops answering for a while.
    Withhold,
}

impl Attack {
    /// All attacks.
    pub const ALL: [Self; 17] = [
        Self::UnapprovedSpill,
        Self::UnapprovedHome,
        Self::SwapHome,
        Self::DropSpill,
        Self::LastEpoch,
        Self::EndlessEpoch,
        Self::OtherInstitution,
        Self::Garbage,
        Self::DeleteRooms,
        Self::DeleteAll,
        Self::ReplayOld,
        Self::SwapValues,
        Self::DeleteLeases,
        Self::RevokeLeases,
        Self::WrongAddress,
        Self::RestoreBackup,
        Self::Withhold,
    ];

    /// Its name, such as `unapproved-spill`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnapprovedSpill => "unapproved-spill",
            Self::UnapprovedHome => "unapproved-home",
            Self::SwapHome => "swap-home",
            Self::DropSpill => "drop-spill",
            Self::LastEpoch => "last-epoch",
            Self::EndlessEpoch => "endless-epoch",
            Self::OtherInstitution => "other-institution",
            Self::Garbage => "garbage",
            Self::DeleteRooms => "delete-rooms",
            Self::DeleteAll => "delete-all",
            Self::ReplayOld => "replay-old",
            Self::SwapValues => "swap-values",
            Self::DeleteLeases => "delete-leases",
            Self::RevokeLeases => "revoke-leases",
            Self::WrongAddress => "wrong-address",
            Self::RestoreBackup => "restore-backup",
            Self::Withhold => "withhold",
        }
    }

    /// The attack of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }
}

/// The attacks of a seed, in order: no two of them are the same.
#[must_use]
pub fn attacks_of(seed: u64, count: usize) -> Vec<Attack> {
    let mut all = Attack::ALL.to_vec();
    fastrand::Rng::with_seed(seed).shuffle(&mut all);
    all.truncate(count);
    all
}

/// A record: its key and its value.
type Record = (String, Vec<u8>);

/// An etcd and its attacker.
#[derive(Debug)]
pub struct HostileEtcd {
    etcd: Etcd,
    client: reqwest::Client,
    random: fastrand::Rng,
    /// Records as they were before each attack.
    seen: Vec<Vec<Record>>,
    backup: PathBuf,
}

impl HostileEtcd {
    /// The attacker saves a backup for later.
    ///
    /// # Errors
    /// When etcd does not answer or etcdctl is missing.
    pub async fn new(etcd: Etcd) -> Result<Self> {
        // A connection to an etcd that was restarted would fail once.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.timeout(Duration::from_secs(5)).build()?;
        let backup = etcd.backup("backup").await?;
        Ok(Self { etcd, client, random: fastrand::Rng::with_seed(0), seen: Vec::new(), backup })
    }

    /// Attacks in this order, with pauses of random length. Then etcd is honest again, with what the attacks
    /// left in it.
    ///
    /// # Errors
    /// When etcd refuses an attack.
    pub async fn attack(&mut self, seed: u64, attacks: &[Attack]) -> Result<()> {
        self.random = fastrand::Rng::with_seed(seed);
        for (count, attack) in attacks.iter().enumerate() {
            if count > 0 {
                self.pause(PAUSE_MS).await;
            }
            self.once(*attack).await.with_context(|| format!("{} of seed {seed}", attack.name()))?;
        }
        Ok(())
    }

    async fn pause(&mut self, range: std::ops::Range<u64>) {
        let ms = self.random.u64(range);
        sleep(Duration::from_millis(ms)).await;
    }

    async fn once(&mut self, attack: Attack) -> Result<()> {
        let records = self.records("").await?;
        self.seen.push(records.clone());
        let rooms: Vec<Record> = records.iter().filter(|(key, _)| is_of(key, "rooms/")).cloned().collect();
        let leases: Vec<Record> = records.iter().filter(|(key, _)| is_of(key, "nodes/")).cloned().collect();
        match attack {
            Attack::DeleteRooms => self.delete("rooms/").await,
            Attack::DeleteLeases => self.delete("nodes/").await,
            Attack::DeleteAll => self.delete("").await,
            Attack::RevokeLeases => self.revoke_leases().await,
            Attack::ReplayOld => self.replay_old().await,
            Attack::SwapValues => {
                for mut some in [rooms, leases] {
                    let values: Vec<Vec<u8>> = some.iter().map(|(_, value)| value.clone()).collect();
                    for ((_, value), other) in some.iter_mut().zip(values.into_iter().cycle().skip(1)) {
                        *value = other;
                    }
                    self.put_all(&some).await?;
                }
                Ok(())
            }
            Attack::WrongAddress => self.rewrite(&leases, attack).await,
            Attack::RestoreBackup => self.etcd.restore(&self.backup.clone()).await,
            Attack::Withhold => {
                self.etcd.signal("STOP")?;
                self.pause(WITHHELD_MS).await;
                self.etcd.signal("CONT")
            }
            _ => self.rewrite(&rooms, attack).await,
        }
    }

    /// Rewrites records, up to three times in short succession, so that some writes meet corrected records.
    async fn rewrite(&mut self, records: &[Record], attack: Attack) -> Result<()> {
        for _ in 0..self.random.u8(1..=3) {
            for (key, value) in records {
                let forged = match serde_json::from_slice(value) {
                    Ok(record) => forge(attack, record, &mut self.random),
                    // Another attack's garbage.
                    Err(_) => value.clone(),
                };
                self.put(key, &forged).await?;
            }
            self.pause(50..500).await;
        }
        Ok(())
    }

    async fn replay_old(&mut self) -> Result<()> {
        let at = self.random.usize(..self.seen.len());
        let old = self.seen.get(at).cloned().unwrap_or_default();
        self.put_all(&old).await
    }

    async fn put_all(&self, records: &[Record]) -> Result<()> {
        for (key, value) in records {
            self.put(key, value).await?;
        }
        Ok(())
    }

    /// All records whose key starts so, after the cluster's prefix.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn records(&self, below: &str) -> Result<Vec<Record>> {
        let answer = self.request("kv/range", range(below)).await?;
        let text = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default());
        let records = answer["kvs"].as_array().into_iter().flatten();
        records.map(|one| Ok((String::from_utf8(text(&one["key"])?)?, text(&one["value"])?))).collect()
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let body = json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)});
        self.request("kv/put", body).await.map(drop)
    }

    async fn delete(&self, below: &str) -> Result<()> {
        self.request("kv/deleterange", range(below)).await.map(drop)
    }

    async fn revoke_leases(&self) -> Result<()> {
        let answer = self.request("lease/leases", json!({})).await?;
        for lease in answer["leases"].as_array().into_iter().flatten() {
            // A node may have ended it meanwhile.
            let _ = self.request("lease/revoke", json!({"ID": lease["ID"]})).await;
        }
        Ok(())
    }

    async fn request(&self, path: &str, body: Value) -> Result<Value> {
        let answer = self.client.post(format!("{}/v3/{path}", self.etcd.url())).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("etcd refuses {path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}

fn is_of(key: &str, kind: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with(kind))
}

/// The range of keys that start so, after the cluster's prefix. The part ends with `/`, whose next character
/// is `0`.
fn range(below: &str) -> Value {
    let from = format!("{PREFIX}{below}");
    let end = format!("{}0", from.trim_end_matches('/'));
    json!({"key": STANDARD.encode(from), "range_end": STANDARD.encode(end)})
}

/// The forged value of a record.
fn forge(attack: Attack, mut record: Value, random: &mut fastrand::Rng) -> Vec<u8> {
    let epoch = record["epoch"].as_u64().unwrap_or_default();
    let next = epoch.saturating_add(random.u64(0..=1));
    match attack {
        Attack::UnapprovedSpill => push_spill(&mut record, UNAPPROVED),
        Attack::UnapprovedHome | Attack::LastEpoch => {
            let home = record["home"].as_str().unwrap_or_default().to_owned();
            record["home"] = json!(UNAPPROVED);
            push_spill(&mut record, &home);
            record["epoch"] = json!(if attack == Attack::LastEpoch { 1 << 48 } else { next });
        }
        Attack::SwapHome => {
            let home = record["home"].clone();
            if let Some(spill) = record["spill"].get_mut(0) {
                let successor = std::mem::replace(spill, home);
                record["home"] = successor;
            } else {
                record["home"] = json!("sto-1");
            }
            record["epoch"] = json!(next);
        }
        Attack::DropSpill => record["spill"] = json!([]),
        Attack::EndlessEpoch => record["epoch"] = json!(u64::MAX),
        Attack::OtherInstitution => record["room"]["institution"] = json!("su.se"),
        Attack::WrongAddress => {
            record["grpc"] = json!("127.0.0.1:9");
            record["quic"] = json!("127.0.0.1:9");
        }
        _ => return (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
    }
    record.to_string().into_bytes()
}

fn push_spill(record: &mut Value, node: &str) {
    if let Some(spill) = record["spill"].as_array_mut()
        && !spill.iter().any(|known| known == node)
    {
        spill.push(json!(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_attacks_and_each_attack_has_a_name() {
        assert_eq!(attacks_of(7, 6), attacks_of(7, 6));
        assert_ne!(attacks_of(7, 6), attacks_of(8, 6));
        let mut all = attacks_of(7, Attack::ALL.len());
        all.sort_unstable();
        assert_eq!(all, Attack::ALL);
        assert!(all.iter().all(|attack| Attack::from_name(attack.name()) == Some(*attack)));
    }

    #[test]
    fn each_forged_record_differs_from_the_true_one() {
        let room = json!({"home": "cph-1", "spill": ["sto-1"], "epoch": 3, "room": {"institution": "ku.dk"}});
        let lease = json!({"node": "cph-1", "grpc": "192.0.2.1:1", "quic": "192.0.2.1:2"});
        for attack in Attack::ALL {
            let record = if attack == Attack::WrongAddress { &lease } else { &room };
            let forged = forge(attack, record.clone(), &mut fastrand::Rng::with_seed(1));
            assert_ne!(forged, record.to_string().into_bytes(), "{}", attack.name());
        }
    }
}
