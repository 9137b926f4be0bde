//! Notes that one node signs: exactly one signature, by a node key.

use crate::error::DocumentError;
use crate::hash::DocumentHash;
use crate::key::PublicKey;
use crate::note::{Note, NoteError};
use crate::signing_key::SigningKey;

/// Longest note that a node signs, bytes.
const MAX_BYTES: usize = 32 * 1024;

/// Why a note of a node is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNoteRefused {
    /// It is longer than any that a node signs.
    #[error("it has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// It is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not of this kind.
    #[error("its text is not a document that a node signs: {0}")]
    Document(#[from] DocumentError),
    /// It has more than one signature.
    #[error("it must have exactly one signature")]
    Signatures,
    /// None of the signer's node keys signed it.
    #[error("no node key that a directory lists for {0} signed it")]
    Signer(String),
}

impl NodeNoteRefused {
    /// Is it a document of a format that this release does not read?
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Document(error) if error.unsupported)
    }
}

/// Signs a text.
pub(crate) fn sign(text: &str, key: &SigningKey) -> Result<String, NodeNoteRefused> {
    let note = Note::sign(text, key)?.to_string();
    if note.len() > MAX_BYTES {
        return Err(NodeNoteRefused::TooLong(note.len()));
    }
    Ok(note)
}

/// Reads a note, and verifies its one signature with the keys that its signer may have. The text is read first, because
/// it says who the signer is.
pub(crate) fn verify<T>(
    note: &str,
    parse: impl FnOnce(&str) -> Result<T, DocumentError>,
    signer: impl FnOnce(&T) -> (String, Vec<PublicKey>),
) -> Result<(T, DocumentHash), NodeNoteRefused> {
    if note.len() > MAX_BYTES {
        return Err(NodeNoteRefused::TooLong(note.len()));
    }
    let note = Note::parse(note)?;
    let document = parse(note.text())?;
    let (name, keys) = signer(&document);
    match self::signer(&note, &keys) {
        Ok(_) => Ok((document, note.hash())),
        Err(NotSigned::Count(_)) => Err(NodeNoteRefused::Signatures),
        Err(NotSigned::Key) => Err(NodeNoteRefused::Signer(name)),
    }
}

/// Why none of a node's keys signed a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSigned {
    /// It has this number of signatures, not one.
    Count(usize),
    /// Another key made the signature.
    Key,
}

/// The one of these keys that made the note's one signature.
pub(crate) fn signer(note: &Note, keys: &[PublicKey]) -> Result<PublicKey, NotSigned> {
    let [signature] = note.signatures() else { return Err(NotSigned::Count(note.signatures().len())) };
    // The name of a key is a label, and a directory may give the key another one than its node does: the bytes of the key
    // decide. The key id holds the name, so that the line has one form only.
    let named = |key: &&PublicKey| {
        PublicKey::new(signature.name(), *key.as_bytes()).is_ok_and(|named| signature.is_by(&named))
    };
    let signed = |key: &&PublicKey| key.verify(note.text().as_bytes(), signature.signature());
    keys.iter().find(|key| named(key) && signed(key)).cloned().ok_or(NotSigned::Key)
}
