//! Changes of the room's assignment, and of what its home does with it.

use super::*;

const UNAPPROVED: &str = "aws-sto-1";

impl Network {
    /// A room with participants on these nodes.
    fn with_participants(at: &[usize]) -> Self {
        Self::with_documents_and_participants(&documents(), at)
    }

    fn with_documents_and_participants(documents: &DemoDocuments, at: &[usize]) -> Self {
        let mut network = Self::with_documents(5, documents);
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

    /// All nodes follow this assignment, which the record has.
    fn read(&mut self, followed: &Assignment) {
        self.read_recorded(followed, true);
    }

    /// All nodes follow this assignment.
    fn read_recorded(&mut self, followed: &Assignment, recorded: bool) {
        for index in 0..NODES.len() {
            self.read_view(index, |view| {
                view.assignment = Some(followed.clone());
                view.recorded = recorded;
            });
        }
    }

    /// One node reads this view.
    fn read_view(&mut self, index: usize, change: impl FnOnce(&mut ClusterView)) {
        let address =
            NodeAddress { grpc: "10.0.0.1:1".parse().unwrap(), quic: "10.0.0.1:2".parse().unwrap() };
        let mut nodes: BTreeMap<_, _> = NODES.map(|name| (name.to_owned(), Some(address))).into();
        nodes.insert(UNAPPROVED.to_owned(), Some(address));
        let assignment = Some(self.nodes[index].core.assignment().clone());
        let media_nodes = nodes.keys().cloned().collect();
        let mut view =
            ClusterView { assignment, media_nodes, recorded: true, nodes, ..ClusterView::default() };
        change(&mut view);
        self.input(index, RoomInput::Cluster(view));
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

#[test]
fn a_node_with_participants_keeps_its_links_while_the_assignment_does_not_have_it() {
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
fn a_node_with_participants_that_the_grant_lists_no_more_is_left_out_at_once() {
    let mut network = Network::with_participants(&[0, 1, 2]);
    // Policy denies sto-1 now. The home has that policy, and has signed a grant without sto-1. Osl-1 has the grant only.
    let mut without = assignment();
    without.spill.retain(|node| *node != *"sto-1");
    network.read_view(2, |view| {
        view.assignment = Some(without);
        view.media_nodes.remove("sto-1");
    });
    assert!(!network.nodes[2].wanted.contains("sto-1"));
    assert_eq!(network.open_links(), [(0, 1), (0, 2), (1, 0), (2, 0)]);
    assert_eq!(participants(&network.nodes[2]).keys().collect::<Vec<_>>(), ["anna", "chen"]);
    let before = network.trace.len();
    network.join_as(2, "dina");
    network.settle_records();
    let sent: Vec<_> =
        network.trace[before..].iter().filter(|sent| sent.starts_with("osl-1 sto-1 ")).collect();
    assert!(sent.is_empty(), "{sent:?}");
    // Its policy would approve sto-1, also when the room opens anew on their link.
    let opened = RoomLinkEvent::Opened { node: "sto-1".to_owned(), link: 9 };
    network.nodes[2].core.handle(RoomInput::Link(opened), network.now);
    network.read_view(2, |view| {
        view.media_nodes.remove("sto-1");
    });
    assert!(!network.nodes[2].core.peers.contains_key("sto-1"));
    assert!(!network.trace[before..].iter().any(|sent| sent.starts_with("osl-1 sto-1 ")));
}

#[test]
fn only_the_home_writes_the_rooms_record_and_no_more_often_than_needed() {
    let mut network = Network::with_participants(&[0, 1, 2]);
    network.read_recorded(&assignment(), false);
    network.settle_records();
    assert!(
        network.written.len() <= 2 && network.written.iter().all(|node| *node == 0),
        "{:?}",
        network.written
    );
    network.written.clear();
    network.read(&assignment());
    network.settle_records();
    assert_eq!(network.written, Vec::<usize>::new(), "the record is as it should be");
}

#[test]
fn the_home_tells_its_peers_each_new_grant_and_who_carries_the_room() {
    let mut network = Network::with_participants(&[0, 1, 2]);
    network.settle_records();
    network.told.clear();
    let mut renewed = assignment();
    renewed.grant = "the renewed grant".to_owned();
    network.read(&renewed);
    network.settle_records();
    let told = |network: &Network| {
        let told = network.told.iter().map(|(to, from, told)| (*to, from.clone(), told.grant.clone()));
        told.collect::<BTreeSet<_>>()
    };
    let grant = || "the renewed grant".to_owned();
    assert_eq!(told(&network), [1, 2].map(|to| (to, "cph-1".to_owned(), grant())).into());
    let spill: Vec<&str> = network.told[0].2.spill.iter().map(|carrying| carrying.node.as_str()).collect();
    assert_eq!(spill, ["sto-1", "osl-1"]);
    network.told.clear();
    network.settle_records();
    assert_eq!(network.told.len(), 0, "nothing changed");
}

#[test]
fn a_home_that_handed_its_role_over_tells_the_others_and_nobody_notices() {
    let documents = with_policy(&with_homes_everywhere(demo::KU_DK));
    let mut network = Network::with_documents_and_participants(&documents, &[0, 1, 2]);
    network.settle_records();
    network.told.clear();
    let mut handed_over = assignment();
    (handed_over.home, handed_over.epoch) = ("sto-1".into(), 2);
    handed_over.spill = vec!["osl-1".into(), "cph-1".into()];
    handed_over.grant = "the grant of sto-1".to_owned();
    // The others can reach the old home, so only its word counts.
    network.read_view(0, |view| view.assignment = Some(handed_over.clone()));
    network.settle_records();
    let told = network.told.iter().map(|(to, from, told)| (*to, from.as_str(), told.grant.as_str()));
    let told: BTreeSet<_> = told.filter(|(_, from, _)| *from == "cph-1").collect();
    assert_eq!(told, [1, 2].map(|to| (to, "cph-1", "the grant of sto-1")).into());
    network.read(&handed_over);
    network.settle_records();
    assert_eq!(participants(&network.nodes[2]).len(), 3);
    network.assert_nobody_noticed("a hand-over");
}

#[test]
fn a_drain_asks_as_many_participants_to_reconnect_as_it_wants() {
    let mut network = Network::with_participants(&[0, 1]);
    network.join_as(0, "dina");
    network.join_as(0, "emil");
    network.settle_records();
    network.input(0, RoomInput::AskToReconnect(2));
    network.settle_records();
    assert_eq!(network.asked_to_rejoin, ["anna", "dina"].map(str::to_owned).into());
    assert_eq!(participants(&network.nodes[1]).keys().collect::<Vec<_>>(), ["bob", "emil"]);
    network.input(0, RoomInput::AskToReconnect(9));
    network.settle_records();
    assert_eq!(participants(&network.nodes[1]).keys().collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn a_grant_that_its_home_does_not_renew_ends_the_room_at_a_spill_node() {
    let mut network = Network::with_participants(&[0, 1, 2]);
    network.read_view(1, |view| view.grant_ended = true);
    network.settle_records();
    assert_eq!(network.asked_to_rejoin.len(), 1, "the participant of sto-1: {:?}", network.asked_to_rejoin);
    assert_eq!(participants(&network.nodes[0]).len(), 2);
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
