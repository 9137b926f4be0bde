//! The decisions that one engine has made. An engine is immutable, with the time at which it decides, and a decision
//! depends on its request alone, so that the same request has the same answer until the engine is replaced, and thousands
//! of rooms of one class share few.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use systir_reason::Reason;

use crate::{Action, Claims, Decision, PolicyEngine, Request, RoomAttributes, Subject};

/// Most decisions that are kept. Known institutions and nodes, actions and classes are few.
const MAX_KEPT: usize = 1 << 14;

/// Action, what the room is, institution, and whom it is about.
type Question = (Action, RoomAttributes, String, About);

#[derive(Debug, PartialEq, Eq, Hash)]
enum About {
    Node(String),
    Participant(String),
}

/// An engine and the decisions that it has made.
#[derive(Debug)]
pub(crate) struct DecidingEngine {
    pub(crate) engine: Arc<PolicyEngine>,
    decided: RwLock<FxHashMap<Question, Decision>>,
    directories: BTreeMap<String, u64>,
}

impl DecidingEngine {
    pub(crate) fn new(engine: PolicyEngine) -> Self {
        let directories = engine.nodes().map(|facts| &facts.directory);
        let directories =
            directories.map(|directory| (directory.operator.clone(), directory.version)).collect();
        Self { engine: engine.into(), decided: RwLock::default(), directories }
    }

    /// The version of each operator's directory.
    pub(crate) fn directories(&self) -> &BTreeMap<String, u64> {
        &self.directories
    }

    /// The decision on a request without claims. One about a peer is made anew each time: it reads the time.
    pub(crate) fn decide(
        &self,
        action: Action,
        institution: &str,
        room: RoomAttributes,
        subject: Subject<'_>,
    ) -> Decision {
        let request = Request { institution, action, subject, room, claims: Claims::default() };
        let about = match subject {
            Subject::Node(node) => About::Node(node.to_owned()),
            Subject::Participant { institution } => About::Participant(institution.to_owned()),
            Subject::Peer { .. } => return self.engine.decide(&request),
        };
        let question = (action, room, institution.to_owned(), about);
        let known = self.decided.read().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
        if let Some(known) = known {
            return known;
        }
        let decision = self.engine.decide(&request);
        // Names that are not known can be any number.
        if matches!(decision.reason, Reason::UnknownNode | Reason::UnknownInstitution) {
            return decision;
        }
        let mut decided = self.decided.write().unwrap_or_else(PoisonError::into_inner);
        if decided.len() < MAX_KEPT {
            decided.insert(question, decision.clone());
        }
        decision
    }
}
