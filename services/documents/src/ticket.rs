//! The ticket: a gateway's signed statement that one participant may be in one room on one media node. Nodes make one at
//! each join and check one for each participant, so that its text has one form only.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::error::DocumentError;
use crate::field_lines::{FieldReader, FieldWriter};
use crate::key::PublicKey;
use crate::names::check_name;
use crate::node_note::{self, NotSigned};
use crate::note::{Note, NoteError};
use crate::percent::{percent_decode, percent_encode};
use crate::signing_key::SigningKey;
use crate::ticket_permission::{TicketPermission, TicketSource};

const FIRST_LINE: &str = "systir.org/ticket/v1";
/// Longest note of a ticket, bytes.
pub const MAX_TICKET_BYTES: usize = 8 * 1024;
/// Longest life of a ticket, milliseconds.
pub const MAX_TICKET_LIFE_MS: u64 = 600_000;
/// When a gateway renews a ticket, milliseconds after its issue: a random time in this range. So a node sees none that is
/// older.
pub const TICKET_RENEWAL_MS: Range<u64> = 120_000..180_000;
/// How far the clocks of two nodes may differ, milliseconds. By more, a ticket does not count at first sight.
pub const TICKET_CLOCK_MS: u64 = 300_000;
/// How far a join number may be ahead of the time of issue, milliseconds.
pub const MAX_JOIN_AHEAD_MS: u64 = 300_000;
/// Longest identity, bytes.
const MAX_IDENTITY: usize = 512;
/// Longest room key and sid, bytes.
const MAX_TOKEN: usize = 2048;

/// What a gateway says of one participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The gateway that took the participant's token, by its name in the directory. It signs the ticket.
    pub gateway: String,
    /// The institution of the room.
    pub institution: String,
    /// The room's key.
    pub room: String,
    /// The room's sid, `RM_...`, from its assignment.
    pub room_sid: String,
    /// The participant's identity.
    pub identity: String,
    /// The participant's sid, `PA_...`, another one for each join.
    pub participant_sid: String,
    /// Orders the joins of one identity: the greatest one stays. About the time of the join, Unix milliseconds; see
    /// [`next_join_number`].
    pub join_number: u64,
    /// `ParticipantInfo.Kind`, as its number in LiveKit's protocol.
    pub kind: u32,
    /// Other participants do not see it.
    pub hidden: bool,
    /// It is a recorder.
    pub recorder: bool,
    /// The most that the participant may be allowed.
    pub permissions: BTreeSet<TicketPermission>,
    /// The sources that it may publish; `None` for all.
    pub sources: Option<BTreeSet<TicketSource>>,
    /// The node that carries its media.
    pub media_node: String,
    /// Time of issue, Unix milliseconds.
    pub issued_ms: u64,
    /// End of validity, Unix milliseconds; at most [`MAX_TICKET_LIFE_MS`] after the time of issue.
    pub not_after_ms: u64,
}

/// Why a text is no valid ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketRefused {
    /// It is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note says something else than a ticket does. The message has nothing of the text, which may name a participant.
    #[error("{}", not_a_ticket(.0))]
    Text(#[from] DocumentError),
    /// It is too long.
    #[error("the ticket has {0} bytes; at most {MAX_TICKET_BYTES} are allowed")]
    TooLong(usize),
    /// It does not have exactly one signature.
    #[error("a ticket has one signature, this note has {0}")]
    Signatures(usize),
    /// None of the gateway's keys made the signature.
    #[error("the signature of the ticket is not by a key that the directory lists for its gateway")]
    Signature,
    /// The time of issue is too far from the reader's clock.
    #[error(
        "the ticket was issued {0} s before or after the time of this node: the clocks of the nodes differ by more than \
         5 min; synchronise them"
    )]
    NotCurrent(u64),
    /// It has expired.
    #[error("the ticket has expired")]
    Expired,
}

fn not_a_ticket(error: &DocumentError) -> String {
    if error.unsupported {
        return error.problem.clone();
    }
    format!("line {} of the note is not that of a ticket", error.line.unwrap_or_default())
}

/// The number of the next join of an identity whose last one had the number `last` (0 for none): the time, or the next
/// number after `last`, whichever is greater, but at most [`MAX_JOIN_AHEAD_MS`] after the time. So a join wins against an
/// earlier one through a gateway whose clock is ahead.
#[must_use]
pub fn next_join_number(now_ms: u64, last: u64) -> u64 {
    now_ms.max(last.saturating_add(1).min(now_ms.saturating_add(MAX_JOIN_AHEAD_MS)))
}

impl Ticket {
    /// Signs the ticket with the gateway's node key. Returns the note.
    ///
    /// # Errors
    /// When a field has a value that the text of a ticket cannot have.
    pub fn sign(&self, key: &SigningKey) -> Result<String, TicketRefused> {
        let text = self.to_text();
        // What cannot be read must not be signed.
        Self::parse(&text)?;
        Ok(Note::sign(&text, key)?.to_string())
    }

    /// Reads a ticket that one of these keys signed: those that the directory lists for its gateway. Check
    /// [`Ticket::check_time`] or [`Ticket::check_shown`] too, and that the ticket is for what it is used for.
    ///
    /// # Errors
    /// Why it is no ticket of that gateway.
    pub fn verify(note: &str, keys: &[PublicKey]) -> Result<Self, TicketRefused> {
        let (ticket, _) = Self::verify_if(note, |_| Ok::<_, TicketRefused>(keys.to_vec()))?;
        Ok(ticket)
    }

    /// Reads a ticket as [`Ticket::verify`] does. `check` looks at what it says before the signature is verified, which
    /// takes longer than all else, and returns the keys of its gateway.
    ///
    /// # Errors
    /// Why it is no ticket of that gateway, or the error of `check`.
    pub fn verify_if<E: From<TicketRefused>>(
        note: &str,
        check: impl FnOnce(&Self) -> Result<Vec<PublicKey>, E>,
    ) -> Result<(Self, PublicKey), E> {
        if note.len() > MAX_TICKET_BYTES {
            return Err(TicketRefused::TooLong(note.len()).into());
        }
        let note = Note::parse(note).map_err(TicketRefused::from)?;
        let ticket = Self::parse(note.text()).map_err(TicketRefused::from)?;
        let keys = check(&ticket)?;
        let signer = node_note::signer(&note, &keys).map_err(|not_signed| match not_signed {
            NotSigned::Count(count) => TicketRefused::Signatures(count),
            NotSigned::Key => TicketRefused::Signature,
        })?;
        Ok((ticket, signer))
    }

    /// Does the ticket, which its gateway has just issued, count now?
    ///
    /// # Errors
    /// When it was issued too far from `now_ms` (Unix milliseconds), or has expired.
    pub fn check_time(&self, now_ms: u64) -> Result<(), TicketRefused> {
        self.check_issued(now_ms, 0)
    }

    /// Does the ticket, which its participant's media node shows, count now? Ask this when it is seen for the first time. It
    /// may be as old as tickets become before they are renewed.
    ///
    /// # Errors
    /// When it was issued too far from `now_ms` (Unix milliseconds), or has expired.
    pub fn check_shown(&self, now_ms: u64) -> Result<(), TicketRefused> {
        self.check_issued(now_ms, TICKET_RENEWAL_MS.end)
    }

    fn check_issued(&self, now_ms: u64, age_ms: u64) -> Result<(), TicketRefused> {
        self.check_clock(now_ms, age_ms)?;
        if self.not_after_ms <= now_ms { Err(TicketRefused::Expired) } else { Ok(()) }
    }

    /// `age_ms`: how old the ticket may be.
    fn check_clock(&self, now_ms: u64, age_ms: u64) -> Result<(), TicketRefused> {
        let apart = self.issued_ms.abs_diff(now_ms);
        let age_ms = if self.issued_ms < now_ms { age_ms } else { 0 };
        if apart > TICKET_CLOCK_MS + age_ms { Err(TicketRefused::NotCurrent(apart / 1000)) } else { Ok(()) }
    }

    /// Did the participant of the ticket join by `now_ms` (Unix milliseconds)? Of one that has left, its ticket may have
    /// expired since.
    ///
    /// # Errors
    /// When it was issued too far after `now_ms`.
    pub fn check_past(&self, now_ms: u64) -> Result<(), TicketRefused> {
        if self.issued_ms <= now_ms { Ok(()) } else { self.check_clock(now_ms, 0) }
    }

    /// Do both tickets say the same, except for their times?
    #[must_use]
    pub fn renews(&self, other: &Self) -> bool {
        let Self { issued_ms, not_after_ms, .. } = *self;
        Self { issued_ms, not_after_ms, ..other.clone() } == *self
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = FieldWriter::new(FIRST_LINE);
        text.field("gateway", &self.gateway);
        text.field("institution", &self.institution);
        text.field("room", &self.room);
        text.field("room_sid", &self.room_sid);
        text.field("identity", percent_encode(&self.identity));
        text.field("participant_sid", &self.participant_sid);
        text.field("join_number", self.join_number);
        text.field("kind", self.kind);
        text.field("hidden", yes_or_no(self.hidden));
        text.field("recorder", yes_or_no(self.recorder));
        text.list("permissions", self.permissions.iter().map(|permission| permission.as_str()));
        match &self.sources {
            None => text.field("sources", ALL_SOURCES),
            Some(sources) => text.list("sources", sources.iter().map(|source| source.as_str())),
        }
        text.field("media_node", &self.media_node);
        text.field("issued", self.issued_ms);
        text.field("not_after", self.not_after_ms);
        text.finish()
    }

    /// Reads the text of a ticket. There is exactly one text for each ticket.
    ///
    /// # Errors
    /// The line, and what must be there.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let mut fields = FieldReader::new(text, FIRST_LINE)?;
        let gateway = fields.checked("gateway", check_name)?;
        let institution = fields.checked("institution", check_name)?;
        let room = fields.checked("room", check_token)?;
        let room_sid = fields.checked("room_sid", check_token)?;
        let identity = percent_decode(fields.field("identity")?)
            .filter(|identity| identity.len() <= MAX_IDENTITY)
            .ok_or_else(|| fields.wrong("the identity is too long or not percent-encoded (RFC 3986)"))?;
        let participant_sid = fields.checked("participant_sid", |sid| match sid.strip_prefix("PA_") {
            Some(rest) if !rest.is_empty() => check_token(sid),
            _ => Err("a participant sid is PA_ and more characters".to_owned()),
        })?;
        let join_number = fields.number("join_number")?;
        let kind = u32::try_from(fields.number("kind")?).map_err(|_| fields.wrong("no such kind"))?;
        let hidden = flag(&mut fields, "hidden")?;
        let recorder = flag(&mut fields, "recorder")?;
        let permissions: Vec<String> = fields.list("permissions", |word| {
            TicketPermission::parse(word).map(drop).ok_or_else(|| unknown(word))
        })?;
        let permissions = permissions.iter().filter_map(|word| TicketPermission::parse(word)).collect();
        let sources: Vec<String> = fields.list("sources", |word| {
            let known = word == ALL_SOURCES || TicketSource::parse(word).is_some();
            if known { Ok(()) } else { Err(unknown(word)) }
        })?;
        let sources = match sources.as_slice() {
            [all] if all == ALL_SOURCES => None,
            some if some.iter().any(|word| word == ALL_SOURCES) => {
                return Err(fields.wrong("beside \"all\" there is no other source"));
            }
            some => Some(some.iter().filter_map(|word| TicketSource::parse(word)).collect()),
        };
        let media_node = fields.checked("media_node", check_name)?;
        let issued_ms = fields.number("issued")?;
        if join_number > issued_ms.saturating_add(MAX_JOIN_AHEAD_MS) {
            return Err(fields.wrong("the join number is more than 5 min after the time of issue"));
        }
        let not_after_ms = fields.number("not_after")?;
        if not_after_ms <= issued_ms || not_after_ms - issued_ms > MAX_TICKET_LIFE_MS {
            return Err(fields.wrong("a ticket ends after its time of issue, at most 10 min after it"));
        }
        fields.end()?;
        Ok(Self {
            gateway,
            institution,
            room,
            room_sid,
            identity,
            participant_sid,
            join_number,
            kind,
            hidden,
            recorder,
            permissions,
            sources,
            media_node,
            issued_ms,
            not_after_ms,
        })
    }
}

const ALL_SOURCES: &str = "all";

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn flag(fields: &mut FieldReader<'_>, key: &str) -> Result<bool, DocumentError> {
    match fields.field(key)? {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(fields.wrong(format!("\"{key}\" is yes or no"))),
    }
}

/// A room key or a sid.
fn check_token(token: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_/".contains(&b);
    if token.len() <= MAX_TOKEN && token.bytes().all(allowed) {
        return Ok(());
    }
    Err("it may only have letters, digits, '-', '_' and '/'".to_owned())
}

fn unknown(word: &str) -> String {
    format!("\"{}\" has no meaning here", crate::characters::escaped(word))
}

#[cfg(test)]
#[path = "ticket_tests.rs"]
mod tests;
