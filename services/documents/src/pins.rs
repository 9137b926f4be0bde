//! Whose keys sign which documents.

use std::collections::BTreeMap;

use crate::document::{Document, DocumentId, DocumentKind};
use crate::error::DocumentError;
use crate::note::{Note, NoteError};
use crate::pinned_keys::{PinnedKeys, SignatureRefused};
use crate::verified::VerifiedDocument;

/// The keys that a node's configuration pins: bundles are signed by their institution, floors and directories by
/// their operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Institution -> its keys.
    pub institutions: BTreeMap<String, PinnedKeys>,
    /// Operator -> its keys and trust domain.
    pub operators: BTreeMap<String, OperatorPin>,
}

/// What is pinned of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPin {
    /// The trust domain of its nodes. Its directory must state the same.
    pub trust_domain: String,
    /// Its keys.
    pub keys: PinnedKeys,
}

/// Why a note is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// It is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// No pinned key signed it. Its text was not read.
    #[error("no key that this node's configuration pins signed it; its signatures: {}", stated.join(", "))]
    NoPinnedSigner {
        /// The signers that the note states, as `name+id`.
        stated: Vec<String>,
    },
    /// A signature states a pinned key, and that key did not sign this text. The text was not read.
    #[error(transparent)]
    Changed(SignatureRefused),
    /// Its text is no document.
    #[error("a pinned key signed it, but its text is not a document: {0}")]
    Document(#[from] DocumentError),
    /// Nothing is pinned for its owner.
    #[error("it is the {0}, and this node's configuration pins no keys of {owner}", owner = .0.owner)]
    UnknownOwner(DocumentId),
    /// Its owner's keys did not sign it, or too few of them.
    #[error("it is the {id}, and the keys of {owner} did not sign it as they must: {refused}", owner = id.owner)]
    Signatures {
        /// Which document it is.
        id: DocumentId,
        /// What is wrong with its signatures.
        refused: SignatureRefused,
    },
    /// A directory for another trust domain than the operator's.
    #[error(
        "the {id} is for the trust domain {stated}, and this node's configuration pins {pinned} for {owner}", owner = id.owner
    )]
    TrustDomain {
        /// Which document it is.
        id: DocumentId,
        /// The trust domain in the directory.
        stated: String,
        /// The operator's pinned trust domain.
        pinned: String,
    },
}

impl DocumentRefused {
    /// Is it a document of a format that this release does not read?
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Document(error) if error.unsupported)
    }
}

impl Pins {
    /// The keys that sign this document.
    #[must_use]
    pub fn keys_of(&self, id: &DocumentId) -> Option<&PinnedKeys> {
        match id.kind {
            DocumentKind::Bundle => self.institutions.get(&id.owner),
            DocumentKind::Floor | DocumentKind::Directory => {
                self.operators.get(&id.owner).map(|operator| &operator.keys)
            }
        }
    }

    /// Verifies a note: the text is read only after a pinned key was found that signed it.
    ///
    /// # Errors
    /// When the note is malformed, is no document, or its owner's keys did not sign it.
    pub fn verify(&self, note: &str) -> Result<VerifiedDocument, DocumentRefused> {
        let parsed = Note::parse(note)?;
        self.check_signer(&parsed)?;
        let document = Document::parse(parsed.text())?;
        let id = document.id();
        let Some(keys) = self.keys_of(&id) else { return Err(DocumentRefused::UnknownOwner(id)) };
        let signers = keys
            .verify(&parsed)
            .map_err(|refused| DocumentRefused::Signatures { id: id.clone(), refused })?;
        if let (Document::Directory(directory), Some(pin)) = (&document, self.operators.get(&id.owner))
            && directory.trust_domain != pin.trust_domain
        {
            let (stated, pinned) = (directory.trust_domain.clone(), pin.trust_domain.clone());
            return Err(DocumentRefused::TrustDomain { id, stated, pinned });
        }
        Ok(VerifiedDocument::new(document, note.into(), parsed.hash(), signers))
    }

    /// Whether any pinned key signed the note: only then its text is worth reading.
    fn check_signer(&self, note: &Note) -> Result<(), DocumentRefused> {
        let operators = self.operators.values().map(|operator| &operator.keys);
        let keys: Vec<_> = self.institutions.values().chain(operators).flat_map(PinnedKeys::keys).collect();
        let mut forged = None;
        for signature in note.signatures() {
            for key in keys.iter().filter(|key| signature.is_by(key)) {
                if key.verify(note.text().as_bytes(), signature.signature()) {
                    return Ok(());
                }
                forged = Some(DocumentRefused::Changed(SignatureRefused::Invalid((*key).clone())));
            }
        }
        let stated = || note.signatures().iter().map(ToString::to_string).collect();
        Err(forged.unwrap_or_else(|| DocumentRefused::NoPinnedSigner { stated: stated() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{bundle, directory, floor, key, pins, signed, signed_text};

    fn refused(note: &str) -> String {
        pins().verify(note).unwrap_err().to_string()
    }

    #[test]
    fn each_document_is_verified_with_its_owners_keys() {
        for (document, keys) in [
            (bundle("ku.dk", 1), &["ku.dk/3", "ku.dk/1"][..]),
            (bundle("au.dk", 1), &["au.dk/1"]),
            (floor("nordunet", 1), &["nordunet/1"]),
            (directory("nordunet", 1), &["nordunet/1"]),
        ] {
            let note = signed(&document, keys);
            let verified = pins().verify(&note).unwrap();
            assert_eq!(verified.document(), &document);
            assert_eq!((verified.id(), verified.version()), (document.id(), 1));
            assert_eq!(&**verified.note(), note);
            assert_eq!(verified.hash(), crate::DocumentHash::of(&document.to_text()));
            let expected: Vec<_> = keys.iter().map(|name| key(name).public()).collect();
            assert_eq!(verified.signers(), expected);
        }
    }

    #[test]
    fn a_note_of_one_institution_never_verifies_for_another() {
        let error = refused(&signed(&bundle("ku.dk", 1), &["au.dk/1"]));
        assert!(
            error.starts_with(
                "it is the bundle of ku.dk, and the keys of ku.dk did not sign it as they must: 0 of 2"
            ),
            "{error}"
        );
        let error = refused(&signed(&bundle("au.dk", 1), &["ku.dk/1", "ku.dk/2", "ku.dk/3"]));
        assert!(error.contains("the keys of au.dk did not sign it"), "{error}");
    }

    #[test]
    fn a_key_signs_only_the_kinds_of_document_of_its_owner() {
        // A floor under a bundle's key, and under the keys of an institution that has the operator's name.
        for signer in ["au.dk/1", "nordunet/rooms"] {
            for document in [floor("nordunet", 1), directory("nordunet", 1)] {
                let error = refused(&signed(&document, &[signer]));
                assert!(error.contains("the keys of nordunet did not sign it"), "{error}");
            }
        }
        let error = refused(&signed(&bundle("nordunet", 1), &["nordunet/1"]));
        assert!(
            error.contains("the bundle of nordunet, and the keys of nordunet did not sign it"),
            "{error}"
        );
        // An operator for an institution of which it has no keys, and the other way round.
        let error = refused(&signed(&bundle("sunet", 1), &["sunet/1"]));
        assert_eq!(error, "it is the bundle of sunet, and this node's configuration pins no keys of sunet");
        let error = refused(&signed(&floor("au.dk", 1), &["au.dk/1"]));
        assert_eq!(error, "it is the floor of au.dk, and this node's configuration pins no keys of au.dk");
    }

    #[test]
    fn a_text_of_another_type_is_refused_although_a_pinned_key_signed_it() {
        let as_floor = floor("nordunet", 1).to_text().replace("systir.org/floor/v1", "systir.org/bundle/v1");
        let error = refused(&signed_text(&as_floor, &["nordunet/1"]));
        assert!(
            error.starts_with("a pinned key signed it, but its text is not a document: line 2: "),
            "{error}"
        );
        assert!(error.contains("operator"), "{error}");
        for text in ["systir.org/grant/v1\n", "example.org/log\n12\nAAAA\n", "\n"] {
            let error = refused(&signed_text(text, &["nordunet/1"]));
            assert!(error.contains("line 1: ") && error.contains("the first line must be one of"), "{error}");
        }
    }

    #[test]
    fn a_text_without_a_pinned_signer_is_not_read() {
        let error = refused(&signed_text("no document\n", &["mallory", "eve"]));
        assert!(
            error.starts_with(
                "no key that this node's configuration pins signed it; its signatures: mallory+"
            ),
            "{error}"
        );
        assert!(error.contains(", eve+"), "{error}");
        assert!(refused("text\n").starts_with("the note has no signatures"));
        assert_eq!(
            Pins::default()
                .verify(&signed(&bundle("ku.dk", 1), &["ku.dk/1", "ku.dk/2"]))
                .map_err(|error| { matches!(error, DocumentRefused::NoPinnedSigner { .. }) }),
            Err(true)
        );
    }

    #[test]
    fn a_changed_text_is_refused() {
        let note = signed(&bundle("ku.dk", 1), &["ku.dk/1", "ku.dk/2"]);
        for (from, to) in [("version = 1", "version = 2"), ("permit", "forbid"), ("\"DK\"", "\"US\"")] {
            let error = refused(&note.replacen(from, to, 1));
            assert!(error.contains("is not valid for this text: the text was changed"), "{error}");
        }
    }

    #[test]
    fn a_directory_is_for_its_operators_pinned_trust_domain() {
        let mut pins = pins();
        pins.operators.get_mut("nordunet").unwrap().trust_domain = "other.example".to_owned();
        let error = pins.verify(&signed(&directory("nordunet", 1), &["nordunet/1"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the directory of nordunet is for the trust domain nordu.net, and this node's configuration pins \
             other.example for nordunet"
        );
        assert!(pins.verify(&signed(&floor("nordunet", 1), &["nordunet/1"])).is_ok());
    }
}
