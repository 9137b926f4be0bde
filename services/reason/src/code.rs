//! Why something happened, as one word of one closed list. The same word stands in logs, on spans,
//! in the `reason` label of metrics, in the operators' tables and in brackets behind the sentence of
//! a refusal. Crates below have lists of their own; each of their words is here, unchanged.

use std::fmt;

use systir_gateway::TurnedAway;
use systir_livekit::token::TokenError;
use systir_placement::{ReasonCode as Place, RefusalReason};
use systir_policy::ReasonCode as Decided;
use systir_proto::cluster::v1::RefusalCode;
use systir_room::Refused as NotMerged;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// The list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order in which they are documented.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
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
    /// The room's home is away, and nobody may take its place.
    HomeAway = "home-away",
    /// Two candidates bear its name.
    Ambiguous = "ambiguous",

    // Placement, of a join that nobody takes.
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

    // The front door, of a join.
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
    /// It names nobody.
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

    // Links.
    /// The other node is not in the nodes file.
    Unlisted = "unlisted",
    /// A room is not opened on a link.
    RoomRefused = "room-refused",
    /// A message of somebody for whom the other node does not speak.
    Data = "data",
    /// A write of a participant whom the other node does not own.
    StateNotOwner = "state-not-owner",
    /// A write in this node's name.
    StateOwnName = "state-own-name",
    /// A participant under an id that is taken.
    StateSidTaken = "state-sid-taken",
    /// A participant who becomes somebody else.
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
    /// What links tell a room.
    RoomInbox = "room-inbox",
    /// What a room tells another node.
    RoomOutbox = "room-outbox",
    /// What a room tells its worker.
    WorkerCommands = "worker-commands",
    /// Lossy messages to people.
    LossyData = "lossy-data",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Decided> for Reason {
    fn from(decided: Decided) -> Self {
        match decided {
            Decided::Allowed => Self::Allowed,
            Decided::NoRule => Self::NoRule,
            Decided::Forbidden => Self::Forbidden,
            Decided::UnknownNode => Self::UnknownNode,
            Decided::UnknownInstitution => Self::UnknownInstitution,
            Decided::UnknownEntity => Self::UnknownEntity,
            Decided::MissingAttribute => Self::MissingAttribute,
            Decided::IdentityMismatch => Self::IdentityMismatch,
            Decided::WrongSubject => Self::WrongSubject,
            Decided::EvaluationError => Self::EvaluationError,
        }
    }
}

impl From<Place> for Reason {
    fn from(place: Place) -> Self {
        match place {
            Place::Home => Self::Home,
            Place::HomeFull => Self::HomeFull,
            Place::HomeHot => Self::HomeHot,
            Place::SpillSister => Self::SpillSister,
            Place::SpillViewer => Self::SpillViewer,
            Place::Full => Self::Full,
            Place::Hot => Self::Hot,
            Place::PolicyDenied => Self::PolicyDenied,
            Place::NoLease => Self::NoLease,
            Place::Draining => Self::Draining,
            Place::HomeAway => Self::HomeAway,
            Place::Ambiguous => Self::Ambiguous,
        }
    }
}

impl From<RefusalReason> for Reason {
    fn from(refusal: RefusalReason) -> Self {
        match refusal {
            RefusalReason::NoApprovedNode => Self::NoApprovedNode,
            RefusalReason::NoHome => Self::NoHome,
            RefusalReason::HomeAway => Self::HomeAway,
            RefusalReason::ApprovedUnavailable => Self::ApprovedUnavailable,
            RefusalReason::ApprovedFull => Self::ApprovedFull,
            RefusalReason::RulesDiffer => Self::RulesDiffer,
            RefusalReason::RegistryAway => Self::RegistryAway,
            RefusalReason::RegistryRefuses => Self::RegistryRefuses,
        }
    }
}

impl From<TurnedAway> for Reason {
    fn from(turned_away: TurnedAway) -> Self {
        match turned_away {
            TurnedAway::BadQuery => Self::BadQuery,
            TurnedAway::Token(error) => error.into(),
        }
    }
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Missing => Self::TokenMissing,
            TokenError::Malformed => Self::TokenMalformed,
            TokenError::Algorithm => Self::TokenAlgorithm,
            TokenError::UnknownKey => Self::TokenUnknownKey,
            TokenError::Signature => Self::TokenSignature,
            TokenError::Expired => Self::TokenExpired,
            TokenError::NotYetValid => Self::TokenNotYetValid,
            TokenError::NoJoin => Self::TokenNoJoin,
            TokenError::NoIdentity => Self::TokenNoIdentity,
            TokenError::NoRoom => Self::TokenNoRoom,
            TokenError::TooLong => Self::TokenTooLong,
            TokenError::BadName => Self::TokenBadName,
        }
    }
}

impl From<RefusalCode> for Reason {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Unspecified => Self::Unsaid,
            RefusalCode::Full => Self::Full,
            RefusalCode::Policy => Self::PolicyDenied,
            RefusalCode::Draining => Self::Draining,
            RefusalCode::Epoch => Self::EpochOvertaken,
            RefusalCode::Internal => Self::Internal,
        }
    }
}

impl From<&NotMerged> for Reason {
    fn from(error: &NotMerged) -> Self {
        match error {
            NotMerged::NotOwner { .. } => Self::StateNotOwner,
            NotMerged::OwnName { .. } => Self::StateOwnName,
            NotMerged::SidTaken { .. } => Self::StateSidTaken,
            NotMerged::Rewritten { .. } => Self::StateRewritten,
            NotMerged::NotHome { .. } => Self::StateNotHome,
            NotMerged::OldEpoch { .. } => Self::StateOldEpoch,
            NotMerged::UnknownEpoch { .. } => Self::StateUnknownEpoch,
            NotMerged::TooLarge { .. } => Self::StateTooLarge,
            NotMerged::TooMany { .. } => Self::StateTooMany,
            NotMerged::FromTheFuture { .. } => Self::StateFromTheFuture,
            NotMerged::Malformed(_) => Self::StateMalformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_in_kebab_case_and_means_one_thing() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.split('-').all(|part| !part.is_empty()), "{word}");
            assert!(word.chars().all(|char| char.is_ascii_lowercase() || char == '-'), "{word}");
        }
    }

    #[test]
    fn the_crates_below_say_the_same_words() {
        for place in Place::ALL {
            assert_eq!(Reason::from(place).as_str(), place.as_str());
        }
        for refusal in RefusalReason::ALL {
            assert_eq!(Reason::from(refusal).as_str(), refusal.as_str());
        }
        for decided in Decided::ALL {
            assert_eq!(Reason::from(decided).as_str(), decided.as_str());
            assert_eq!(serde_json::to_value(decided).unwrap(), decided.as_str());
        }
        for error in TokenError::ALL {
            let turned_away = TurnedAway::Token(error);
            assert_eq!(Reason::from(turned_away).as_str(), turned_away.as_str());
        }
        assert_eq!(Reason::from(TurnedAway::BadQuery).as_str(), TurnedAway::BadQuery.as_str());
    }
}
