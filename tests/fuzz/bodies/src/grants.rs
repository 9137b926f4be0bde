//! Grants that other nodes offer, signed by homes of their choice: which one a node follows.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use systir_assignment::{LAST_EPOCH, MAX_MISSED_EPOCHS, RoomId};
use systir_documents::{DocumentHash, Grant, GrantTerms, MAX_GRANT_LIFE_MS, SignedGrant, SigningKey};
use systir_grants::{Circumstances, GrantBook, GrantTime, HomeReach, Offered};

use crate::reader::Reader;

/// The first one is this node.
const NODES: [&str; 4] = ["cph-2", "cph-1", "osl-1", "aws-sto-1"];
const ROOMS: [&str; 2] = ["RM_1", "RM_2"];
/// A signature takes a tenth of a millisecond.
const MAX_STEPS: usize = 12;

static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| {
    (1..).zip(NODES).filter_map(|(seed, node)| SigningKey::from_seed(node, [seed; 32]).ok()).collect()
});

fn pick<T: Copy>(of: &[T; 4], byte: u8) -> T {
    let [a, b, c, d] = *of;
    [a, b, c, d][usize::from(byte % 4)]
}

fn of_node<T: Copy>(of: &[T; 4], node: &str) -> Option<T> {
    NODES.iter().zip(of).find(|(name, _)| **name == node).map(|(_, value)| *value)
}

fn listed(mask: u8) -> BTreeSet<String> {
    let nodes = NODES.iter().enumerate().filter(|(at, _)| (mask >> at) & 1 == 1);
    nodes.map(|(_, node)| (*node).to_owned()).collect()
}

/// This node, and what it knows of the others.
struct Node {
    room: RoomId,
    book: GrantBook,
    now: GrantTime,
    reach: [HomeReach; 4],
    denied: [bool; 4],
    leads: bool,
    /// Homes that were replaced, so that they may come back.
    replaced: BTreeSet<String>,
}

impl Node {
    fn held(&self) -> Option<Grant> {
        self.book.held(&self.room).map(|held| held.grant().clone())
    }

    /// Notes who was home, and who it followed.
    fn replace(&mut self, before: &Grant) {
        self.replaced.insert(before.home.clone());
        self.replaced.extend(before.successor_of.clone());
    }

    fn offer(&mut self, signed: &SignedGrant, from: Option<&str>) {
        let (before, grant) = (self.held(), signed.grant());
        let Self { now, reach, denied, leads, .. } = *self;
        let approves = |node: &str| of_node(&denied, node) == Some(false);
        let reaches = |node: &str| of_node(&reach, node).unwrap_or(HomeReach::Unknown);
        let circumstances =
            Circumstances { now, approves_home: &approves, reach: &reaches, leads: &|| leads };
        let offered = self.book.offer(&self.room, signed.clone(), from, &circumstances);
        let after = self.held();
        if offered != Offered::Accepted {
            assert_eq!(after, before, "{offered:?}");
            return;
        }
        assert_eq!(after.as_ref(), Some(grant));
        assert!(approves(&grant.home) && grant.epoch <= LAST_EPOCH);
        let Some(before) = before.filter(|before| approves(&before.home)) else { return };
        let is_other_room = grant.home == before.home && grant.sid != before.sid;
        assert!(grant.epoch >= before.epoch || is_other_room, "the epoch went back");
        if grant.home == before.home {
            return;
        }
        let by_home = from == Some(before.home.as_str());
        let is_back = self.replaced.contains(&grant.home);
        if before.home == NODES[0] {
            assert!(!leads || is_back, "it leads the room");
            assert!(grant.epoch - before.epoch <= MAX_MISSED_EPOCHS);
        } else {
            let is_gone = reaches(&before.home) == HomeReach::Gone;
            assert!(by_home || is_back || is_gone, "its home can be reached");
        }
        self.replace(&before);
    }
}

/// A grant that a home signed; none if it cannot be signed.
fn grant(rest: &mut Reader<'_>, node: &Node) -> Option<SignedGrant> {
    let known = node.held().map_or(0, |grant| grant.epoch);
    let (home, epoch, more) = (rest.byte(), rest.byte(), rest.byte());
    let epoch = match epoch % 8 {
        0 => 1,
        1 => known,
        2 => known.saturating_add(1),
        3 => known.saturating_add(2),
        4 => known.saturating_add(MAX_MISSED_EPOCHS + u64::from(more % 3)),
        5 => LAST_EPOCH + u64::from(more % 2),
        6 => u64::MAX,
        _ => more.into(),
    };
    let (order, lists, age) = (rest.byte(), rest.byte(), rest.number());
    let issued_ms = node.now.unix_ms.saturating_add_signed((i64::from(age) - (1 << 15)) * 40);
    let successor_of = (order & 0x80 != 0).then(|| pick(&NODES, order >> 4).to_owned());
    let grant = Grant {
        institution: node.room.institution.clone(),
        room: node.room.key(),
        sid: ROOMS[usize::from(order & 1)].to_owned(),
        epoch,
        serial: u64::from((order >> 1) & 7),
        home: pick(&NODES, home).to_owned(),
        successor_of,
        terms: GrantTerms {
            trust_domain: "nordu.net".to_owned(),
            homes: listed(lists),
            spill: listed(lists >> 4),
            gateways: listed(0xf),
            class: "standard".to_owned(),
            e2ee: false,
            policy_version: 1,
            policy_hash: DocumentHash::of("policy"),
            directory_version: 1,
            directory_hash: DocumentHash::of("directory"),
        },
        issued_ms,
        not_after_ms: issued_ms.saturating_add(MAX_GRANT_LIFE_MS),
    };
    SignedGrant::sign(grant, KEYS.get(usize::from(home % 4))?).ok()
}

/// A node that is offered grants by any home in any circumstances. It follows another home only on the old one's word, when
/// that is gone or denied, or for one that was replaced and is back.
pub fn offers(bytes: &[u8]) {
    let node = after(bytes);
    if let (Some(held), Some(assignment)) = (node.held(), node.book.assignment(&node.room)) {
        assert_eq!((assignment.home.as_str(), assignment.epoch), (held.home.as_str(), held.epoch));
    }
}

fn after(bytes: &[u8]) -> Node {
    let mut rest = Reader(bytes);
    let life = Duration::from_millis(MAX_GRANT_LIFE_MS);
    let mut node = Node {
        room: RoomId::new("ku.dk", "lecture"),
        book: GrantBook::new(NODES[0], life),
        now: GrantTime { instant: Instant::now(), unix_ms: 1_800_000_000_000 },
        reach: [HomeReach::Up; 4],
        denied: [false, false, false, true],
        leads: false,
        replaced: BTreeSet::new(),
    };
    for _ in 0..MAX_STEPS {
        if rest.is_empty() {
            break;
        }
        let (step, other) = (rest.byte(), rest.byte());
        match step % 8 {
            0 => {
                let reach =
                    pick(&[HomeReach::Up, HomeReach::Gone, HomeReach::Unknown, HomeReach::Gone], step >> 3);
                node.reach[usize::from(other % 4)] = reach;
            }
            1 => node.denied[usize::from(other % 4)] ^= true,
            2 => node.leads = !node.leads,
            3 => {
                let step = Duration::from_secs(other.into());
                node.now.instant += step;
                node.now.unix_ms += u64::from(other) * 1000;
            }
            4 => {
                // This node takes the room over, or renews its grant.
                let Some(before) = node.held() else { continue };
                let Some(key) = KEYS.first() else { unreachable!("the keys of this file are valid") };
                let terms = before.terms.clone();
                if let Ok(next) = node.book.next(&node.room, other.into(), terms, key, node.now) {
                    node.book.adopt(&node.room, next, node.now);
                    if before.home != NODES[0] {
                        node.replace(&before);
                    }
                }
            }
            _ => {
                if let Some(signed) = grant(&mut rest, &node) {
                    let from = (other & 4 != 0).then(|| pick(&NODES, other));
                    node.offer(&signed, from);
                }
            }
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else each grant of a mutation would be refused.
    #[test]
    fn the_homes_of_the_corpus_change() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/grant_offers");
        for (file, home, epoch) in [
            ("first", "cph-1", 1),
            ("takeover", "osl-1", 2),
            ("own", "cph-2", 3),
            ("back", "osl-1", 5),
            ("denied", "osl-1", 1),
        ] {
            let bytes = std::fs::read(format!("{folder}/{file}")).expect("a file");
            let held = after(&bytes).held().expect("a grant");
            assert_eq!((held.home.as_str(), held.epoch), (home, epoch), "{file}");
        }
    }
}
