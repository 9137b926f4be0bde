//! Signs documents: what stands between a text and the nodes that are to read it, for `systirctl` and for the demo.

use systir_documents::{Document, DocumentError, Note, NoteError, SigningKey, rfc3339};

use crate::engine::PolicyEngine;
use crate::problem::LoadError;

/// The clock of the computer that signs may be this far behind the clock of the one that built the document, seconds.
const SKEW: u64 = 3600;

/// Why a document is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A node would not read it.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A node would not load it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be replaced until then.
    #[error(
        "it is issued at {}, in the future; nodes would count its owner's other documents as old from that time on",
        rfc3339(*.0)
    )]
    Future(u64),
    /// It is good for nothing.
    #[error("it ended at {}; build it with a later not_after", rfc3339(*.0))]
    Ended(u64),
    /// Its text cannot be a note, or the key has signed it already.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Signs the text of a document as its first signer.
///
/// # Errors
/// When a node would refuse the document.
pub fn sign(text: &str, key: &SigningKey, now: u64) -> Result<Note, SigningError> {
    check(text, now)?;
    Ok(Note::sign(text, key)?)
}

/// Adds the signature of a key to a signed document.
///
/// # Errors
/// When a node would refuse the document.
pub fn add_signature(mut note: Note, key: &SigningKey, now: u64) -> Result<Note, SigningError> {
    check(note.text(), now)?;
    note.add_signature(key)?;
    Ok(note)
}

fn check(text: &str, now: u64) -> Result<(), SigningError> {
    let document = Document::parse(text)?;
    PolicyEngine::check(&document)?;
    let lifetime = document.lifetime();
    if lifetime.issued > now + SKEW {
        return Err(SigningError::Future(lifetime.issued));
    }
    if lifetime.not_after < now {
        return Err(SigningError::Ended(lifetime.not_after));
    }
    Ok(())
}
