//! Evidence: a node's attributes, and what proves its identity.

use crate::node::{NodeAttribute, NodeFacts};
use systir_reason::Reason;

/// What a TLS handshake proved of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenIdentity {
    /// The one URI SAN of the peer's certificate.
    pub spiffe_id: String,
    /// The trust domain whose roots verified the chain.
    pub trust_domain: String,
}

/// What proves that a node is the one named.
#[derive(Clone, Copy, Debug)]
pub enum IdentityProof<'a> {
    /// It is this process.
    Local,
    /// Nothing yet: the name comes from a plan. Before a room opens on a link, policy decides again on the TLS identity.
    Planned,
    /// A TLS handshake.
    Proven(&'a ProvenIdentity),
}

/// What a decision about a node is based on. Only [`crate::Nodes`] makes it, so attributes never come from a lease.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    node: &'a str,
    facts: Option<&'a NodeFacts>,
    identity: IdentityProof<'a>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(node: &'a str, facts: Option<&'a NodeFacts>, identity: IdentityProof<'a>) -> Self {
        Self { node, facts, identity }
    }

    /// The node's id; for a peer that is not in the nodes file, its SPIFFE id.
    #[must_use]
    pub fn node(&self) -> &'a str {
        self.node
    }

    /// Its entry in the nodes file, if it has one.
    #[must_use]
    pub fn facts(&self) -> Option<&'a NodeFacts> {
        self.facts
    }

    /// The facts, if they are complete and the proven identity matches them.
    pub(crate) fn checked(&self) -> Result<&'a NodeFacts, (Reason, String)> {
        let node = escaped(self.node);
        let Some(facts) = self.facts else {
            let why = format!("the node {node} is not in this operator's nodes file");
            return Err((Reason::UnknownNode, why));
        };
        let missing: Vec<_> = facts.missing().map(NodeAttribute::as_str).collect();
        if !missing.is_empty() {
            let why = format!("the nodes file does not state {} of {node}", missing.join(", "));
            return Err((Reason::MissingAttribute, why));
        }
        if let IdentityProof::Proven(peer) = self.identity {
            let in_domain = peer
                .spiffe_id
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.strip_prefix(&peer.trust_domain))
                .is_some_and(|path| is_trust_domain(&peer.trust_domain) && path.starts_with('/'));
            if peer.spiffe_id != facts.spiffe_id || !in_domain {
                let why = format!(
                    "the peer's certificate is for {}, verified by the roots of {}, but {node} is {}",
                    escaped(&peer.spiffe_id),
                    escaped(&peer.trust_domain),
                    facts.spiffe_id
                );
                return Err((Reason::IdentityMismatch, why));
            }
        }
        Ok(facts)
    }
}

/// A trust domain is one name: with a slash in it, it would match a path prefix of another trust domain.
fn is_trust_domain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// An untrusted name for use in a sentence: escaped, and cut to 128 characters.
pub(crate) fn escaped(name: &str) -> String {
    const MAX_CHARS: usize = 128;
    let mut escaped: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        escaped.push('…');
    }
    escaped
}
