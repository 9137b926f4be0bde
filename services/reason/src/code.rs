//! The closed list of reason codes.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why something happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order in which they are documented.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

impl Reason {
    /// Did policy deny it: by a decision here, or by one that another node told of?
    #[must_use]
    pub const fn is_policy_denial(self) -> bool {
        matches!(
            self,
            Self::NoRule
                | Self::Forbidden
                | Self::UnknownNode
                | Self::UnknownInstitution
                | Self::UnknownEntity
                | Self::MissingAttribute
                | Self::IdentityMismatch
                | Self::WrongSubject
                | Self::EvaluationError
                | Self::PolicyDenied
        )
    }
}

reasons! {
    // Policy, of a decision.
    /// A rule permits it and none forbids it.
    Allowed = "allowed",
    /// No rule permits it.
    NoRule = "no-rule",
    /// A rule forbids it.
    Forbidden = "forbidden",
    /// The node is not in the operator's nodes file.
    UnknownNode = "unknown-node",
    /// The institution has no policy here.
    UnknownInstitution = "unknown-institution",
    /// The node states an operator, host or country that is not known here.
    UnknownEntity = "unknown-entity",
    /// The nodes file does not state an attribute of the node.
    MissingAttribute = "missing-attribute",
    /// TLS proved another peer than the one spoken of.
    IdentityMismatch = "identity-mismatch",
    /// The action is not one that this kind of subject does.
    WrongSubject = "wrong-subject",
    /// A rule failed; it might have forbidden it.
    EvaluationError = "evaluation-error",

    // Placement, of a node.
    /// It is the room's home, or is to be.
    Home = "home",
    /// It is home and full: asked last.
    HomeFull = "home-full",
    /// It is home and its CPU is nearly used up: asked last.
    HomeHot = "home-hot",
    /// Policy approves it for spill.
    SpillSister = "spill-sister",
    /// Approved for spill, and asked before a busy home because the participant only views.
    SpillViewer = "spill-viewer",
    /// No seat is left; also what a node answers that is asked for one.
    Full = "full",
    /// Its CPU is nearly used up: asked last.
    Hot = "hot",
    /// Policy does not approve it: never asked. Also what a node answers that may give no seat.
    PolicyDenied = "policy-denied",
    /// It has no valid lease and no link to it is up: never asked.
    NoLease = "no-lease",
    /// It is being emptied.
    Draining = "draining",
    /// The room's home is away, and no other node may take its place.
    HomeAway = "home-away",
    /// Two candidates bear its name.
    Ambiguous = "ambiguous",

    // Placement, of a join that no node takes.
    /// Policy approves no node that is known.
    NoApprovedNode = "no-approved-node",
    /// No node that may be the room's home is alive.
    NoHome = "no-home",
    /// Every approved node is away or draining.
    ApprovedUnavailable = "approved-unavailable",
    /// Every approved node that answered had no room.
    ApprovedFull = "approved-full",
    /// Nodes that were asked refuse by rules of their own.
    RulesDiffer = "rules-differ",
    /// A node had room, and the registry is away, in which it must be written first.
    RegistryAway = "registry-away",
    /// A node had room, and the registry does not let it be written.
    RegistryRefuses = "registry-refuses",

    // The gateway, of a join.
    /// The query of the request cannot be read.
    BadQuery = "bad-query",
    /// There is no token.
    TokenMissing = "token-missing",
    /// It is no token.
    TokenMalformed = "token-malformed",
    /// It is not signed with HS256.
    TokenAlgorithm = "token-algorithm",
    /// Its API key is not known.
    TokenUnknownKey = "token-unknown-key",
    /// Its signature does not fit.
    TokenSignature = "token-signature",
    /// It has expired.
    TokenExpired = "token-expired",
    /// It is not valid yet.
    TokenNotYetValid = "token-not-yet-valid",
    /// It does not grant `roomJoin`.
    TokenNoJoin = "token-no-join",
    /// It names no identity.
    TokenNoIdentity = "token-no-identity",
    /// It names no room.
    TokenNoRoom = "token-no-room",
    /// One of its names is too long.
    TokenTooLong = "token-too-long",
    /// One of its names holds control characters.
    TokenBadName = "token-bad-name",
    /// The media node was lost between the seat and the session.
    MediaNodeLost = "media-node-lost",
    /// No place was found in time.
    JoinTimeout = "join-timeout",

    // What a node answers that is asked for a seat, beside `full`, `policy-denied` and `draining`.
    /// The epoch that it was asked with has been overtaken.
    EpochOvertaken = "epoch-overtaken",
    /// Something failed.
    Internal = "internal",
    /// It did not say why.
    Unsaid = "unsaid",
    /// It did not answer.
    NoAnswer = "no-answer",
    /// It is not assigned to the room.
    NotAssigned = "not-assigned",
    /// The request cannot be read, or contradicts itself.
    BadRequest = "bad-request",

    // Links.
    /// The other node is not in the nodes file.
    Unlisted = "unlisted",
    /// A room is not opened on a link.
    RoomRefused = "room-refused",
    /// A message of a participant that is not on the sending node.
    Data = "data",
    /// A write of a participant that is on another node than the sender.
    StateNotOwner = "state-not-owner",
    /// A write in this node's name.
    StateOwnName = "state-own-name",
    /// A participant under an id that is taken.
    StateSidTaken = "state-sid-taken",
    /// A participant whose identity or join epoch changes.
    StateRewritten = "state-rewritten",
    /// Metadata of a node that is not home.
    StateNotHome = "state-not-home",
    /// A write of an epoch that has been overtaken.
    StateOldEpoch = "state-old-epoch",
    /// A write of an epoch that is not known yet.
    StateUnknownEpoch = "state-unknown-epoch",
    /// A write that is too long.
    StateTooLarge = "state-too-large",
    /// More participants than a node may have.
    StateTooMany = "state-too-many",
    /// A join from the future.
    StateFromTheFuture = "state-from-the-future",
    /// A write that cannot be read.
    StateMalformed = "state-malformed",

    // What was full.
    /// Messages of links that wait for a room.
    RoomInbox = "room-inbox",
    /// Messages of a room that wait for another node.
    RoomOutbox = "room-outbox",
    /// Commands of a room that wait for its worker.
    WorkerCommands = "worker-commands",
    /// Lossy messages to participants.
    LossyData = "lossy-data",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_in_kebab_case_and_is_used_once() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.split('-').all(|part| !part.is_empty()), "{word}");
            assert!(word.chars().all(|char| char.is_ascii_lowercase() || char == '-'), "{word}");
        }
    }

    #[test]
    fn a_reason_is_written_as_its_code() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(reason.to_string(), reason.as_str());
        }
    }
}
