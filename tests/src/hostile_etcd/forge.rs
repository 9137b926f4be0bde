//! Forged records: what an attacker who has no node's key can write.

use serde_json::{Value, json};

use super::attack::Attack;
use super::{Record, is_of};

/// The node that policy does not approve, with its link addresses.
#[derive(Debug, Clone)]
pub(super) struct Unapproved {
    pub(super) name: &'static str,
    pub(super) grpc: String,
    pub(super) quic: String,
}

/// The highest epoch that a node reads.
const LAST_EPOCH: u64 = 1 << 48;

/// Does the attack rewrite leases? Else it rewrites the records of rooms.
pub(super) fn is_of_leases(attack: Attack) -> bool {
    matches!(attack, Attack::IdleUnapproved | Attack::UnapprovedAddress | Attack::WrongAddress)
}

/// The forged value of a record. `other` is the grant of another room.
pub(super) fn forge(
    attack: Attack,
    mut record: Value,
    other: Option<&str>,
    unapproved: &Unapproved,
    random: &mut fastrand::Rng,
) -> Vec<u8> {
    let epoch = record["epoch"].as_u64().unwrap_or_default();
    let next = epoch.saturating_add(random.u64(0..=1));
    let is_unapproved = record["node"] == unapproved.name;
    match attack {
        Attack::UnapprovedSpill => push_spill(&mut record, unapproved.name),
        Attack::UnapprovedHome | Attack::LastEpoch => {
            make_home(&mut record, unapproved.name);
            record["epoch"] = json!(if attack == Attack::LastEpoch { LAST_EPOCH } else { next });
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
        Attack::ForgedGrant => {
            let later = [next, epoch.saturating_add(1), LAST_EPOCH, u64::MAX][random.usize(..4)];
            record["grant"] = json!(forged_grant(&record["grant"], later, unapproved.name));
            make_home(&mut record, unapproved.name);
            record["epoch"] = json!(later);
        }
        Attack::OtherGrant => record["grant"] = json!(other.unwrap_or_default()),
        Attack::WrongTimes => {
            let time = [0, u64::MAX, 1 << 63][random.usize(..3)];
            record["created_ms"] = json!(time);
            record["since_ms"] = json!({"cph-1": time, "sto-1": u64::MAX - time, unapproved.name: time});
        }
        Attack::OtherInstitution => record["room"]["institution"] = json!("su.se"),
        Attack::IdleUnapproved if is_unapproved => {
            record["load"] = json!({"participants": 0, "capacity": u32::MAX, "at_ms": u64::MAX});
            record["draining"] = json!(false);
            // Words of the policy, in case a node believes them.
            for (name, value) in [("country", "DK"), ("host", "nordunet"), ("approved_by", "ku.dk")] {
                record[name] = json!(value);
            }
        }
        Attack::IdleUnapproved => {
            let full = random.u32(1..=u32::MAX);
            record["load"] =
                json!({"participants": full, "capacity": full, "cpu_permille": 1000, "at_ms": u64::MAX});
            record["draining"] = json!(true);
        }
        Attack::UnapprovedAddress => {
            let which = random.u8(1..=3);
            if which & 1 != 0 {
                record["grpc"] = json!(unapproved.grpc);
            }
            if which & 2 != 0 {
                record["quic"] = json!(unapproved.quic);
            }
        }
        Attack::WrongAddress => {
            record["grpc"] = json!("127.0.0.1:9");
            record["quic"] = json!("127.0.0.1:9");
        }
        _ => return (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
    }
    record.to_string().into_bytes()
}

fn make_home(record: &mut Value, node: &str) {
    let home = record["home"].as_str().unwrap_or_default().to_owned();
    record["home"] = json!(node);
    push_spill(record, &home);
}

fn push_spill(record: &mut Value, node: &str) {
    if let Some(spill) = record["spill"].as_array_mut()
        && !spill.iter().any(|known| known == node)
    {
        spill.push(json!(node));
    }
}

/// The grant with another epoch and home, and with the node in each list. Its signature stays as it was.
fn forged_grant(grant: &Value, epoch: u64, node: &str) -> String {
    let line = |line: &str| match line.split_once(' ') {
        Some(("epoch", _)) => format!("epoch {epoch}\n"),
        Some(("home", _)) => format!("home {node}\n"),
        Some((role @ ("homes" | "spill" | "gateways"), nodes)) => format!("{role} {node} {nodes}\n"),
        _ => format!("{line}\n"),
    };
    grant.as_str().unwrap_or_default().lines().map(line).collect()
}

/// How the last part of a key starts that [`flood`] made.
pub(super) const NOBODY: &str = "none-";

/// Records of rooms and nodes that do not exist, made of true ones. One is almost as large as etcd accepts.
pub(super) fn flood(records: &[Record], random: &mut fastrand::Rng) -> Vec<Record> {
    let mut flood = Vec::new();
    for (key, value) in records {
        let Some((folder, _)) = key.rsplit_once('/') else { continue };
        for _ in 0..100 {
            let name = format!("{NOBODY}{}", random.u32(..));
            let forged = match serde_json::from_slice::<Value>(value) {
                Ok(mut record) if is_of(key, "nodes/") => {
                    record["node"] = json!(name);
                    record.to_string().into_bytes()
                }
                _ => value.clone(),
            };
            flood.push((format!("{folder}/{name}"), forged));
        }
    }
    if let Some((key, _)) = flood.first() {
        flood.push((format!("{key}-large"), vec![b'0'; 1_000_000]));
    }
    flood
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_forged_record_differs_from_the_true_one() {
        let room = json!({
            "home": "cph-1", "spill": ["sto-1"], "epoch": 3, "room": {"institution": "ku.dk"},
            "grant": "systir.org/grant/v1\nepoch 3\nhome cph-1\nhomes cph-1\n",
        });
        let lease = json!({"node": "cph-1", "grpc": "192.0.2.1:1", "quic": "192.0.2.1:2"});
        let unapproved =
            Unapproved { name: "aws-sto-1", grpc: "192.0.2.3:1".to_owned(), quic: "192.0.2.3:2".to_owned() };
        for attack in Attack::ALL {
            let record = if is_of_leases(*attack) { &lease } else { &room };
            let mut random = fastrand::Rng::with_seed(1);
            let forged = forge(*attack, record.clone(), Some("another"), &unapproved, &mut random);
            assert_ne!(forged, record.to_string().into_bytes(), "{}", attack.name());
        }
        let forged = forged_grant(&room["grant"], u64::MAX, "aws-sto-1");
        assert!(
            forged.contains("epoch 18446744073709551615\nhome aws-sto-1\nhomes aws-sto-1 cph-1\n"),
            "{forged}"
        );
    }

    #[test]
    fn a_flood_is_of_rooms_and_nodes_that_do_not_exist() {
        let lease = ("/systir/v1/nordunet/nodes/cph-1".to_owned(), br#"{"node":"cph-1"}"#.to_vec());
        let flood = flood(&[lease], &mut fastrand::Rng::with_seed(1));
        assert_eq!(flood.len(), 101);
        assert!(flood.iter().all(|(key, value)| {
            key.starts_with("/systir/v1/nordunet/nodes/")
                && key.contains(NOBODY)
                && !value.ends_with(b"\"cph-1\"}")
        }));
    }
}
