//! The signed documents of a cluster: an institution's *bundle* (its policy), an operator's *floor* and *directory*
//! (its nodes), and a room's *grant*, which its home node signs. A document is a readable text, signed with Ed25519 in the note format of C2SP
//! (<https://c2sp.org/signed-note>). A node believes a document only by the keys that its configuration pins; who
//! carried it does not matter.
//!
//! This crate parses, signs and verifies documents and orders their versions. It does not evaluate policy, reads no
//! files and has no clock.
//!
//! - [`Note`]: a text and its signatures. [`SigningKey`], [`PublicKey`]: the keys.
//! - [`Document`]: a [`Bundle`], [`Floor`] or [`Directory`], read from a note's text.
//! - [`Pins`]: whose keys sign what. [`Pins::verify`] is the only source of a [`VerifiedDocument`].
//! - [`Grant`], [`SignedGrant`]: the nodes of one room, signed with a node key that a directory lists.
//! - [`Ticket`]: one participant in one room, signed by its gateway with a node key that a directory lists.
//! - [`AcceptedDocuments`]: the newest version of each document; versions only go up.
//!
//! # Example
//!
//! ```
//! use systir_documents::{Note, PinnedKeys, Pins, SigningKey};
//!
//! let text = "systir.org/bundle/v1
//! institution = 'ku.dk'
//! version = 7
//! issued = 2026-11-29T08:00:00Z
//! renew_by = 2027-01-28T08:00:00Z
//! not_after = 2027-02-27T08:00:00Z
//!
//! [vocabulary]
//! operators = ['nordunet']
//!
//! [policy]
//! cedar = 'permit (principal, action, resource);'
//! ";
//! // The seed comes from a secure random generator.
//! let key = SigningKey::from_seed("ku.dk/2026", [7; 32])?;
//! let note = Note::sign(text, &key)?.to_string();
//!
//! let keys = PinnedKeys::new(vec![key.public()], 1)?;
//! let pins = Pins { institutions: [("ku.dk".to_owned(), keys)].into(), ..Pins::default() };
//! let verified = pins.verify(&note)?;
//! assert_eq!((verified.id().to_string(), verified.version()), ("bundle of ku.dk".to_owned(), 7));
//! assert!(pins.verify(&note.replace("permit", "forbid")).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/sign_and_verify.rs` signs with two of three keys, and shows what is refused.

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod accepted;
mod bundle;
mod characters;
mod directory;
mod document;
#[cfg(test)]
mod document_tests;
mod error;
mod field_lines;
mod floor;
mod format;
mod grant;
mod grant_terms;
mod guarantee;
mod hash;
mod key;
mod lifetime;
mod names;
mod node_key;
mod node_note;
mod note;
mod percent;
mod pinned_keys;
mod pins;
mod prefix;
mod roots;
#[cfg(test)]
mod samples;
mod signing_key;
mod text;
mod ticket;
mod ticket_permission;
mod verified;
mod vocabulary;
mod zones;

pub use accepted::{Acceptance, AcceptedDocuments, NotAccepted};
pub use bundle::{Bundle, RoomClassRule};
pub use directory::{Directory, DirectoryNode};
pub use document::{Document, DocumentId, DocumentKind, policy_line};
pub use error::DocumentError;
pub use floor::Floor;
pub use format::DOCUMENT_FORMATS;
pub use grant::{Grant, MAX_GRANT_LIFE_MS, SignedGrant};
pub use grant_terms::GrantTerms;
pub use guarantee::Guarantee;
pub use hash::{DocumentHash, NotAHash};
pub use key::{KeyError, PublicKey};
pub use lifetime::{Lifetime, Validity, parse_rfc3339, rfc3339};
pub use node_key::NodeKey;
pub use node_note::NodeNoteRefused;
pub use note::{MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature};
pub use pinned_keys::{PinError, PinnedKeys, SignatureRefused};
pub use pins::{DocumentRefused, OperatorPin, Pins};
pub use prefix::{IpPrefix, PrefixError};
pub use signing_key::SigningKey;
pub use ticket::{
    MAX_JOIN_AHEAD_MS, MAX_TICKET_BYTES, MAX_TICKET_LIFE_MS, TICKET_CLOCK_MS, TICKET_RENEWAL_MS, Ticket,
    TicketRefused, next_join_number,
};
pub use ticket_permission::{TicketPermission, TicketSource};
pub use verified::VerifiedDocument;
pub use vocabulary::Vocabulary;
