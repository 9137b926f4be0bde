//! The journal of one node: what its decisions let in and kept out, one JSON line each. This crate has the lines and the
//! plan of the files; it reads no file and no clock. `systir-relay` writes journals, `systirctl` reads them.
//!
//! - [`JournalEntry`] is one outcome. It names nodes, rules, versions of documents and the tag of the room: no participant
//!   and no name of a room. The outcome of a join has a [`JournalPlacement`] too: what the ladder was made of, so that it
//!   can be made again of another policy.
//! - [`Journal`] takes entries, and never waits.
//! - [`JournalLine`] is a line: an entry, or a [`JournalGap`] where entries are missing, with its time and node.
//! - [`JournalFolder`] plans the files: which one takes the next lines, and which are too old.
//!
//! ```
//! use systir_journal::{DecidedAbout, DecidedAt, JournalEntry, JournalEvent, JournalLine, JournalOutcome};
//!
//! let entry = JournalEntry {
//!     action: Some("spill".to_owned()),
//!     about: Some(DecidedAbout::Node("aws-sto-1".to_owned())),
//!     rules: vec!["ku-never-leased".to_owned()],
//!     ..JournalEntry::new(DecidedAt::RoomOpening, JournalOutcome::Refused, "forbidden")
//! };
//! let line = JournalLine { time_ms: 1_795_939_200_123, node: "cph-1".to_owned(), event: JournalEvent::Entry(entry.into()) };
//! let text = line.to_text();
//! assert!(text.starts_with(r#"{"time":"2026-11-29T08:00:00.123Z","node":"cph-1","at":"room-opening""#));
//! assert_eq!(JournalLine::parse(&text).unwrap(), line);
//! ```

// Tests read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod entry;
mod folder;
mod line;
mod placement;
mod time;

pub use entry::{
    DecidedAbout, DecidedAt, Journal, JournalDocuments, JournalEntry, JournalOutcome, JournalRoom,
};
pub use folder::{JournalFile, JournalFolder, JournalLimits};
pub use line::{JournalEvent, JournalGap, JournalLine, MAX_LINE_BYTES, MissingReason, UnreadableLine};
pub use placement::{
    AnsweredSeat, JournalCandidate, JournalPlacement, JournalRole, MAX_CANDIDATES, PlacedParticipant,
    PlacedRoom,
};
pub use time::{day_of, journal_time, parse_journal_time};
