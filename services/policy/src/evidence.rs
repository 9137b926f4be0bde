//! Evidence: what is known of a node, and what its identity rests on.

use crate::node::{Attribute, NodeFacts};
use systir_reason::Reason;

/// What a TLS handshake proved of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenIdentity {
    /// The one URI SAN of the peer's certificate.
    pub spiffe_id: String,
    /// The trust domain whose roots verified the chain.
    pub trust_domain: String,
}

/// What stands for it that a node is the one that is spoken of.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// It is this very process.
    Local,
    /// Nothing yet: it is a name in a plan. Whoever then opens a link decides again with what TLS proved.
    Planned,
    /// The peer proved it.
    Proven(&'a ProvenIdentity),
}

/// What a decision about a node rests on. Had from [`crate::Nodes`] only, so attributes never come from a lease;
/// passports will be the second source.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    node: &'a str,
    facts: Option<&'a NodeFacts>,
    identity: Identity<'a>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(node: &'a str, facts: Option<&'a NodeFacts>, identity: Identity<'a>) -> Self {
        Self { node, facts, identity }
    }

    /// The node's short name, or the id its certificate bears when no file knows it.
    #[must_use]
    pub fn node(&self) -> &'a str {
        self.node
    }

    /// What is pinned of it; `None` when nothing is.
    #[must_use]
    pub fn facts(&self) -> Option<&'a NodeFacts> {
        self.facts
    }

    /// The facts, if they are complete and are the peer's.
    pub(crate) fn checked(&self) -> Result<&'a NodeFacts, (Reason, String)> {
        let node = shown(self.node);
        let Some(facts) = self.facts else {
            let why = format!("the node {node} is not in this operator's nodes file");
            return Err((Reason::UnknownNode, why));
        };
        let missing: Vec<_> = facts.missing().map(Attribute::as_str).collect();
        if !missing.is_empty() {
            let why = format!("the nodes file does not state {} of {node}", missing.join(", "));
            return Err((Reason::MissingAttribute, why));
        }
        if let Identity::Proven(peer) = self.identity {
            let in_domain = peer
                .spiffe_id
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.strip_prefix(&peer.trust_domain))
                .is_some_and(|path| is_trust_domain(&peer.trust_domain) && path.starts_with('/'));
            if peer.spiffe_id != facts.spiffe_id || !in_domain {
                let why = format!(
                    "the peer proved to be {} by the roots of {}, but {node} is {}",
                    shown(&peer.spiffe_id),
                    shown(&peer.trust_domain),
                    facts.spiffe_id
                );
                return Err((Reason::IdentityMismatch, why));
            }
        }
        Ok(facts)
    }
}

/// A trust domain is one name: with a slash in it, it would be a prefix of somebody else's paths.
fn is_trust_domain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// A name from outside, fit for a sentence: escaped, and cut where it would flood a log.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 128;
    let mut shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
