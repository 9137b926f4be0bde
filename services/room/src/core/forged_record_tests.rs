//! Records of the registry that an attacker wrote, or that an old backup brought back.

use systir_assignment::LAST_EPOCH;

use super::*;

const UNAPPROVED: &str = "aws-sto-1";

impl Network {
    /// A room with participants on these nodes.
    fn with_participants(at: &[usize]) -> Self {
        let mut network = Self::new(5);
        network.open_wanted();
        for index in at {
            network.join_as(*index, NAMES[*index]);
        }
        network.settle_records();
        network
    }

    /// Delivers all messages for 3.2 s: longer than a node waits before it writes a record again. Clients
    /// send no pings here, so that their sessions end after 15 s.
    fn settle_records(&mut self) {
        for _ in 0..32 {
            while !self.in_flight.is_empty() {
                self.deliver(0);
            }
            self.advance(100);
        }
    }

    /// All nodes read this record, the hostile node included.
    fn read(&mut self, record: &Assignment) {
        let address =
            NodeAddress { grpc: "10.0.0.1:1".parse().unwrap(), quic: "10.0.0.1:2".parse().unwrap() };
        let mut nodes: BTreeMap<_, _> = NODES.map(|name| (name.to_owned(), Some(address))).into();
        nodes.insert(UNAPPROVED.to_owned(), Some(address));
        for index in 0..NODES.len() {
            let (assignment, nodes) = (Some(record.clone()), nodes.clone());
            let view = ClusterView { assignment, registry_unavailable: false, nodes };
            self.input(index, RoomInput::Cluster(view));
        }
    }

    fn open_links(&self) -> Vec<(usize, usize)> {
        self.open.iter().copied().collect()
    }

    fn assert_nobody_noticed(&self, what: &str) {
        assert_eq!(self.asked_to_rejoin, BTreeSet::new(), "{what}");
        for node in &self.nodes {
            assert!(!node.wanted.contains(UNAPPROVED), "{what}: {} opens the room to it", node.name);
        }
        let all = participants(&self.nodes[0]);
        for node in &self.nodes {
            assert_eq!(participants(node), all, "{what}: {} differs", node.name);
        }
    }
}

/// Records that no honest node writes.
fn forged_records() -> Vec<(&'static str, Assignment)> {
    let with = |change: &dyn Fn(&mut Assignment)| {
        let mut forged = assignment();
        change(&mut forged);
        forged
    };
    vec![
        ("the unapproved node as home", with(&|forged| forged.take_over(UNAPPROVED.into(), 2))),
        ("the unapproved node as home, in the same epoch", with(&|forged| forged.home = UNAPPROVED.into())),
        (
            "a spill node as home",
            with(&|forged| {
                forged.take_over("sto-1".into(), 2);
                forged.add_spill("cph-1".into(), 2);
            }),
        ),
        ("the last epoch", with(&|forged| forged.epoch = LAST_EPOCH)),
        (
            "the unapproved node as home in the last epoch",
            with(&|forged| {
                forged.home = UNAPPROVED.into();
                forged.epoch = LAST_EPOCH;
            }),
        ),
    ]
}

#[test]
fn a_forged_record_ends_no_session_closes_no_link_and_is_corrected() {
    for (what, forged) in forged_records() {
        let mut network = Network::with_participants(&[0, 1, 2]);
        let links = network.open_links();
        assert_eq!(links.len(), 6, "each node has a link to each");
        network.written.clear();
        network.read(&forged);
        network.settle_records();
        network.assert_nobody_noticed(what);
        assert_eq!(network.open_links(), links, "{what}");
        // Each node with participants writes the record again, from what it follows.
        for index in 0..NODES.len() {
            let mut written = network.written.iter().filter(|(node, _)| *node == index);
            assert_eq!(written.next().map(|(_, last)| last), Some(&assignment()), "{what}: {index}");
        }
        // Nothing of it stays.
        network.read(&assignment());
        network.settle_records();
        network.written.clear();
        network.settle_records();
        assert_eq!(network.written, [], "{what}");
    }
}

#[test]
fn a_node_with_participants_keeps_its_links_while_the_record_does_not_have_it() {
    let mut network = Network::with_participants(&[0, 1]);
    let mut without = assignment();
    without.spill.clear();
    without.add_spill(UNAPPROVED.into(), 2);
    network.read(&without);
    network.settle_records();
    for node in &network.nodes[..2] {
        assert_eq!(participants(node).len(), 2, "at {}", node.name);
    }
    assert_eq!(network.asked_to_rejoin, BTreeSet::new());
    assert!(!network.nodes[0].wanted.contains(UNAPPROVED));
    assert_eq!(network.open_links(), [(0, 1), (1, 0)], "osl-1 carries nobody");
    assert!(network.written.iter().any(|(node, _)| *node == 1), "sto-1 writes itself into the record again");
    let residency = network.nodes[0].core.residency();
    assert!(residency.nodes.iter().any(|node| node.node == "sto-1"), "{residency:?}");

    // It keeps them while its link stands only.
    network.nodes[1].wanted.clear();
    network.close(0, 1);
    network.advance(8_100);
    assert!(!network.nodes[0].wanted.contains("sto-1"));
    assert_eq!(participants(&network.nodes[0]).len(), 1);
}

#[test]
fn a_room_that_opened_by_a_forged_epoch_follows_the_true_record() {
    let mut network = Network::with_participants(&[1]);
    let mut forged = assignment();
    forged.epoch = LAST_EPOCH;
    network.nodes[0].core = network.core(0, forged.clone());
    network.read(&assignment());
    assert_eq!(network.nodes[0].core.assignment(), &assignment());
    network.read(&forged);
    assert_eq!(network.nodes[0].core.assignment(), &assignment());
}

#[test]
fn after_an_old_backup_the_later_takeover_is_written_again() {
    let mut network = Network::with_participants(&[1]);
    let mut later = assignment();
    later.take_over("cph-1".into(), 2);
    network.read(&later);
    network.settle_records();
    network.written.clear();
    // The record of before the takeover names sto-1 too.
    network.read(&assignment());
    network.settle_records();
    assert_eq!(network.nodes[1].core.assignment(), &later);
    assert_eq!(network.written.first(), Some(&(1, later)));
}

#[test]
fn participants_of_a_node_that_restarts_after_its_clock_was_set_back_are_visible() {
    let mut network = Network::with_participants(&[0, 1, 2]);
    network.nodes[1].wanted.clear();
    for other in [0, 2] {
        network.close(1, other);
    }
    network.now.unix_ms -= 30_000;
    network.nodes[1].core = network.core(1, assignment());
    network.nodes[1].clients.clear();
    network.read(&assignment());
    network.join_as(1, "hans");
    network.settle_records();
    let all = participants(&network.nodes[0]);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["anna", "chen", "hans"]);
    network.assert_nobody_noticed("a restart");
}
