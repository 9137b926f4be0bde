//! The terms that a home signs, by its own policy.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use systir_assignment::RoomId;
use systir_documents::GrantTerms;
use systir_policy::{Action, Authority, PolicyEngine, RoomAttributes, RoomClass};
use systir_reason::{Reason, Refusal};

/// Terms by institution and by what its bundle says of a room.
type ByRoomAttributes = HashMap<(String, &'static str, bool), GrantTerms>;

/// The terms of rooms. Rooms of one institution and one class have the same ones, so they are decided once for each
/// policy.
#[derive(Debug)]
pub(crate) struct Terms {
    trust_domain: String,
    known: Mutex<(Option<Arc<PolicyEngine>>, ByRoomAttributes)>,
}

impl Terms {
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self { trust_domain: trust_domain.to_owned(), known: Mutex::default() }
    }

    /// The terms of a room by the policy of now.
    ///
    /// # Errors
    /// When this node cannot read the room's name, the institution has no policy here, or no directory lists this node.
    pub(crate) fn of(&self, room: &RoomId, authority: &Authority) -> Result<GrantTerms, Refusal> {
        let engine = authority.engine();
        let named = authority.room_by_name(room).ok_or_else(|| no_room_key(&room.institution))?;
        let RoomAttributes { class, e2ee } = named;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.0.as_ref().is_some_and(|last| Arc::ptr_eq(last, &engine)) {
            *known = (Some(engine), HashMap::new());
        }
        let key = (room.institution.clone(), class.as_str(), e2ee);
        if let Some(terms) = known.1.get(&key) {
            return Ok(terms.clone());
        }
        let terms = self.decide(room, named, authority)?;
        known.1.insert(key, terms.clone());
        Ok(terms)
    }

    /// Decides by the name alone, not by the class that an earlier grant states.
    fn decide(
        &self,
        room: &RoomId,
        named: RoomAttributes,
        authority: &Authority,
    ) -> Result<GrantTerms, Refusal> {
        let statement = authority.statement(&room.institution).ok_or_else(|| {
            Refusal::new(Reason::UnknownInstitution, "this node has no policy of the institution")
        })?;
        let own = authority
            .facts(authority.own_id())
            .ok_or_else(|| Refusal::new(Reason::UnknownNode, "no directory lists this node"))?;
        let policy_hash = statement.version.hash.parse().map_err(|_| {
            Refusal::new(Reason::Internal, "the hash of this node's policy has another form than SHA-256")
        })?;
        let nodes = authority.nodes();
        let approved = |action| -> BTreeSet<String> {
            let ids = nodes.iter().map(|node| &node.id);
            ids.filter(|node| authority.node_if(action, room, Some(named), node).allowed).cloned().collect()
        };
        let RoomAttributes { class, e2ee } = named;
        Ok(GrantTerms {
            trust_domain: self.trust_domain.clone(),
            homes: approved(Action::Home),
            spill: approved(Action::Spill),
            gateways: approved(Action::RelaySignal),
            class: class.as_str().to_owned(),
            e2ee,
            policy_version: statement.version.number,
            policy_hash,
            directory_version: own.directory.version,
            directory_hash: own.directory.hash,
        })
    }
}

/// What a grant states of its room. A class that this version does not know counts as the strictest.
pub(crate) fn stated(terms: &GrantTerms) -> RoomAttributes {
    RoomAttributes {
        class: RoomClass::named(&terms.class).unwrap_or(RoomClass::Confidential),
        e2ee: terms.e2ee,
    }
}

fn no_room_key(institution: &str) -> Refusal {
    let sentence = format!(
        "this node holds no room key of {institution} that reads the room's name, so it cannot be its home; add it to the \
         node's configuration (room_keys)"
    );
    Refusal::new(Reason::NoRoomKey, sentence)
}
