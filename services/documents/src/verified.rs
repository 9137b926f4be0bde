//! A document that its owner signed.

use std::sync::Arc;

use crate::document::{Document, DocumentId};
use crate::hash::DocumentHash;
use crate::key::PublicKey;
use crate::lifetime::Lifetime;

/// A document that was verified with its owner's pinned keys; only [`crate::Pins::verify`] makes one. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDocument(Arc<Verified>);

#[derive(Debug, PartialEq, Eq)]
struct Verified {
    document: Document,
    note: Arc<str>,
    hash: DocumentHash,
    signers: Vec<PublicKey>,
}

impl VerifiedDocument {
    pub(crate) fn new(
        document: Document,
        note: Arc<str>,
        hash: DocumentHash,
        signers: Vec<PublicKey>,
    ) -> Self {
        Self(Arc::new(Verified { document, note, hash, signers }))
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.0.document
    }

    /// Which document it is.
    #[must_use]
    pub fn id(&self) -> DocumentId {
        self.0.document.id()
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.document.version()
    }

    /// Its dates.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.0.document.lifetime()
    }

    /// The whole note, to keep or to send to others.
    #[must_use]
    pub fn note(&self) -> &Arc<str> {
        &self.0.note
    }

    /// SHA-256 of the text, without signatures.
    #[must_use]
    pub fn hash(&self) -> DocumentHash {
        self.0.hash
    }

    /// The pinned keys that signed it, each once.
    #[must_use]
    pub fn signers(&self) -> &[PublicKey] {
        &self.0.signers
    }
}
