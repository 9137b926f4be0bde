//! The assignments of all rooms, as one node knows them: the home by a signed grant, the spill nodes by the home's word.
//! The registry's records only hint at them. Only a room's home writes its record.

mod hand_over;
mod home;
mod peers;
mod records;
mod terms;
#[cfg(test)]
mod tests;
mod told;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metrics;
use systir_assignment::{Assignment, MediaRole, RoomId};
use systir_documents::{Grant, GrantTerms, NodeKey, NodeNoteRefused, PublicKey, SignedGrant};
use systir_grants::{Circumstances, GrantBook, GrantRefusal, GrantRole, GrantTime, HomeReach, Offered};
use systir_policy::{Action, Authority};
use systir_reason::{ByReason, Reason, Refusal};

use crate::registry::Registry;
use terms::{Terms, stated};

pub use peers::{GrantPeers, GrantPurpose, Occupied, ToldAssignment};

/// How long an answer of a home, or its silence, is known.
const REACH_VALIDITY: Duration = Duration::from_secs(5);

/// How long a home may take to answer: as long as the loss of a link takes to be detected.
pub const HOME_ANSWER_TIMEOUT: Duration = Duration::from_millis(600);

/// How long the link to a home must be up, while it does not renew an ended grant, before the room closes.
const RENEWAL_GRACE: Duration = Duration::from_secs(10);

/// Most homes whose answers are remembered.
const MAX_REACHES: usize = 1024;

/// Unix time in milliseconds, for the registry's records.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as u64).unwrap_or_default()
}

fn now() -> GrantTime {
    GrantTime { instant: Instant::now(), unix_ms: unix_ms() }
}

/// Who this node is, to sign grants.
#[derive(Debug)]
pub struct GrantSigner {
    /// Its name.
    pub node: String,
    /// The trust domain of its cluster.
    pub trust_domain: String,
    /// Its node key.
    pub key: NodeKey,
    /// Life of the grants that it signs.
    pub life: Duration,
}

/// The assignments of all rooms, as one node knows them.
#[derive(Debug)]
pub struct Assignments {
    registry: Arc<dyn Registry>,
    signer: GrantSigner,
    authority: Arc<Authority>,
    terms: Terms,
    book: Mutex<GrantBook>,
    peers: OnceLock<Arc<dyn GrantPeers>>,
    /// Which rooms this node uses.
    occupied: OnceLock<Box<dyn Occupied>>,
    /// Whether homes without a link answered lately, and when.
    reached: Mutex<HashMap<String, (Instant, bool)>>,
    /// The revision of each room's record that was read last.
    read: Mutex<HashMap<RoomId, u64>>,
    /// Rooms of this node, as home, in which another node's claim was answered lately.
    contested: Mutex<HashMap<RoomId, Instant>>,
    /// Rooms of this node, as home, that are being handed over, each with the node that takes it.
    handing_over: Mutex<HashMap<RoomId, String>>,
    /// The key with which this node's grants were signed when they were looked at last.
    signed_with: Mutex<PublicKey>,
    /// For tasks that outlive a call.
    this: Weak<Self>,
    metrics: AssignmentMetrics,
}

#[derive(Debug, Default)]
struct AssignmentMetrics {
    restored: Counter,
    takeovers: Counter,
    handed_over: Counter,
    signed: Counter,
    refused: Family<ByReason, Counter>,
    ended: Gauge,
}

/// The reason why a grant is not believed.
fn reason_of(refused: &NodeNoteRefused) -> Reason {
    if refused.is_unsupported() { Reason::UnsupportedVersion } else { Reason::GrantInvalid }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Assignments {
    /// Without grants.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, signer: GrantSigner, authority: Arc<Authority>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            book: Mutex::new(GrantBook::new(&signer.node, signer.life)),
            terms: Terms::new(&signer.trust_domain),
            signed_with: Mutex::new(signer.key.public()),
            registry,
            signer,
            authority,
            peers: OnceLock::new(),
            occupied: OnceLock::new(),
            reached: Mutex::default(),
            read: Mutex::default(),
            contested: Mutex::default(),
            handing_over: Mutex::default(),
            this: this.clone(),
            metrics: AssignmentMetrics::default(),
        })
    }

    /// Sets the other nodes once links have started, and who tells which rooms this node uses.
    pub fn connect(&self, peers: Arc<dyn GrantPeers>, occupied: Box<dyn Occupied>) {
        let _ = self.peers.set(peers);
        let _ = self.occupied.set(occupied);
    }

    /// Registers the metrics.
    pub fn register(&self, metrics: &mut Metrics) {
        let AssignmentMetrics { restored, takeovers, handed_over, signed, refused, ended } = &self.metrics;
        metrics.register("restored_records", "Records of rooms written again", restored.clone());
        metrics.register("takeovers", "Rooms of which this node became home", takeovers.clone());
        metrics.register("hand_overs", "Rooms whose home role this node handed over", handed_over.clone());
        metrics.register("grants_signed", "Grants that this node signed as home", signed.clone());
        metrics.register("grants_refused", "Grants of other nodes that do not count", refused.clone());
        let help = "Rooms of this node that go on under an ended grant, because their home cannot be reached";
        metrics.register("grants_ended", help, ended.clone());
    }

    /// The registry that the records are in.
    #[must_use]
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The room's assignment: by the grant that this node holds, or that the registry's record has.
    #[must_use]
    pub fn get(&self, room: &RoomId) -> Option<Assignment> {
        self.read_record(room);
        lock(&self.book).assignment(room)
    }

    /// The rooms of which this node is home.
    #[must_use]
    pub fn own_rooms(&self) -> Vec<Assignment> {
        let book = lock(&self.book);
        let rooms = book.rooms().filter(|room| book.role(room, &self.signer.node) == Some(MediaRole::Home));
        rooms.filter_map(|room| book.assignment(room)).collect()
    }

    /// The role in which a node may carry the room; none when no grant lists it.
    #[must_use]
    pub fn role(&self, room: &RoomId, node: &str) -> Option<MediaRole> {
        lock(&self.book).role(room, node)
    }

    /// May these nodes act in these roles? `standing`: this node carries the room already. Then an ended grant counts
    /// while its home cannot be reached.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        room: &RoomId,
        roles: &[(GrantRole, &str)],
        standing: bool,
    ) -> Result<(), GrantRefusal> {
        // Not while the book is locked: links may ask for the grant.
        let home_away = standing && self.home(room).is_some_and(|home| self.reach(&home) != HomeReach::Up);
        self.check_lists(room, roles, home_away)
    }

    /// May these nodes go on in these roles in a room that this node carries? An ended grant counts until its home, which can
    /// be reached, does not renew it: see [`Assignments::has_ended`].
    ///
    /// # Errors
    /// Why not.
    pub fn check_standing(&self, room: &RoomId, roles: &[(GrantRole, &str)]) -> Result<(), GrantRefusal> {
        let goes_on = !self.has_ended(room);
        self.check_lists(room, roles, goes_on)
    }

    fn check_lists(
        &self,
        room: &RoomId,
        roles: &[(GrantRole, &str)],
        ended_counts: bool,
    ) -> Result<(), GrantRefusal> {
        let checked = lock(&self.book).check(room, roles, ended_counts, Instant::now()).map(|_| ());
        checked.inspect_err(|refused| {
            self.metrics.refused.get_or_create(&refused.reason().into()).inc();
        })
    }

    /// The home of the grant that this node holds.
    fn home(&self, room: &RoomId) -> Option<String> {
        lock(&self.book).held(room).map(|held| held.grant().home.clone())
    }

    /// Has the room's grant ended, and has the link to its home been up for 10 s since? Then its home does not renew it. A
    /// link that was down for a moment counts anew: its home may have had no time to renew.
    #[must_use]
    pub fn has_ended(&self, room: &RoomId) -> bool {
        self.had_ended(room, Instant::now())
    }

    fn had_ended(&self, room: &RoomId, now: Instant) -> bool {
        let held = {
            let book = lock(&self.book);
            book.held(room).map(|held| (held.grant().home.clone(), held.ends()))
        };
        let Some((home, ends)) = held.filter(|(home, ends)| *ends <= now && *home != self.signer.node) else {
            return false;
        };
        // Not while the book is locked: links may ask for the grant.
        let linked = self.peers.get().and_then(|peers| peers.link_since(&home));
        linked.is_some_and(|since| now.saturating_duration_since(since.max(ends)) >= RENEWAL_GRACE)
    }

    /// The grant that this node holds, as a note. Empty for none.
    #[must_use]
    pub fn note(&self, room: &RoomId) -> String {
        lock(&self.book).held(room).map(|held| held.signed().note().to_string()).unwrap_or_default()
    }

    /// Does this node hold this grant, and did it count?
    fn is_known(&self, room: &RoomId, note: &str) -> bool {
        let book = lock(&self.book);
        book.held(room).is_some_and(|held| **held.signed().note() == *note && !held.is_early())
    }

    /// What this node tells another one of the room.
    #[must_use]
    pub fn telling(&self, room: &RoomId) -> Option<ToldAssignment> {
        let assignment = lock(&self.book).assignment(room)?;
        let since = |node| assignment.since_ms.get(node).copied().unwrap_or_default();
        let spill = assignment.spill.iter().map(|node| (node.to_string(), since(node))).collect();
        Some(ToldAssignment { grant: assignment.grant, spill, created_ms: assignment.created_ms })
    }

    /// This node carries the room as a spill node from now on, if it is not home.
    pub fn carry(&self, room: &RoomId) {
        let me = self.signer.node.clone();
        self.peer_carries(room, &me);
    }

    /// A spill node carries the room from now on.
    pub fn peer_carries(&self, room: &RoomId, node: &str) {
        if lock(&self.book).add_carrier(room, node, unix_ms()) {
            self.changed(room);
        }
    }

    /// A spill node carries the room no longer.
    pub fn remove_spill(&self, room: &RoomId, node: &str) {
        if lock(&self.book).remove_carrier(room, node) {
            tracing::info!(node, "a spill node carries a room no longer");
            self.changed(room);
        }
    }

    fn changed(&self, room: &RoomId) {
        self.registry.wake_room(room);
    }

    fn verify(&self, note: &str) -> Result<SignedGrant, Refusal> {
        let keys_of =
            |home: &str| self.authority.facts(home).map(|facts| facts.keys.clone()).unwrap_or_default();
        let signed = SignedGrant::verify(note, keys_of)
            .map_err(|refused| Refusal::new(reason_of(&refused), format!("the room's grant: {refused}")))?;
        let Grant { terms: GrantTerms { trust_domain, .. }, home, .. } = signed.grant();
        if self.authority.facts(home).is_some_and(|facts| facts.is_of_trust_domain(trust_domain)) {
            return Ok(signed);
        }
        let sentence =
            format!("the room's grant is of {trust_domain}, which is not the trust domain of {home}");
        Err(Refusal::new(Reason::GrantInvalid, sentence))
    }

    fn link_is_up(&self, node: &str) -> bool {
        self.peers.get().is_some_and(|peers| peers.has_link(node))
    }

    fn reach(&self, node: &str) -> HomeReach {
        if node == self.signer.node || self.link_is_up(node) {
            return HomeReach::Up;
        }
        match lock(&self.reached).get(node) {
            Some((at, answered)) if at.elapsed() < REACH_VALIDITY => {
                if *answered {
                    HomeReach::Up
                } else {
                    HomeReach::Gone
                }
            }
            _ => HomeReach::Unknown,
        }
    }

    /// Can the node be reached, as far as this node knows?
    #[must_use]
    pub fn answers(&self, node: &str) -> bool {
        self.reach(node) == HomeReach::Up
    }

    fn note_reach(&self, node: &str, answered: bool) {
        let mut reached = lock(&self.reached);
        if reached.len() >= MAX_REACHES {
            reached.retain(|_, (at, _)| at.elapsed() < REACH_VALIDITY);
        }
        reached.insert(node.to_owned(), (Instant::now(), answered));
    }

    /// Does this node, as home, lead the room: has it participants, or links with at least half of the nodes that carry
    /// it?
    fn leads(&self, carriers: &[String], has_participants: bool) -> bool {
        let linked = carriers.iter().filter(|node| self.link_is_up(node)).count();
        has_participants || (!carriers.is_empty() && 2 * linked >= carriers.len())
    }

    /// Tells policy what the room's grant states, whenever another one is held.
    fn note_class(&self, book: &GrantBook, room: &RoomId) {
        self.authority.note_granted(room, book.held(room).map(|held| stated(&held.grant().terms)));
    }

    /// Offers a grant to the book. What decides beside the grant is found out before the book is locked.
    fn judge(&self, room: &RoomId, signed: &SignedGrant, from: Option<&str>) -> Offered {
        loop {
            let known = lock(&self.book).assignment(room);
            let known_home = known.as_ref().map(|known| known.home.to_string());
            let offering = signed.grant().home.as_str();
            let stated = Some(stated(&signed.grant().terms));
            let approved_offering = self.authority.node_if(Action::Home, room, stated, offering).allowed;
            let approves = |node: &str| self.authority.node(Action::Home, room, node).allowed;
            let approved_known = known_home.as_deref().is_some_and(approves);
            let reach = known_home.as_deref().map_or(HomeReach::Unknown, |home| self.reach(home));
            let carriers: Vec<String> =
                known.iter().flat_map(|known| &known.spill).map(ToString::to_string).collect();
            let has_participants = self.occupied.get().is_some_and(|rooms| rooms.has_participants(room));
            let handed_over = self.is_handed_over_to(room, offering);
            let leads = !handed_over && self.leads(&carriers, has_participants);
            let circumstances = Circumstances {
                now: now(),
                approves_home: &|node| if node == offering { approved_offering } else { approved_known },
                reach: &|_| reach,
                leads: &|| leads,
            };
            let mut book = lock(&self.book);
            // Another grant may be held by now, whose home was not judged.
            if book.held(room).map(|held| held.grant().home.as_str()) == known_home.as_deref() {
                let outcome = book.offer(room, signed.clone(), from, &circumstances);
                if handed_over && outcome == Offered::Accepted {
                    // It tells the others of the hand-over before it leaves.
                    book.add_carrier(room, &self.signer.node, unix_ms());
                }
                self.note_class(&book, room);
                return outcome;
            }
        }
    }
}
