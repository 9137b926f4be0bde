//! Tickets: what a gateway says of a participant, in the terms of LiveKit's grants and participants.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::{ParticipantInfo, ParticipantPermission, TrackSource};
use systir_assignment::{Assignment, RoomId};
use systir_documents::{
    MAX_TICKET_LIFE_MS, PublicKey, SigningKey, Ticket, TicketPermission, TicketRefused, TicketSource,
};
use systir_livekit::token::{Grants, PublishSource};
use systir_reason::Reason;
use thiserror::Error;

/// Why a participant, or a record of one, is refused for its ticket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TicketProblem {
    /// There is none.
    #[error("the participant has no ticket")]
    Missing,
    /// It is no ticket, or not of its gateway, or not valid now.
    #[error(transparent)]
    Refused(#[from] TicketRefused),
    /// It is not UTF-8.
    #[error("the ticket is not a text")]
    NotText,
    /// No directory lists its gateway.
    #[error("no directory lists the gateway of the ticket")]
    UnknownGateway,
    /// This node's policy does not approve its gateway.
    #[error("policy does not approve {gateway} as a gateway of the room: {why}")]
    GatewayDenied {
        /// The gateway.
        gateway: String,
        /// The decision's sentence.
        why: String,
    },
    /// It is for something else.
    #[error("the ticket is for another {0}")]
    Mismatch(&'static str),
    /// The participant has more than it allows.
    #[error("the participant's {0} is not what its ticket allows")]
    Exceeded(&'static str),
    /// The participant has left.
    #[error("the participant of the ticket has left")]
    Left,
    /// The participant sid was used before.
    #[error("the participant sid of the ticket was used before")]
    Used,
    /// A renewed ticket says something else than the one before.
    #[error("the renewed ticket differs from the one before in more than its times")]
    Changed,
    /// The replica holds too many tickets of a media node.
    #[error("the media node has too many participants")]
    TooMany,
}

/// What is wrong when a ticket names another sid of the room.
const ROOM_SID: &str = "room sid";

impl TicketProblem {
    /// May the same ticket be valid after a change of policy, a directory or the room's record?
    pub(crate) fn may_pass(&self) -> bool {
        let signature = Self::Refused(TicketRefused::Signature);
        matches!(self, Self::UnknownGateway | Self::GatewayDenied { .. })
            || *self == signature
            || *self == Self::Mismatch(ROOM_SID)
    }

    /// The reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing => Reason::TicketMissing,
            Self::Refused(TicketRefused::Signature) => Reason::TicketSignature,
            Self::Refused(TicketRefused::NotCurrent(_)) => Reason::TicketNotCurrent,
            Self::Refused(TicketRefused::Expired) => Reason::TicketExpired,
            Self::Refused(TicketRefused::Text(error)) if error.unsupported => Reason::UnsupportedVersion,
            Self::Refused(_) | Self::NotText => Reason::TicketMalformed,
            Self::UnknownGateway | Self::GatewayDenied { .. } => Reason::TicketGateway,
            Self::Mismatch(_) => Reason::TicketMismatch,
            Self::Exceeded(_) => Reason::TicketExceeded,
            Self::Left | Self::Used => Reason::TicketReplayed,
            Self::Changed => Reason::TicketChanged,
            Self::TooMany => Reason::StateTooMany,
        }
    }
}

/// A ticket and its note, as the gateway signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTicket {
    ticket: Arc<Ticket>,
    note: Bytes,
}

impl SignedTicket {
    /// Signs a ticket with the gateway's node key.
    ///
    /// # Errors
    /// When the text of a ticket cannot say it.
    pub fn issue(ticket: Ticket, key: &SigningKey) -> Result<Self, TicketRefused> {
        let note = Bytes::from(ticket.sign(key)?);
        Ok(Self { ticket: Arc::new(ticket), note })
    }

    /// Reads a ticket and verifies its signature. `check` looks at what it says, and returns the keys of its gateway.
    /// Returns the key that signed it too.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_if(
        note: Bytes,
        check: impl FnOnce(&Ticket) -> Result<Vec<PublicKey>, TicketProblem>,
    ) -> Result<(Self, PublicKey), TicketProblem> {
        let text = std::str::from_utf8(&note).map_err(|_| TicketProblem::NotText)?;
        let (ticket, signer) = Ticket::verify_if(text, check)?;
        Ok((Self { ticket: Arc::new(ticket), note }, signer))
    }

    /// What it says.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The note.
    #[must_use]
    pub fn note(&self) -> &Bytes {
        &self.note
    }
}

/// A new ticket's facts beyond the grants of the participant's token.
#[derive(Debug, Clone)]
pub struct TicketFacts<'a> {
    /// The gateway's name.
    pub gateway: &'a str,
    /// The room's assignment.
    pub assignment: &'a Assignment,
    /// The node that carries the participant's media.
    pub media_node: &'a str,
    /// `PA_...`, a new one.
    pub participant_sid: String,
    /// From [`systir_documents::next_join_number`].
    pub join_number: u64,
    /// The time, Unix milliseconds.
    pub now_ms: u64,
}

/// The ticket of a participant with these grants.
#[must_use]
pub fn new_ticket(grants: &Grants, facts: TicketFacts<'_>) -> Ticket {
    Ticket {
        gateway: facts.gateway.to_owned(),
        institution: grants.institution.clone(),
        room: facts.assignment.room.key(),
        room_sid: facts.assignment.sid.clone(),
        identity: grants.identity.clone(),
        participant_sid: facts.participant_sid,
        join_number: facts.join_number,
        kind: u32::try_from(grants.kind).unwrap_or_default(),
        hidden: grants.hidden,
        recorder: grants.recorder,
        permissions: permissions_of(grants),
        sources: sources_of(grants),
        media_node: facts.media_node.to_owned(),
        issued_ms: facts.now_ms,
        not_after_ms: facts.now_ms.saturating_add(MAX_TICKET_LIFE_MS),
    }
}

/// Is the ticket for this room on this media node?
///
/// # Errors
/// What it is for instead.
pub fn check_place(
    ticket: &Ticket,
    room: &RoomId,
    is_room_sid: impl FnOnce(&str) -> bool,
    media_node: &str,
) -> Result<(), TicketProblem> {
    let differs = |what| Err(TicketProblem::Mismatch(what));
    match ticket {
        _ if ticket.institution != room.institution => differs("institution"),
        _ if ticket.room != room.key() => differs("room"),
        _ if !is_room_sid(&ticket.room_sid) => differs(ROOM_SID),
        _ if ticket.media_node != media_node => differs("media node"),
        _ => Ok(()),
    }
}

/// Are these grants, as its gateway claims them, within the ticket?
///
/// # Errors
/// What is not.
pub fn check_grants(ticket: &Ticket, grants: &Grants) -> Result<(), TicketProblem> {
    if grants.identity != ticket.identity {
        return Err(TicketProblem::Mismatch("identity"));
    }
    check_kind(ticket, grants.kind, grants.hidden, grants.recorder)?;
    check_permissions(ticket, &permissions_of(grants))?;
    check_sources(ticket, grants.can_publish, sources_of(grants).as_ref())
}

/// Is a participant, as its media node shows it, within the ticket?
///
/// # Errors
/// What is not.
#[allow(deprecated, reason = "recorder and agent are still sent")]
pub(crate) fn check_info(ticket: &Ticket, info: &ParticipantInfo) -> Result<(), TicketProblem> {
    if info.sid != ticket.participant_sid {
        return Err(TicketProblem::Mismatch("participant sid"));
    }
    if info.identity != ticket.identity {
        return Err(TicketProblem::Mismatch("identity"));
    }
    let none = ParticipantPermission::default();
    let shown = info.permission.as_ref().unwrap_or(&none);
    check_kind(ticket, info.kind, shown.hidden, shown.recorder)?;
    let has = [
        (TicketPermission::Agent, shown.agent),
        (TicketPermission::Data, shown.can_publish_data),
        (TicketPermission::Metadata, shown.can_update_metadata),
        (TicketPermission::Publish, shown.can_publish),
        (TicketPermission::Subscribe, shown.can_subscribe),
    ];
    check_permissions(ticket, &chosen(has))?;
    let sources: Option<BTreeSet<TicketSource>> =
        shown.can_publish_sources.iter().map(|source| source_of_number(*source)).collect();
    let sources = sources.ok_or(TicketProblem::Exceeded("publish sources"))?;
    // LiveKit's protocol says "all" by an empty list.
    check_sources(ticket, shown.can_publish, Some(&sources).filter(|sources| !sources.is_empty()))
}

fn check_kind(ticket: &Ticket, kind: i32, hidden: bool, recorder: bool) -> Result<(), TicketProblem> {
    let differs = |what| Err(TicketProblem::Exceeded(what));
    match ticket {
        _ if u32::try_from(kind) != Ok(ticket.kind) => differs("kind"),
        _ if hidden != ticket.hidden => differs("hidden"),
        _ if recorder != ticket.recorder => differs("recorder"),
        _ => Ok(()),
    }
}

fn check_permissions(ticket: &Ticket, has: &BTreeSet<TicketPermission>) -> Result<(), TicketProblem> {
    if has.is_subset(&ticket.permissions) { Ok(()) } else { Err(TicketProblem::Exceeded("permission")) }
}

/// `sources`: `None` for all.
fn check_sources(
    ticket: &Ticket,
    publishes: bool,
    sources: Option<&BTreeSet<TicketSource>>,
) -> Result<(), TicketProblem> {
    let Some(allowed) = ticket.sources.as_ref().filter(|_| publishes) else { return Ok(()) };
    if sources.is_some_and(|sources| sources.is_subset(allowed)) {
        Ok(())
    } else {
        Err(TicketProblem::Exceeded("publish sources"))
    }
}

fn chosen<const N: usize>(has: [(TicketPermission, bool); N]) -> BTreeSet<TicketPermission> {
    has.into_iter().filter(|(_, has)| *has).map(|(permission, _)| permission).collect()
}

fn permissions_of(grants: &Grants) -> BTreeSet<TicketPermission> {
    chosen([
        (TicketPermission::Admin, grants.room_admin),
        (TicketPermission::Agent, grants.agent),
        (TicketPermission::Data, grants.can_publish_data),
        (TicketPermission::Metadata, grants.can_update_own_metadata),
        (TicketPermission::Publish, grants.can_publish),
        (TicketPermission::Subscribe, grants.can_subscribe),
    ])
}

fn sources_of(grants: &Grants) -> Option<BTreeSet<TicketSource>> {
    let source = |source: &PublishSource| match source {
        PublishSource::Camera => TicketSource::Camera,
        PublishSource::Microphone => TicketSource::Microphone,
        PublishSource::ScreenShare => TicketSource::ScreenShare,
        PublishSource::ScreenShareAudio => TicketSource::ScreenShareAudio,
    };
    Some(grants.can_publish_sources.as_ref()?.iter().map(source).collect())
}

fn source_of_number(number: i32) -> Option<TicketSource> {
    match TrackSource::try_from(number).ok()? {
        TrackSource::Camera => Some(TicketSource::Camera),
        TrackSource::Microphone => Some(TicketSource::Microphone),
        TrackSource::ScreenShare => Some(TicketSource::ScreenShare),
        TrackSource::ScreenShareAudio => Some(TicketSource::ScreenShareAudio),
        TrackSource::Unknown => None,
    }
}

#[cfg(test)]
#[path = "ticket_tests.rs"]
mod tests;
