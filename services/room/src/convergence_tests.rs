//! Replicas under reordered, repeated and lost updates.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;

use systir_documents::next_join_number;

use super::*;

/// A clock for which no update is in the future.
const ANY_TIME: u64 = u64::MAX;

/// The number that a gateway which knows this replica gives to the next join of an identity.
fn next_epoch(room: &RoomState, identity: &str, now_ms: u64) -> u64 {
    next_join_number(now_ms, room.last_join(identity).unwrap_or_default())
}

const NODES: [&str; 4] = ["cph-1", "sto-1", "oslo-1", "hel-1"];

#[derive(Debug, Clone)]
enum Op {
    Join {
        node: usize,
        identity: u8,
        clock: u8,
    },
    Write {
        node: usize,
        which: Index,
    },
    Leave {
        node: usize,
        which: Index,
    },
    Metadata,
    Takeover(usize),
    /// One update in flight arrives; any of them.
    Deliver(Index),
    /// One arrives and remains in flight, to arrive again.
    Repeat(Index),
    Lose(Index),
    LinkDown(usize, usize),
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0..NODES.len();
    let which = any::<Index>;
    prop_oneof![
        4 => (node(), 0..4u8, 0..30u8).prop_map(|(node, identity, clock)| Op::Join { node, identity, clock }),
        3 => (node(), which()).prop_map(|(node, which)| Op::Write { node, which }),
        2 => (node(), which()).prop_map(|(node, which)| Op::Leave { node, which }),
        1 => Just(Op::Metadata),
        1 => node().prop_map(Op::Takeover),
        12 => which().prop_map(Op::Deliver),
        3 => which().prop_map(Op::Repeat),
        3 => which().prop_map(Op::Lose),
        1 => (node(), node()).prop_map(|(a, b)| Op::LinkDown(a, b)),
        1 => node().prop_map(Op::Restart),
    ]
}

/// The versions of all live participants, by owner; those that a newer join hides too.
fn live_versions(room: &RoomState) -> BTreeMap<NodeName, BTreeMap<Sid, ParticipantVersion>> {
    let versions =
        |owner: &OwnedRecords| owner.live().map(|(sid, held)| (sid.clone(), held.version)).collect();
    room.owners.iter().map(|(node, owner)| (node.clone(), versions(owner))).collect()
}

/// Four replicas and the updates in flight between them.
struct Sim {
    rooms: Vec<RoomState>,
    /// From, to, update.
    in_flight: Vec<(usize, usize, Update)>,
    /// Per replica: the newest version shown of each participant id.
    shown: Vec<HashMap<Sid, ParticipantVersion>>,
    joins: u32,
    incarnation: u64,
    epoch: u64,
}

impl Sim {
    fn new() -> Self {
        let mut rooms: Vec<_> = NODES.iter().map(|node| RoomState::new(*node, 1)).collect();
        rooms.iter_mut().for_each(|room| {
            room.set_home(NODES[0], 1);
        });
        let shown = vec![HashMap::new(); NODES.len()];
        Self { rooms, in_flight: Vec::new(), shown, joins: 0, incarnation: 1, epoch: 1 }
    }

    fn send(&mut self, from: usize, update: Update) {
        for to in (0..NODES.len()).filter(|to| *to != from) {
            self.in_flight.push((from, to, update.clone()));
        }
    }

    /// Checks the changes of the replica at `node`, and sends the tombstones in them.
    fn check_changes(&mut self, node: usize, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Joined(p) | Change::Updated(p) => {
                    let known = self.shown[node].insert(p.sid.clone(), p.version);
                    assert!(
                        known.is_none_or(|known| known <= p.version),
                        "the version of {} decreased on {}",
                        p.sid,
                        NODES[node]
                    );
                    assert!(known.is_none_or(|known| known.epoch == p.version.epoch));
                }
                Change::Evicted { sid, winner, tombstone, .. } => {
                    assert_ne!(sid, winner);
                    self.send(node, tombstone);
                }
                Change::Left { .. } | Change::Metadata(_) => {}
            }
        }
        let identities: Vec<_> = self.rooms[node].participants().map(|p| p.identity).collect();
        assert!(identities.windows(2).all(|pair| pair[0] < pair[1]), "two participants of one identity");
    }

    fn deliver(&mut self, from: usize, to: usize, update: Update) {
        match self.rooms[to].apply(NODES[from], update, ANY_TIME) {
            Ok(applied) => {
                assert_eq!(applied.refused, [], "an honest record was refused");
                self.check_changes(to, applied.changes);
            }
            Err(MergeError::OldEpoch { .. } | MergeError::UnknownEpoch { .. }) => {}
            Err(other) => panic!("an honest update was refused: {other}"),
        }
    }

    fn local(&mut self, node: usize, done: Result<(Update, Vec<Change>), LocalError>) {
        let (update, changes) = done.unwrap();
        self.send(node, update);
        self.check_changes(node, changes);
    }

    fn own(&self, node: usize, which: Index) -> Option<Sid> {
        let own: Vec<_> =
            self.rooms[node].participants().filter(|p| p.owner == NODES[node]).map(|p| p.sid).collect();
        (!own.is_empty()).then(|| own[which.index(own.len())].clone())
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Join { node, identity, clock } => {
                self.joins += 1;
                let sid = format!("PA_{}{}", node, self.joins);
                let identity = format!("participant-{identity}");
                let epoch = next_epoch(&self.rooms[node], &identity, clock.into());
                let done =
                    self.rooms[node].local_join(sid, identity, epoch, Bytes::from_static(b"0"), Bytes::new());
                self.local(node, done);
            }
            Op::Write { node, which } => {
                let Some(sid) = self.own(node, which) else { return };
                let body = Bytes::from(format!("{:?}", self.rooms[node].next_version(&sid)));
                let done = self.rooms[node].local_update(&sid, body);
                self.local(node, done);
            }
            Op::Leave { node, which } => {
                let Some(sid) = self.own(node, which) else { return };
                let done = self.rooms[node].local_remove(&sid);
                self.local(node, done);
            }
            Op::Metadata => {
                for (node, name) in NODES.iter().enumerate() {
                    if self.rooms[node].home() == Some((name, self.epoch)) {
                        let update =
                            self.rooms[node].set_metadata(Bytes::from(format!("{}", self.joins))).unwrap();
                        self.send(node, update);
                    }
                }
            }
            Op::Takeover(node) => {
                // Some nodes read the new assignment now, the others at the end.
                self.epoch += 1;
                for other in [node, (node + 1) % NODES.len()] {
                    if let Some(update) = self.rooms[other].set_home(NODES[node], self.epoch) {
                        self.send(other, update);
                    }
                }
            }
            Op::Deliver(which) if !self.in_flight.is_empty() => {
                let (from, to, update) = self.in_flight.swap_remove(which.index(self.in_flight.len()));
                self.deliver(from, to, update);
            }
            Op::Repeat(which) if !self.in_flight.is_empty() => {
                let (from, to, update) = self.in_flight[which.index(self.in_flight.len())].clone();
                self.deliver(from, to, update);
            }
            Op::Lose(which) if !self.in_flight.is_empty() => {
                self.in_flight.swap_remove(which.index(self.in_flight.len()));
            }
            Op::Deliver(_) | Op::Repeat(_) | Op::Lose(_) => {}
            Op::LinkDown(a, b) => {
                for (at, lost) in [(a, b), (b, a)] {
                    let changes = self.rooms[at].lose_node(NODES[lost]);
                    self.check_changes(at, changes);
                }
            }
            Op::Restart(node) => {
                // Incarnations have no order: the next one may be smaller.
                self.incarnation = self.incarnation.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
                let home = self.rooms[node].home().map(|(home, epoch)| (home.to_owned(), epoch));
                self.rooms[node] = RoomState::new(NODES[node], self.incarnation);
                self.shown[node].clear();
                if let Some((home, epoch)) = home {
                    self.rooms[node].set_home(&home, epoch);
                }
                // Its links end with all messages on them, and open again.
                self.in_flight.retain(|(from, to, _)| ![*from, *to].contains(&node));
                for other in (0..NODES.len()).filter(|other| *other != node) {
                    for (at, opened) in [(node, other), (other, node)] {
                        self.rooms[at].link_opened(NODES[opened]);
                        for update in self.rooms[at].snapshot() {
                            self.in_flight.push((at, opened, update));
                        }
                    }
                }
            }
        }
    }

    /// All nodes send each other snapshots until all replicas are complete. Updates that are still in flight
    /// arrive in between.
    fn resync(&mut self) {
        let (home, epoch) = self
            .rooms
            .iter()
            .filter_map(|room| room.home().map(|(home, epoch)| (home.to_owned(), epoch)))
            .max_by_key(|(_, epoch)| *epoch)
            .unwrap();
        for node in 0..NODES.len() {
            if let Some(update) = self.rooms[node].set_home(&home, epoch) {
                self.send(node, update);
            }
        }
        for _ in 0..3 {
            for from in 0..NODES.len() {
                for update in self.rooms[from].snapshot() {
                    self.send(from, update);
                }
            }
            while let Some((from, to, update)) = self.in_flight.pop() {
                self.deliver(from, to, update);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replicas_are_equal_after_a_resync_whatever_was_reordered_repeated_or_lost(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut sim = Sim::new();
        for op in ops {
            sim.run(op);
        }
        sim.resync();
        let seen: Vec<Vec<_>> = sim.rooms.iter().map(|room| room.participants().collect()).collect();
        for node in 1..NODES.len() {
            prop_assert_eq!(&seen[0], &seen[node]);
            prop_assert_eq!(live_versions(&sim.rooms[0]), live_versions(&sim.rooms[node]));
        }
        // The home node may have restarted without the value. If it has one, all replicas have it.
        let home = sim.rooms[0].home().map(|(home, _)| home.to_owned()).unwrap();
        let home = sim.rooms.iter().find(|room| room.node() == home).unwrap();
        if let Some(value) = home.metadata() {
            for room in &sim.rooms {
                prop_assert_eq!(room.metadata(), Some(value));
            }
        }
        // Each visible participant is live at its own node, and no other one of its identity is live
        // anywhere.
        for participant in &seen[0] {
            for room in &sim.rooms {
                let own = room.owners[room.node()].live().filter(|(_, held)| held.identity == participant.identity);
                let expected = if room.node() == participant.owner { vec![&participant.sid] } else { vec![] };
                prop_assert_eq!(own.map(|(sid, _)| sid).collect::<Vec<_>>(), expected);
            }
        }
    }

    /// Without loss, order and repetition make no difference.
    #[test]
    fn any_order_of_one_owners_updates_results_in_the_same_replica(
        writes in prop::collection::vec((0..5u8, 0..3u8), 1..40),
        order in prop::collection::vec(any::<Index>(), 120),
    ) {
        let mut owner = RoomState::new("cph-1", 1);
        let mut updates = Vec::new();
        for (n, (who, what)) in writes.into_iter().enumerate() {
            let identity = format!("participant-{who}");
            let sid = owner.by_identity(&identity).map(|p| p.sid);
            let (update, changes) = match (sid, what) {
                (None, _) | (_, 2) => {
                    let epoch = next_epoch(&owner, &identity, 0);
                    owner.local_join(format!("PA_{n}"), identity, epoch, Bytes::new(), Bytes::new()).unwrap()
                }
                (Some(sid), 0) => owner.local_remove(&sid).unwrap(),
                (Some(sid), _) => owner.local_update(&sid, Bytes::from(n.to_string())).unwrap(),
            };
            updates.push(update);
            updates.extend(changes.into_iter().filter_map(|change| match change {
                Change::Evicted { tombstone, .. } => Some(tombstone),
                _ => None,
            }));
        }
        let mut replica = RoomState::new("sto-1", 1);
        for which in order {
            replica.apply("cph-1", updates[which.index(updates.len())].clone(), ANY_TIME).unwrap();
        }
        for update in updates.into_iter().rev() {
            replica.apply("cph-1", update, ANY_TIME).unwrap();
        }
        prop_assert_eq!(owner.participants().collect::<Vec<_>>(), replica.participants().collect::<Vec<_>>());
        prop_assert_eq!(&live_versions(&owner)["cph-1"], &live_versions(&replica)["cph-1"]);
    }
}
