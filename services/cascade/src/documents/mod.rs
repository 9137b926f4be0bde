//! Signed documents between nodes. Links tell which versions a node holds, and calls fetch a document. Nothing here
//! reads a document: the node verifies its signatures.

mod calls;
mod fetch_limits;
mod held_document;
mod parts;

pub(crate) use calls::{ask, exchange, fetch};
pub(crate) use fetch_limits::FetchLimits;
pub use held_document::HeldDocument;
pub(crate) use held_document::{decode, encode, id_of};
pub(crate) use parts::DocumentParts;
