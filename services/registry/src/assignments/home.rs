//! What this node does as a home: it creates rooms, takes over, and signs grants anew.

use std::time::{Duration, Instant};

use futures::future::join_all;
use systir_assignment::{Assignment, RoomId};
use systir_documents::SignedGrant;
use systir_grants::GrantRefusal;
use systir_policy::Action;
use systir_reason::{Reason, Refusal};

use super::{Assignments, GrantPurpose, ToldAssignment, lock, now};
use crate::registry::RegistryError;

/// How long the creation of a room waits for other nodes that may hold a grant of it.
const ASK_TIMEOUT: Duration = Duration::from_millis(100);

/// Shortest time between two answers to claims of other nodes in one room.
const CONTEST_INTERVAL: Duration = Duration::from_secs(10);

/// Attempts to write a room's record while other nodes write it.
const ATTEMPTS: usize = 3;

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let reason = match &error {
            RegistryError::Unavailable(_) => Reason::RegistryUnavailable,
            RegistryError::Refused(_) => Reason::RegistryRefuses,
            RegistryError::UnsupportedVersion(_) => Reason::UnsupportedVersion,
        };
        Self::new(reason, error.to_string())
    }
}

impl Assignments {
    /// The room's assignment; if no node holds a grant of the room, this node becomes its home. The caller has asked policy
    /// whether it may. `sid` makes the room's id.
    ///
    /// # Errors
    /// When the room's record cannot be written, the terms cannot be signed, or the room exists under another room key of
    /// its institution.
    pub async fn create(&self, room: &RoomId, sid: impl FnOnce() -> String) -> Result<Assignment, Refusal> {
        if let Some(known) = self.known_or_resumed(room).await? {
            return Ok(known);
        }
        let others = self.authority.room_keys().others(room);
        join_all(std::iter::once(room).chain(&others).map(|room| self.ask_others(room))).await;
        let mut absent = self.absent_under_other_keys(&others)?;
        // The record may have been read while another grant was held.
        lock(&self.read).remove(room);
        if let Some(known) = self.known_or_resumed(room).await? {
            return Ok(known);
        }
        let terms = self.terms.of(room, &self.authority)?;
        let signed = lock(&self.book)
            .first(room, sid(), terms, &self.signer.key.current(), now())
            .map_err(|error| Refusal::new(Reason::Internal, format!("a grant cannot be signed: {error}")))?;
        let record = record_of(room, &signed);
        for _ in 0..ATTEMPTS {
            // A record that is there rests on no grant that counts.
            if self.put_unless(record.clone(), &absent).await? {
                self.adopt(room, signed);
                tracing::info!("a room was created, with this node as home");
                return lock(&self.book).assignment(room).ok_or_else(|| GrantRefusal::None.into());
            }
            // Another node created it at the same time.
            absent = self.absent_under_other_keys(&others)?;
            if let Some(known) = self.known_or_resumed(room).await? {
                return Ok(known);
            }
        }
        Err(Refusal::new(Reason::RegistryRefuses, "the room's record changes all the time; try again"))
    }

    /// While an institution changes its room key, a room may exist under the key that does not make new ones. Returns the
    /// revisions of records under other keys, which rest on no grant that counts; 0 for none.
    fn absent_under_other_keys(&self, others: &[RoomId]) -> Result<Vec<(RoomId, u64)>, Refusal> {
        let absent = others.iter().map(|other| {
            // It may have been read while its home was not known.
            lock(&self.read).remove(other);
            let revision = self.registry.assignment(other).map_or(0, |record| record.revision);
            if self.get(other).is_none() {
                return Ok((other.clone(), revision));
            }
            let sentence = "the room exists under another room key of its institution; look it up again";
            Err(Refusal::new(Reason::OtherRoomKey, sentence))
        });
        absent.collect()
    }

    /// The room's assignment, if a grant of it is held that counts. If it is this node's own of before a restart, a new
    /// epoch begins.
    async fn known_or_resumed(&self, room: &RoomId) -> Result<Option<Assignment>, Refusal> {
        let Some(known) = self.get(room) else { return Ok(None) };
        let home = known.home.as_str();
        if home == self.signer.node {
            self.renew(room)?;
            return Ok(lock(&self.book).assignment(room));
        }
        let approved = self.authority.node(Action::Home, room, home).allowed;
        Ok(approved.then_some(known))
    }

    /// Asks the nodes with a link whether they hold a grant of the room: the registry may have lost its record.
    async fn ask_others(&self, room: &RoomId) {
        let Some(peers) = self.peers.get() else { return };
        let nodes = self.authority.nodes();
        let linked = nodes.iter().map(|node| node.id.as_str()).filter(|node| peers.has_link(node));
        let approved = linked.filter(|node| {
            [Action::Home, Action::Spill].iter().any(|role| self.authority.node(*role, room, node).allowed)
        });
        let asked = approved.map(|node| async move {
            let told = peers.ask_grant(node, room, String::new(), GrantPurpose::Held, ASK_TIMEOUT).await;
            if let Ok(told) = told
                && let Err(refusal) = self.told(room, &told, node).await
            {
                tracing::info!(node, why = refusal.sentence, "a node told a grant that does not count");
            }
        });
        join_all(asked).await;
    }

    /// This node becomes home after the home of the grant that it holds, which lost its role or does not answer. The caller
    /// has asked policy whether this node may be home. Returns the assignment that is valid afterwards: another node may
    /// have taken over.
    ///
    /// # Errors
    /// When the home answers, this node is not listed as a possible home, or the record cannot be written.
    pub async fn take_over(&self, room: &RoomId) -> Result<Assignment, Refusal> {
        self.succeed(room, false).await
    }

    /// This node becomes home. `handed_over`: the home itself wants that.
    pub(super) async fn succeed(&self, room: &RoomId, handed_over: bool) -> Result<Assignment, Refusal> {
        let known = self.get(room).ok_or(GrantRefusal::None)?;
        let home = known.home.as_str();
        if home == self.signer.node {
            return self.known_or_resumed(room).await?.ok_or_else(|| GrantRefusal::None.into());
        }
        if !handed_over && self.authority.node(Action::Home, room, home).allowed {
            if self.home_answers(room).await {
                return Err(GrantRefusal::HomeAlive { home: home.to_owned() }.into());
            }
            // Its answer may have told of another home.
            let now_known = self.get(room).ok_or(GrantRefusal::None)?;
            if now_known.epoch != known.epoch {
                return Ok(now_known);
            }
        }
        let terms = self.terms.of(room, &self.authority)?;
        let signed = {
            let book = lock(&self.book);
            let listed =
                book.held(room).is_some_and(|held| held.grant().terms.homes.contains(&self.signer.node));
            if !listed {
                let role = systir_grants::GrantRole::Home;
                return Err(GrantRefusal::NotListed { node: self.signer.node.clone(), role }.into());
            }
            book.next(room, known.epoch, terms, &self.signer.key.current(), now())
        };
        let signed = signed.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
        let mut record = known.clone();
        record.home = self.signer.node.as_str().into();
        record
            .spill
            .retain(|node| *node != *self.signer.node && signed.grant().terms.spill.contains(node.as_str()));
        record.since_ms.remove(&known.home);
        record.epoch = signed.grant().epoch;
        record.grant = signed.note().to_string();
        let unavailable = || self.registry.view().rooms_unavailable_since(&room.institution).is_some();
        // The home's own word excludes rivals: without etcd the record is written later.
        let recorded = if handed_over && unavailable() {
            true
        } else {
            match self.write_after(&known, record).await {
                Err(_) if handed_over => true,
                recorded => recorded?,
            }
        };
        // Else another node took over at the same time: what counts is held now.
        if recorded {
            self.adopt(room, signed);
            self.metrics.takeovers.inc();
            if handed_over {
                tracing::info!(from = home, "a room's home handed its role over to this node");
            } else {
                tracing::warn!(from = home, "a room's home is gone, and this node takes over");
            }
        }
        self.get(room).ok_or_else(|| GrantRefusal::None.into())
    }

    /// Writes the record of a takeover from `known`. False when another node's takeover counts.
    async fn write_after(&self, known: &Assignment, record: Assignment) -> Result<bool, Refusal> {
        let room = &known.room;
        for _ in 0..ATTEMPTS {
            if self.put(record.clone()).await? {
                return Ok(true);
            }
            if self.get(room).is_some_and(|other| other.epoch != known.epoch) {
                return Ok(false);
            }
        }
        Err(Refusal::new(Reason::RegistryRefuses, "the room's record changes all the time; try again"))
    }

    /// Signs the room's grant anew, if this node is home and that is due.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn renew(&self, room: &RoomId) -> Result<(), Refusal> {
        self.renew_if(room, false)
    }

    /// The same; with `always`, also when it is not due.
    fn renew_if(&self, room: &RoomId, always: bool) -> Result<(), Refusal> {
        let terms = match self.terms.of(room, &self.authority) {
            // Without the room key the grant counts until it ends.
            Err(refusal) if refusal.reason == Reason::NoRoomKey && self.is_signed_here(room) => return Ok(()),
            terms => terms?,
        };
        {
            // Locked from the question to the new grant: no two grants have one number.
            let mut book = lock(&self.book);
            if !always && !book.must_renew(room, &terms, Instant::now()) {
                return Ok(());
            }
            let signed = book.next(room, 0, terms, &self.signer.key.current(), now());
            let signed = signed.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
            book.adopt(room, signed, now());
            self.note_class(&book, room);
        }
        self.metrics.signed.inc();
        self.changed(room);
        Ok(())
    }

    /// Is the room's grant this process's own, and has it not ended?
    fn is_signed_here(&self, room: &RoomId) -> bool {
        lock(&self.book).held(room).is_some_and(|held| held.is_own() && !held.has_ended(Instant::now()))
    }

    /// Signs grants anew that are due, of the rooms in use of which this node is home and may be, and forgets old ones of
    /// other rooms. All are due when this node's key was replaced.
    pub fn renew_all(&self, in_use: impl Fn(&RoomId) -> bool) {
        let key = self.signer.key.public();
        let other_key = std::mem::replace(&mut *lock(&self.signed_with), key.clone()) != key;
        let own: Vec<RoomId> = {
            let book = lock(&self.book);
            let me = Some(systir_assignment::MediaRole::Home);
            book.rooms().filter(|room| book.role(room, &self.signer.node) == me).cloned().collect()
        };
        for room in own.iter().filter(|room| in_use(room)) {
            if !self.authority.node(Action::Home, room, &self.signer.node).allowed {
                continue;
            }
            if let Err(refusal) = self.renew_if(room, other_key) {
                tracing::warn!(why = refusal.sentence, "a room's grant cannot be signed anew");
            }
        }
        let ended: Vec<RoomId> = {
            let (book, now) = (lock(&self.book), Instant::now());
            let ended = |room: &&RoomId| book.held(room).is_some_and(|held| held.has_ended(now));
            book.rooms().filter(ended).cloned().collect()
        };
        let ended: Vec<&RoomId> = ended.iter().filter(|room| in_use(room)).collect();
        self.metrics.ended.set(i64::try_from(ended.len()).unwrap_or(i64::MAX));
        // They decide whether they go on.
        ended.into_iter().for_each(|room| self.changed(room));
        for forgotten in lock(&self.book).prune(Instant::now(), &in_use) {
            self.authority.note_granted(&forgotten, None);
        }
        let view = self.registry.view();
        let book = lock(&self.book);
        lock(&self.read).retain(|room, _| view.room(room).is_some() && book.held(room).is_some());
    }

    pub(super) fn adopt(&self, room: &RoomId, signed: SignedGrant) {
        {
            let mut book = lock(&self.book);
            book.adopt(room, signed, now());
            self.note_class(&book, room);
        }
        self.metrics.signed.inc();
        self.changed(room);
    }

    /// Another node took over from this node, which leads the room: signs an epoch after that one.
    pub(super) fn contest(&self, room: &RoomId, epoch: u64) {
        {
            let mut contested = lock(&self.contested);
            contested.retain(|_, at| at.elapsed() < CONTEST_INTERVAL);
            if contested.contains_key(room) {
                return;
            }
            contested.insert(room.clone(), Instant::now());
        }
        let Ok(terms) = self.terms.of(room, &self.authority) else { return };
        let mut book = lock(&self.book);
        match book.next(room, epoch, terms, &self.signer.key.current(), now()) {
            Ok(signed) => {
                book.adopt(room, signed, now());
                self.note_class(&book, room);
                drop(book);
                self.metrics.signed.inc();
                self.changed(room);
                tracing::warn!(
                    epoch,
                    "another node claims to be home of a room that this node leads; a new epoch begins"
                );
            }
            Err(error) => tracing::warn!(%error, "a claim of another node cannot be answered"),
        }
    }

    /// What this node answers when another node asks for the room's grant and may know it.
    ///
    /// # Errors
    /// When it holds none.
    pub fn held(&self, room: &RoomId) -> Result<ToldAssignment, Refusal> {
        self.read_record(room);
        self.telling(room).ok_or_else(|| GrantRefusal::None.into())
    }
}

/// The record of a new room.
fn record_of(room: &RoomId, signed: &SignedGrant) -> Assignment {
    let grant = signed.grant();
    let home = grant.home.as_str().into();
    let version = grant.terms.policy_version.to_string();
    let mut record = Assignment::new(room.clone(), grant.sid.clone(), home, version, grant.issued_ms);
    record.grant = signed.note().to_string();
    record
}
