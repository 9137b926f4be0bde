//! The input of the engine: signed documents.

use systir_documents::{Bundle, Directory, DocumentHash, Floor, PublicKey, Validity};

/// A verified document, with what is known of it beyond its text.
#[derive(Clone, Debug)]
pub struct SourceDocument<'a, D> {
    /// Its content.
    pub document: &'a D,
    /// The SHA-256 of its text.
    pub hash: DocumentHash,
    /// Is it valid now? When that changes, load a new engine.
    pub validity: Validity,
    /// The keys whose signatures were verified.
    pub signers: &'a [PublicKey],
}

impl<D> SourceDocument<'_, D> {
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.signers.iter().map(PublicKey::fingerprint).collect()
    }
}

/// The input of [`crate::PolicyEngine::load`].
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// The floor of this node's operator: forbid rules that apply to every institution.
    pub floor: SourceDocument<'a, Floor>,
    /// One bundle for each institution.
    pub bundles: &'a [SourceDocument<'a, Bundle>],
    /// One directory for each operator.
    pub directories: &'a [SourceDocument<'a, Directory>],
}

/// How documents are named in problems and sentences.
pub(crate) mod place {
    use systir_documents::DocumentId;

    pub(crate) fn bundle(institution: &str) -> String {
        DocumentId::bundle(institution).to_string()
    }

    pub(crate) fn floor(operator: &str) -> String {
        DocumentId::floor(operator).to_string()
    }

    pub(crate) fn directory(operator: &str) -> String {
        DocumentId::directory(operator).to_string()
    }
}
