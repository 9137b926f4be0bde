use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use systir_assignment::{LAST_EPOCH, MAX_MISSED_EPOCHS, RoomId};
use systir_documents::{DocumentHash, Grant, GrantTerms, MAX_GRANT_LIFE_MS, SignedGrant, SigningKey};

use crate::{Circumstances, GrantBook, GrantRefusal, GrantRole, GrantTime, HomeReach, Offered};

const HOMES: [&str; 3] = ["cph-1", "cph-2", "osl-1"];
const HOSTILE: &str = "aws-sto-1";

fn room() -> RoomId {
    RoomId::new("ku.dk", "lecture")
}

fn key(node: &str) -> SigningKey {
    let mut seed = [0; 32];
    for (byte, of_name) in seed.iter_mut().zip(node.bytes()) {
        *byte = of_name;
    }
    SigningKey::from_seed(node, seed).unwrap()
}

fn terms() -> GrantTerms {
    let all = || HOMES.map(str::to_owned).into();
    GrantTerms {
        trust_domain: "nordu.net".to_owned(),
        homes: all(),
        spill: all(),
        gateways: all(),
        class: "standard".to_owned(),
        e2ee: false,
        policy_version: 1,
        policy_hash: DocumentHash::of("policy"),
        directory_version: 1,
        directory_hash: DocumentHash::of("directory"),
    }
}

/// A node and what it knows of the others.
struct Node {
    name: &'static str,
    book: GrantBook,
    reach: BTreeMap<&'static str, HomeReach>,
    denied: Vec<&'static str>,
    leads: bool,
    now: GrantTime,
}

impl Node {
    fn new(name: &'static str) -> Self {
        let now = GrantTime { instant: Instant::now(), unix_ms: 1_800_000_000_000 };
        let reach = HOMES.iter().map(|home| (*home, HomeReach::Up)).collect();
        Self {
            name,
            book: GrantBook::new(name, Duration::from_millis(MAX_GRANT_LIFE_MS)),
            reach,
            denied: vec![HOSTILE],
            leads: false,
            now,
        }
    }

    fn with_first(name: &'static str) -> Self {
        let mut node = Self::new(name);
        let first = node.book.first(&room(), "RM_1".to_owned(), terms(), &key(name), node.now).unwrap();
        node.book.adopt(&room(), first, node.now);
        node
    }

    fn offer(&mut self, signed: &SignedGrant, from: Option<&str>) -> Offered {
        let Self { book, reach, denied, leads, now, .. } = self;
        let circumstances = Circumstances {
            now: *now,
            approves_home: &|node| !denied.contains(&node),
            reach: &|node| reach.get(node).copied().unwrap_or(HomeReach::Unknown),
            leads: &|| *leads,
        };
        book.offer(&room(), signed.clone(), from, &circumstances)
    }

    /// Holds what another node holds, told by that node.
    fn follow(&mut self, other: &Self) -> Offered {
        self.offer(&other.held(), Some(other.name))
    }

    fn held(&self) -> SignedGrant {
        self.book.held(&room()).unwrap().signed().clone()
    }

    /// Signs the next grant, and holds it.
    fn sign_next(&mut self, after: u64) -> SignedGrant {
        let next = self.book.next(&room(), after, terms(), &key(self.name), self.now).unwrap();
        self.book.adopt(&room(), next.clone(), self.now);
        next
    }

    fn home(&self) -> (String, u64) {
        let held = self.held();
        (held.grant().home.clone(), held.grant().epoch)
    }

    fn advance(&mut self, ms: u64) {
        self.now.instant += Duration::from_millis(ms);
        self.now.unix_ms += ms;
    }

    fn may(&self, role: GrantRole, node: &str, standing: bool) -> Result<(), GrantRefusal> {
        self.book.check(&room(), &[(role, node)], standing, self.now.instant).map(|_| ())
    }
}

#[test]
fn nobody_takes_over_a_room_whose_home_can_be_reached() {
    let home = Node::with_first("cph-1");
    let (mut member, mut usurper) = (Node::new("osl-1"), Node::new("cph-2"));
    assert_eq!((member.follow(&home), usurper.follow(&home)), (Offered::Accepted, Offered::Accepted));
    usurper.sign_next(1);
    assert_eq!(usurper.home(), ("cph-2".to_owned(), 2));
    let alive = Offered::Refused(GrantRefusal::HomeAlive { home: "cph-1".to_owned() });
    assert_eq!(member.follow(&usurper), alive);
    // Nor with any later epoch, nor with a rival of the same epoch.
    for _ in 0..5 {
        usurper.sign_next(usurper.home().1 + 100);
        assert_eq!(member.follow(&usurper), alive);
    }
    let rival = Node::with_first("cph-2");
    assert_eq!(member.follow(&rival), alive);
    assert_eq!(member.home(), ("cph-1".to_owned(), 1));
}

#[test]
fn a_home_that_leads_answers_a_claim_with_an_epoch_that_all_follow() {
    let mut home = Node::with_first("cph-1");
    let (mut member, mut successor) = (Node::new("osl-1"), Node::new("cph-2"));
    member.follow(&home);
    successor.follow(&home);
    member.reach.insert("cph-1", HomeReach::Gone);
    successor.sign_next(1);
    assert_eq!(member.follow(&successor), Offered::Accepted, "its home cannot be reached");
    home.leads = true;
    assert_eq!(home.follow(&successor), Offered::Contested { epoch: 2 });
    home.sign_next(2);
    assert_eq!(home.home(), ("cph-1".to_owned(), 3));
    // Both followed another home only because this one was out of reach.
    assert_eq!(member.follow(&home), Offered::Accepted);
    let mut follower = Node::new("cph-2");
    follower.follow(&home);
    assert_eq!((member.home(), follower.home()), (home.home(), home.home()));
}

#[test]
fn a_possible_home_takes_no_room_in_its_first_epoch_and_drives_no_epoch_to_the_last() {
    // Of two names the lower one wins where two nodes took over at once.
    for (living, usurper) in [("cph-1", "cph-2"), ("cph-2", "cph-1")] {
        for leads in [false, true] {
            let mut home = Node::with_first(living);
            home.leads = leads;
            let known = home.held().grant().clone();
            for successor_of in [None, Some(living), Some("osl-1")] {
                let mut claim = |epoch| {
                    let mut claim = known.clone();
                    (claim.home, claim.epoch) = (usurper.to_owned(), epoch);
                    claim.successor_of = successor_of.map(str::to_owned);
                    home.offer(&SignedGrant::sign(claim, &key(usurper)).unwrap(), Some(usurper))
                };
                let refused = GrantRefusal::NotASuccessor { epoch: 1, home: living.to_owned() };
                for epoch in [1, MAX_MISSED_EPOCHS + 2, LAST_EPOCH] {
                    assert_eq!(claim(epoch), Offered::Refused(refused.clone()), "epoch {epoch}");
                }
                for epoch in [LAST_EPOCH + 1, u64::MAX] {
                    assert_eq!(claim(epoch), Offered::Refused(GrantRefusal::Epoch));
                }
            }
            assert_eq!(home.held().grant(), &known);
        }
    }
}

#[test]
fn a_successor_of_a_denied_home_in_the_last_epoch_signs_an_epoch_that_all_read() {
    let mut last = Node::with_first("cph-1").held().grant().clone();
    last.epoch = LAST_EPOCH;
    let last = SignedGrant::sign(last, &key("cph-1")).unwrap();
    let (mut successor, mut member) = (Node::new("cph-2"), Node::new("osl-1"));
    for node in [&mut successor, &mut member] {
        assert_eq!(node.offer(&last, Some("cph-1")), Offered::Accepted);
        node.denied.push("cph-1");
    }
    successor.sign_next(LAST_EPOCH);
    assert_eq!(member.follow(&successor), Offered::Accepted);
    assert_eq!(member.home(), ("cph-2".to_owned(), 2));
}

#[test]
fn a_rival_with_a_lower_name_takes_no_room_that_its_home_leads() {
    let mut home = Node::with_first("cph-2");
    let mut other = Node::new("cph-1");
    other.follow(&home);
    home.sign_next(1);
    assert_eq!(home.home(), ("cph-2".to_owned(), 2));
    other.sign_next(1);
    assert_eq!(other.home(), ("cph-1".to_owned(), 2));
    home.leads = true;
    assert_eq!(home.follow(&other), Offered::Contested { epoch: 2 });
    home.sign_next(2);
    assert_eq!(home.home(), ("cph-2".to_owned(), 3));
}

#[test]
fn of_two_homes_that_lead_the_successor_follows_the_one_that_it_could_not_reach() {
    let mut home = Node::with_first("cph-1");
    let mut successor = Node::new("cph-2");
    successor.follow(&home);
    successor.sign_next(1);
    (home.leads, successor.leads) = (true, true);
    let Offered::Contested { epoch } = home.follow(&successor) else { panic!("the home leads") };
    home.sign_next(epoch);
    assert_eq!(successor.follow(&home), Offered::Accepted);
    assert_eq!((home.home(), successor.home()), (("cph-1".to_owned(), 3), ("cph-1".to_owned(), 3)));
}

#[test]
fn a_home_that_leads_no_more_follows_its_successor_and_says_so() {
    let mut home = Node::with_first("cph-1");
    let (mut member, mut successor) = (Node::new("osl-1"), Node::new("cph-2"));
    member.follow(&home);
    successor.follow(&home);
    successor.sign_next(1);
    assert!(matches!(member.follow(&successor), Offered::Refused(_)), "it reaches the home");
    assert_eq!(home.follow(&successor), Offered::Accepted);
    // The old home's own word hands the room over.
    assert_eq!(member.follow(&home), Offered::Accepted);
    assert_eq!(member.home(), ("cph-2".to_owned(), 2));
}

#[test]
fn a_home_that_was_not_asked_is_asked_first() {
    let home = Node::with_first("cph-1");
    let (mut member, mut successor) = (Node::new("osl-1"), Node::new("cph-2"));
    member.follow(&home);
    successor.follow(&home);
    successor.sign_next(1);
    member.reach.insert("cph-1", HomeReach::Unknown);
    assert_eq!(member.follow(&successor), Offered::AskHome("cph-1".to_owned()));
    assert_eq!(member.home(), ("cph-1".to_owned(), 1));
}

#[test]
fn a_restarted_home_continues_in_a_new_epoch_which_all_follow() {
    let mut member = Node::new("osl-1");
    {
        let mut home = Node::with_first("cph-1");
        member.follow(&home);
        home.sign_next(0);
        member.follow(&home);
    }
    let mut restarted = Node::new("cph-1");
    assert_eq!(restarted.follow(&member), Offered::Accepted);
    let terms = terms();
    assert!(restarted.book.must_renew(&room(), &terms, restarted.now.instant), "another process signed it");
    restarted.sign_next(0);
    assert_eq!(restarted.home(), ("cph-1".to_owned(), 2));
    assert_eq!(member.follow(&restarted), Offered::Accepted);
}

#[test]
fn a_home_that_lost_its_role_orders_nothing_whatever_epoch_it_signed() {
    let mut hostile_home = Node::with_first("cph-1");
    let (mut member, mut successor) = (Node::new("osl-1"), Node::new("cph-2"));
    hostile_home.sign_next(LAST_EPOCH - 1);
    hostile_home.book.forget(&room());
    let mut highest = Node::with_first("cph-1").held().grant().clone();
    highest.epoch = LAST_EPOCH;
    let highest = SignedGrant::sign(highest, &key("cph-1")).unwrap();
    member.offer(&highest, Some("cph-1"));
    // The successor holds the grant of before.
    successor.follow(&Node::with_first("cph-1"));
    for node in [&mut member, &mut successor] {
        node.denied.push("cph-1");
    }
    successor.sign_next(1);
    assert_eq!(successor.home(), ("cph-2".to_owned(), 2));
    assert_eq!(member.follow(&successor), Offered::Accepted);
    assert_eq!(member.home(), ("cph-2".to_owned(), 2));
    let denied = Offered::Refused(GrantRefusal::HomeDenied("cph-1".to_owned()));
    assert_eq!(member.offer(&highest, Some("cph-1")), denied, "it does not come back");
}

#[test]
fn an_unapproved_node_is_never_followed() {
    let mut member = Node::new("osl-1");
    let mut grant = Node::with_first("cph-1").held().grant().clone();
    grant.terms.homes.insert(HOSTILE.to_owned());
    grant.home = HOSTILE.to_owned();
    let forged = SignedGrant::sign(grant, &key(HOSTILE)).unwrap();
    for from in [None, Some(HOSTILE), Some("cph-1")] {
        let denied = Offered::Refused(GrantRefusal::HomeDenied(HOSTILE.to_owned()));
        assert_eq!(member.offer(&forged, from), denied);
    }
}

#[test]
fn an_ended_grant_opens_nothing_and_counts_for_what_stands() {
    let home = Node::with_first("cph-1");
    let mut member = Node::new("osl-1");
    member.follow(&home);
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Ok(()));
    member.advance(MAX_GRANT_LIFE_MS);
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Err(GrantRefusal::Ended));
    assert_eq!(member.may(GrantRole::Spill, "osl-1", true), Ok(()));
    let unlisted = GrantRefusal::NotListed { node: HOSTILE.to_owned(), role: GrantRole::Spill };
    assert_eq!(member.may(GrantRole::Spill, HOSTILE, true), Err(unlisted));
    assert_eq!(member.may(GrantRole::Home, "cph-1", true), Ok(()));
    assert!(member.may(GrantRole::Home, "cph-2", true).is_err(), "only one node is home");
}

#[test]
fn a_grant_counts_by_its_dates_unless_its_home_itself_sent_it() {
    let home = Node::with_first("cph-1");
    for (ms, ended) in
        [(-30 * 86_400_000, true), (-300_001, true), (-300_000, false), (0, false), (600_000, true)]
    {
        let mut member = Node::new("osl-1");
        member.now.unix_ms = member.now.unix_ms.saturating_add_signed(ms);
        member.offer(&home.held(), None);
        assert_eq!(
            member.may(GrantRole::Gateway, "osl-1", false).is_err(),
            ended,
            "{ms} ms, from the registry"
        );
        let mut member = Node::new("osl-1");
        member.now.unix_ms = member.now.unix_ms.saturating_add_signed(ms);
        member.follow(&home);
        assert_eq!(member.may(GrantRole::Gateway, "osl-1", false), Ok(()), "{ms} ms, from its home");
    }
}

#[test]
fn a_grant_that_is_early_by_the_clock_counts_once_its_home_itself_tells_it() {
    let home = Node::with_first("cph-1");
    let mut member = Node::new("osl-1");
    member.now.unix_ms -= 400_000;
    member.offer(&home.held(), None);
    assert_eq!(member.offer(&home.held(), Some("cph-2")), Offered::Known);
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Err(GrantRefusal::Ended));
    assert_eq!(member.offer(&home.held(), Some("cph-1")), Offered::Accepted);
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Ok(()));
    // Told again, it extends nothing.
    member.advance(MAX_GRANT_LIFE_MS);
    assert_eq!(member.offer(&home.held(), Some("cph-1")), Offered::Known);
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Err(GrantRefusal::Ended));
}

#[test]
fn a_replayed_grant_extends_nothing_and_of_two_with_one_number_the_first_stays() {
    let mut home = Node::with_first("cph-1");
    let mut member = Node::new("osl-1");
    let first = home.held();
    member.follow(&home);
    home.sign_next(0);
    member.follow(&home);
    member.advance(MAX_GRANT_LIFE_MS);
    for from in [None, Some("cph-1"), Some("cph-2")] {
        assert!(matches!(member.offer(&first, from), Offered::Refused(GrantRefusal::Older { .. })));
        let again = home.held();
        assert_eq!(member.offer(&again, from), Offered::Known);
    }
    assert_eq!(member.may(GrantRole::Spill, "osl-1", false), Err(GrantRefusal::Ended));
    let mut other = home.held().grant().clone();
    other.terms.spill.clear();
    let other = SignedGrant::sign(other, &key("cph-1")).unwrap();
    let conflict = Offered::Refused(GrantRefusal::Conflict("cph-1".to_owned()));
    assert_eq!(member.offer(&other, Some("cph-1")), conflict);
}

#[test]
fn the_homes_word_on_who_carries_the_room_counts_more_than_the_record() {
    let home = Node::with_first("cph-1");
    let mut member = Node::new("osl-1");
    member.follow(&home);
    let spill = |member: &Node| {
        let assignment = member.book.assignment(&room()).unwrap();
        assignment.spill.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let named = |nodes: &[&str]| nodes.iter().map(|node| ((*node).to_owned(), 1)).collect::<Vec<_>>();
    assert!(member.book.record_named(&room(), "cph-1", &named(&["cph-2", HOSTILE]), 1));
    assert_eq!(spill(&member), ["cph-2"], "only nodes that the grant lists");
    assert!(member.book.add_carrier(&room(), "osl-1", 1));
    assert!(!member.book.home_named(&room(), "cph-2", &named(&[]), 1), "it is not the home");
    assert!(member.book.home_named(&room(), "cph-1", &named(&[]), 1));
    assert_eq!(spill(&member), ["osl-1"], "the home may not know of this node yet");
    assert!(!member.book.record_named(&room(), "cph-1", &named(&["cph-2"]), 1));
    assert!(!member.book.add_carrier(&room(), HOSTILE, 1));
    assert!(!member.book.add_carrier(&room(), "cph-1", 1), "the home is no spill node");
}

#[test]
fn a_home_that_leads_jumps_to_no_epoch_that_a_node_invents() {
    let mut home = Node::with_first("cph-1");
    home.leads = true;
    let mut usurper = Node::new("cph-2");
    usurper.follow(&home);
    usurper.sign_next(LAST_EPOCH - 1);
    assert!(matches!(home.follow(&usurper), Offered::Refused(GrantRefusal::NotASuccessor { .. })));
    home.leads = false;
    assert!(matches!(home.follow(&usurper), Offered::Refused(GrantRefusal::NotASuccessor { .. })));
    assert_eq!(home.home(), ("cph-1".to_owned(), 1));
}

#[test]
fn a_room_that_its_home_made_anew_is_followed_by_the_homes_own_word() {
    let mut home = Node::with_first("cph-1");
    home.sign_next(0);
    let mut member = Node::new("osl-1");
    member.follow(&home);
    let mut anew = Node::new("cph-1");
    let first = anew.book.first(&room(), "RM_2".to_owned(), terms(), &key("cph-1"), anew.now).unwrap();
    anew.book.adopt(&room(), first, anew.now);
    assert_eq!(member.offer(&anew.held(), None), Offered::AskHome("cph-1".to_owned()));
    assert_eq!(member.follow(&anew), Offered::Accepted);
    assert_eq!(member.held().grant().sid, "RM_2");
}

#[test]
fn one_home_cannot_fill_the_book_with_rooms_that_it_invents() {
    let mut member = Node::new("osl-1");
    let grant = Node::with_first("cph-1").held().grant().clone();
    let signed = |number: usize, home: &str| {
        let room = RoomId::new("ku.dk", &format!("room-{number}"));
        let grant = Grant { room: room.key(), home: home.to_owned(), ..grant.clone() };
        (room, SignedGrant::sign(grant, &key(home)).unwrap())
    };
    let offer = |member: &mut Node, (room, signed): (RoomId, SignedGrant)| {
        let circumstances = Circumstances {
            now: member.now,
            approves_home: &|_| true,
            reach: &|_| HomeReach::Up,
            leads: &|| false,
        };
        member.book.offer(&room, signed, None, &circumstances)
    };
    let accepted =
        (0..30_000).filter(|n| offer(&mut member, signed(*n, "cph-1")) == Offered::Accepted).count();
    assert_eq!(accepted, 20_000);
    assert_eq!(offer(&mut member, signed(30_000, "cph-2")), Offered::Accepted);
    member.book.prune(member.now.instant + Duration::from_secs(7200), |_| false);
    assert_eq!(offer(&mut member, signed(30_001, "cph-1")), Offered::Accepted);
}

#[test]
fn a_grant_of_another_room_is_refused() {
    let home = Node::with_first("cph-1");
    let mut member = Node::new("osl-1");
    let mut grant = home.held().grant().clone();
    grant.room = RoomId::new("ku.dk", "exam").key();
    let other = SignedGrant::sign(grant, &key("cph-1")).unwrap();
    assert_eq!(member.offer(&other, Some("cph-1")), Offered::Refused(GrantRefusal::OtherRoom));
    let mut grant = home.held().grant().clone();
    grant.institution = "su.se".to_owned();
    let other = SignedGrant::sign(grant, &key("cph-1")).unwrap();
    assert_eq!(member.offer(&other, Some("cph-1")), Offered::Refused(GrantRefusal::OtherRoom));
}

proptest! {
    /// Whatever takeovers, restarts, outages and renewals happen: once all nodes reach each other and tell what they hold,
    /// they follow one home, if not two of them lead the room. `leader`: the node that does; 3 for none.
    #[test]
    fn nodes_that_reach_each_other_again_follow_one_home(
        steps in proptest::collection::vec((0usize..3, 0usize..3, 0u8..6), 0..40),
        leader in 0usize..4,
    ) {
        let mut nodes: Vec<Node> = HOMES.iter().map(|home| Node::new(home)).collect();
        nodes[0] = Node::with_first("cph-1");
        for (at, other, step) in steps {
            let told = nodes[other].book.held(&room()).map(|held| held.signed().clone());
            let node = &mut nodes[at];
            match step {
                0 => { node.reach.insert(HOMES[other], HomeReach::Gone); }
                1 => { node.reach.insert(HOMES[other], HomeReach::Up); }
                2 => { node.leads = !node.leads; }
                3 => {
                    let away = node.book.held(&room()).map(|held| held.grant().home.clone());
                    if let Some(home) = away
                        && (home == node.name || node.reach.get(home.as_str()) == Some(&HomeReach::Gone))
                    {
                        node.sign_next(0);
                    }
                }
                _ => {
                    if let Some(told) = told
                        && let Offered::Contested { epoch } = node.offer(&told, Some(HOMES[other]))
                    {
                        node.sign_next(epoch);
                    }
                }
            }
        }
        for (index, node) in nodes.iter_mut().enumerate() {
            node.reach = HOMES.iter().map(|home| (*home, HomeReach::Up)).collect();
            node.leads = index == leader;
        }
        for _ in 0..6 {
            for at in 0..3 {
                for other in 0..3 {
                    if let Some(told) = nodes[other].book.held(&room()).map(|held| held.signed().clone()) {
                        let node = &mut nodes[at];
                        if let Offered::Contested { epoch } = node.offer(&told, Some(HOMES[other])) {
                            node.sign_next(epoch);
                        }
                    }
                }
            }
        }
        let homes: Vec<(String, u64)> = nodes.iter().map(Node::home).collect();
        prop_assert!(homes.iter().all(|home| *home == homes[0]), "{:?}", homes);
    }
}
