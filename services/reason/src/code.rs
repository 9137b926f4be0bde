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
    /// Is this about a room's grant? Then a newer grant may help.
    #[must_use]
    pub const fn is_about_a_grant(self) -> bool {
        matches!(
            self,
            Self::GrantMissing
                | Self::GrantEnded
                | Self::GrantNotListed
                | Self::GrantInvalid
                | Self::GrantHomeAlive
        )
    }

    /// Is this a denial by policy, decided here or reported by another node?
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
                | Self::CertificateExpired
                | Self::PolicyExpired
                | Self::DirectoryExpired
                | Self::PolicyRenewalOverdue
                | Self::WrongSubject
                | Self::EvaluationError
                | Self::TimeUnknown
                | Self::PolicyDenied
        )
    }
}

reasons! {
    // Policy: why a decision allows or denies.
    /// A rule permits it and none forbids it.
    Allowed = "allowed",
    /// No rule permits it.
    NoRule = "no-rule",
    /// A rule forbids it.
    Forbidden = "forbidden",
    /// No directory lists the node.
    UnknownNode = "unknown-node",
    /// The institution has no policy here.
    UnknownInstitution = "unknown-institution",
    /// The node's operator, host or country is not in the vocabulary of the institution's bundle.
    UnknownEntity = "unknown-entity",
    /// The directory does not state an attribute of the node.
    MissingAttribute = "missing-attribute",
    /// The peer proved a node key that its operator's directory does not list for its SPIFFE id.
    IdentityMismatch = "identity-mismatch",
    /// The certificate with which the peer proved its identity has expired since.
    CertificateExpired = "certificate-expired",
    /// The institution's bundle or the operator's floor has expired.
    PolicyExpired = "policy-expired",
    /// The directory that lists the node has expired.
    DirectoryExpired = "directory-expired",
    /// The bundle, the floor or the node's directory should have been renewed by now: no new room, and no new node in a
    /// room.
    PolicyRenewalOverdue = "policy-renewal-overdue",
    /// The action does not exist for this subject: `join` for a node, or a node's action for a participant.
    WrongSubject = "wrong-subject",
    /// A rule failed to evaluate. It counts as a denial, because the rule might have forbidden it.
    EvaluationError = "evaluation-error",
    /// Rules read the time, and the node does not know it: its clock is behind the documents of its own operator. No rule
    /// permits by the time, and each rule that forbids by the time forbids.
    TimeUnknown = "time-unknown",

    // Placement: why a node is asked for a seat, asked last, or never asked.
    /// The node is the room's home, or will be.
    Home = "home",
    /// The node is home and full: asked last.
    HomeFull = "home-full",
    /// The node is home and its CPU is nearly used up: asked last.
    HomeHighCpu = "home-high-cpu",
    /// Policy approves the node for spill.
    SpillApproved = "spill-approved",
    /// Approved for spill, and asked before a busy home because the participant only subscribes.
    SpillViewer = "spill-viewer",
    /// The node has no free seat: asked last. A node also answers this to a reservation.
    Full = "full",
    /// The token's identity has all seats that it may have in the room.
    IdentityQuota = "identity-quota",
    /// The institution has all seats that it may have on the node.
    InstitutionQuota = "institution-quota",
    /// The node's CPU is nearly used up: asked last.
    HighCpu = "high-cpu",
    /// Policy does not approve the node: never asked. A node also answers this when its own policy denies.
    PolicyDenied = "policy-denied",
    /// The node has no valid lease and no link to it is up: never asked.
    NoLease = "no-lease",
    /// The node is draining: never asked. A node also answers this to a reservation.
    Draining = "draining",
    /// The room's home is unavailable, and no other node may take over: only nodes of the room are asked.
    HomeOffline = "home-offline",
    /// Two candidates have the node's name: never asked.
    DuplicateName = "duplicate-name",

    // Placement: why a join got no seat.
    /// Policy approves no known node.
    NoApprovedNode = "no-approved-node",
    /// The room has no home yet, and no node that may be its home is alive.
    NoHome = "no-home",
    /// Every approved node is unavailable or draining.
    ApprovedUnavailable = "approved-unavailable",
    /// At least one asked node was full, and no asked node could still have a seat.
    ApprovedFull = "approved-full",
    /// Nodes that this node's policy approves refuse by their own policy.
    RulesDiffer = "rules-differ",
    /// A node had a seat, but it must be written into the registry first, and the registry is unavailable.
    RegistryUnavailable = "registry-unavailable",
    /// A node had a seat, but the registry refuses to write it into the assignment.
    RegistryRefuses = "registry-refuses",

    // The gateway: why a join was refused before or after placement.
    /// The query string of the request cannot be read.
    BadQuery = "bad-query",
    /// The request has no token.
    TokenMissing = "token-missing",
    /// The token is not a JWT with LiveKit's claims.
    TokenMalformed = "token-malformed",
    /// The token is not signed with HS256.
    TokenAlgorithm = "token-algorithm",
    /// The token's API key is unknown.
    TokenUnknownKey = "token-unknown-key",
    /// The token's signature does not verify.
    TokenSignature = "token-signature",
    /// The token has expired.
    TokenExpired = "token-expired",
    /// The token is not valid yet.
    TokenNotYetValid = "token-not-yet-valid",
    /// The token is valid for longer than this server accepts.
    TokenLongLived = "token-long-lived",
    /// The token is for another audience than the institution asks for.
    TokenAudience = "token-audience",
    /// The token does not grant `roomJoin`.
    TokenNoJoin = "token-no-join",
    /// The token has no identity.
    TokenNoIdentity = "token-no-identity",
    /// The token names no room.
    TokenNoRoom = "token-no-room",
    /// The token's identity or room name is too long.
    TokenTooLong = "token-too-long",
    /// The token's identity or room name contains control characters.
    TokenBadName = "token-bad-name",
    /// The address, the token's identity or its institution has tried to join too often.
    TooManyAttempts = "too-many-attempts",
    /// The media node failed after it reserved the seat and before the session began.
    MediaNodeLost = "media-node-lost",
    /// No seat was found in time.
    JoinTimeout = "join-timeout",

    // Answers to a reservation, in addition to `full`, `policy-denied` and `draining`.
    /// The request's epoch is older than the room's.
    EpochOvertaken = "epoch-overtaken",
    /// An internal error.
    Internal = "internal",
    /// The node gave no reason, or one that this version does not know.
    Unspecified = "unspecified",
    /// The node did not answer.
    NoAnswer = "no-answer",
    /// The node is not in the room's assignment.
    NotAssigned = "not-assigned",
    /// The node holds no grant of the room.
    GrantMissing = "grant-missing",
    /// The room's grant has ended, and its home has not renewed it.
    GrantEnded = "grant-ended",
    /// The room's grant does not list a node in the role that it needs.
    GrantNotListed = "grant-not-listed",
    /// A grant is not signed by its home, is of another room, or does not follow on the one that is held.
    GrantInvalid = "grant-invalid",
    /// A node wants to be home of a room whose home can be reached.
    GrantHomeAlive = "grant-home-alive",
    /// This node holds no room key with which it could read the room's name.
    NoRoomKey = "no-room-key",
    /// The room exists under another room key of its institution: it must be looked up again.
    OtherRoomKey = "other-room-key",
    /// The request cannot be decoded, or its fields contradict each other.
    BadRequest = "bad-request",

    // Links: what was refused.
    /// No directory lists the other node.
    Unlisted = "unlisted",
    /// TLS did not authenticate the other node: its certificate is not valid here, or it sent none.
    TlsHandshake = "tls-handshake",
    /// The other node did not send its node key proof in time.
    NoNodeKey = "no-node-key",
    /// The other node did not sign with a node key that its directory lists.
    WrongNodeKey = "wrong-node-key",
    /// The other node has too many connections.
    TooManyConnections = "too-many-connections",
    /// The other node, a record or a document is of a version that this node does not work with.
    UnsupportedVersion = "unsupported-version",
    /// Too many connections, from one address or in total, have not proven yet which node they are of.
    TooManyHandshakes = "too-many-handshakes",
    /// The address of the other node is outside the prefixes that its directory lists.
    AddressNotListed = "address-not-listed",
    /// A room was not opened on a link.
    RoomRefused = "room-refused",
    /// A data message that is too long, or whose sender is not a participant of the sending node.
    Data = "data",
    /// A state update about a participant whose media node is not the sender.
    StateNotOwner = "state-not-owner",
    /// A state update that names this node as the owner.
    StateOwnNode = "state-own-node",
    /// A state update with a participant sid that belongs to another node.
    StateSidTaken = "state-sid-taken",
    /// A state update that changes the identity or join number of a participant sid.
    StateRewritten = "state-rewritten",
    /// Room metadata from a node that is not home.
    StateNotHome = "state-not-home",
    /// Room metadata of an older epoch.
    StateOldEpoch = "state-old-epoch",
    /// Room metadata of an epoch that is not known yet.
    StateUnknownEpoch = "state-unknown-epoch",
    /// A state update that is too long.
    StateTooLarge = "state-too-large",
    /// A state update with more participants than a node may have.
    StateTooMany = "state-too-many",
    /// A state update with a time too far in the future.
    StateFutureTime = "state-future-time",
    /// A state update that cannot be decoded.
    StateMalformed = "state-malformed",

    // Tickets: why a participant, or another node's record of one, is refused.
    /// A participant without a ticket.
    TicketMissing = "ticket-missing",
    /// The text is no ticket.
    TicketMalformed = "ticket-malformed",
    /// The ticket is not signed with a key that the directory lists for its gateway.
    TicketSignature = "ticket-signature",
    /// Policy does not approve the ticket's gateway for the room, or no directory lists it.
    TicketGateway = "ticket-gateway",
    /// The ticket was issued before or after this node's time by more than its age and 5 min of difference of the clocks.
    TicketNotCurrent = "ticket-not-current",
    /// The ticket has expired: its gateway did not renew it.
    TicketExpired = "ticket-expired",
    /// The ticket is for another room, media node or participant.
    TicketMismatch = "ticket-mismatch",
    /// The participant has another kind, or more permissions, than its ticket says.
    TicketExceeded = "ticket-exceeded",
    /// The ticket's participant has left, or its sid was used before.
    TicketReplayed = "ticket-replayed",
    /// A renewed ticket says something else than the one before.
    TicketChanged = "ticket-changed",

    // Overload: which queue was full, or which limit was reached.
    /// Link events that wait for a room.
    LinkEventQueue = "link-event-queue",
    /// The peer queue: messages of a room that wait for another node.
    PeerQueue = "peer-queue",
    /// Messages from another node about speakers, connection quality and links: those above the limit were dropped.
    PeerMessages = "peer-messages",
    /// The command queue: commands of a room that wait for its worker.
    CommandQueue = "command-queue",
    /// Lossy data messages; those that did not fit were dropped.
    LossyData = "lossy-data",
    /// Reliable data messages that wait for a participant who does not take them: the participant joins again.
    SlowReader = "slow-reader",
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
