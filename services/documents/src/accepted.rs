//! The newest version of each document.

use std::collections::BTreeMap;

use crate::document::{DocumentId, DocumentKind};
use crate::hash::DocumentHash;
use crate::lifetime::{Validity, rfc3339};
use crate::verified::VerifiedDocument;

/// The newest version of each document that was seen. Versions only go up, and so do their times of issue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedDocuments {
    newest: BTreeMap<DocumentId, VerifiedDocument>,
}

/// How a document was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It is the newest one now.
    New,
    /// It already was the newest one.
    Known,
}

/// Why a verified document is not the newest one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// A newer version is known.
    #[error("version {version} of the {id} is older than version {newest}, which is known")]
    Older {
        /// Which document it is.
        id: DocumentId,
        /// Its version.
        version: u64,
        /// The newest version.
        newest: u64,
    },
    /// Its owner signed two texts with one version.
    #[error(
        "two texts are signed as version {version} of the {id}: {kept} came first and stays, {refused} is refused; \
         its owner must sign a higher version"
    )]
    Conflict {
        /// Which document it is.
        id: DocumentId,
        /// The version of both.
        version: u64,
        /// The text that came first.
        kept: DocumentHash,
        /// The other one.
        refused: DocumentHash,
    },
    /// It has a higher version and an earlier time of issue.
    #[error(
        "version {version} of the {id} was issued at {}, before version {newest} ({}); its owner must sign it with a \
         later time", rfc3339(*issued), rfc3339(*newest_issued)
    )]
    IssuedEarlier {
        /// Which document it is.
        id: DocumentId,
        /// Its version.
        version: u64,
        /// Its time of issue.
        issued: u64,
        /// The newest version.
        newest: u64,
        /// The time of issue of the newest version.
        newest_issued: u64,
    },
}

impl AcceptedDocuments {
    /// Takes a document if it is newer than what is known. To restore the state after a restart, accept the notes of
    /// [`AcceptedDocuments::iter`] again.
    ///
    /// # Errors
    /// When a newer version is known, or another text of the same version.
    pub fn accept(&mut self, document: VerifiedDocument) -> Result<Acceptance, NotAccepted> {
        let (id, version) = (document.id(), document.version());
        if let Some(newest) = self.newest.get(&id) {
            if version < newest.version() {
                return Err(NotAccepted::Older { id, version, newest: newest.version() });
            }
            if version == newest.version() {
                let (kept, refused) = (newest.hash(), document.hash());
                let same = kept == refused;
                return if same {
                    Ok(Acceptance::Known)
                } else {
                    Err(NotAccepted::Conflict { id, version, kept, refused })
                };
            }
            let (issued, newest_issued) = (document.lifetime().issued, newest.lifetime().issued);
            if issued < newest_issued {
                let newest = newest.version();
                return Err(NotAccepted::IssuedEarlier { id, version, issued, newest, newest_issued });
            }
        }
        self.newest.insert(id, document);
        Ok(Acceptance::New)
    }

    /// The newest version of a document.
    #[must_use]
    pub fn newest(&self, id: &DocumentId) -> Option<&VerifiedDocument> {
        self.newest.get(id)
    }

    /// The newest version of each document, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &VerifiedDocument> {
        self.newest.values()
    }

    /// Id, version and hash of each, to compare with other nodes.
    #[must_use]
    pub fn versions(&self) -> Vec<(DocumentId, u64, DocumentHash)> {
        self.newest.iter().map(|(id, document)| (id.clone(), document.version(), document.hash())).collect()
    }

    /// The time for questions of this document's expiry, seconds since 1970: the wall clock, but never before the
    /// latest time of issue of the same owner's documents. A clock that was set back does not make an expired document
    /// valid again.
    #[must_use]
    pub fn now(&self, id: &DocumentId, wall: u64) -> u64 {
        let is_institution = |id: &DocumentId| id.kind == DocumentKind::Bundle;
        let of_owner = self
            .newest
            .iter()
            .filter(|(other, _)| other.owner == id.owner && is_institution(other) == is_institution(id));
        of_owner.map(|(_, document)| document.lifetime().issued).fold(wall, u64::max)
    }

    /// What the newest version is still good for. A document that is not known is good for nothing.
    #[must_use]
    pub fn validity(&self, id: &DocumentId, wall: u64) -> Validity {
        match self.newest.get(id) {
            Some(document) => document.lifetime().validity(self.now(id, wall)),
            None => Validity::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetime::Lifetime;
    use crate::samples::{DAY, ISSUED, bundle, directory, floor, lifetime, verified, with_lifetime};
    use proptest::prelude::*;

    fn shifted(days: u64) -> Lifetime {
        let Lifetime { issued, renew_by, not_after } = lifetime();
        let shift = days * DAY;
        Lifetime { issued: issued + shift, renew_by: renew_by + shift, not_after: not_after + shift }
    }

    #[test]
    fn a_newer_version_replaces_an_older_one_and_never_the_other_way_round() {
        let mut accepted = AcceptedDocuments::default();
        let (first, second) = (verified(&bundle("ku.dk", 1)), verified(&bundle("ku.dk", 2)));
        assert_eq!(accepted.accept(first.clone()), Ok(Acceptance::New));
        assert_eq!(accepted.accept(first.clone()), Ok(Acceptance::Known));
        assert_eq!(accepted.accept(second.clone()), Ok(Acceptance::New));
        let rollback = accepted.accept(first).unwrap_err();
        assert_eq!(
            rollback.to_string(),
            "version 1 of the bundle of ku.dk is older than version 2, which is known"
        );
        assert_eq!(accepted.newest(&DocumentId::bundle("ku.dk")), Some(&second));
        assert_eq!(accepted.newest(&DocumentId::bundle("au.dk")), None);
    }

    #[test]
    fn of_two_texts_with_one_version_the_first_is_kept() {
        let mut accepted = AcceptedDocuments::default();
        let kept = verified(&bundle("ku.dk", 1));
        accepted.accept(kept.clone()).unwrap();
        let other = verified(&with_lifetime(bundle("ku.dk", 1), shifted(1)));
        let error = accepted.accept(other.clone()).unwrap_err();
        assert!(
            matches!(&error, NotAccepted::Conflict { version: 1, kept: first, refused, .. }
                if *first == kept.hash() && *refused == other.hash()),
            "{error}"
        );
        assert!(error.to_string().contains("its owner must sign a higher version"), "{error}");
        assert_eq!(accepted.newest(&kept.id()), Some(&kept));
    }

    #[test]
    fn each_document_has_its_own_versions() {
        let mut accepted = AcceptedDocuments::default();
        for document in
            [bundle("ku.dk", 7), bundle("au.dk", 1), floor("nordunet", 3), directory("nordunet", 2)]
        {
            assert_eq!(accepted.accept(verified(&document)), Ok(Acceptance::New));
        }
        let versions: Vec<String> =
            accepted.versions().iter().map(|(id, version, _)| format!("{id} {version}")).collect();
        assert_eq!(
            versions,
            ["bundle of au.dk 1", "bundle of ku.dk 7", "floor of nordunet 3", "directory of nordunet 2"]
        );
        assert_eq!(accepted.iter().count(), 4);
    }

    #[test]
    fn a_newer_version_has_a_later_time_of_issue() {
        let mut accepted = AcceptedDocuments::default();
        accepted.accept(verified(&with_lifetime(bundle("ku.dk", 1), shifted(2)))).unwrap();
        let error = accepted.accept(verified(&with_lifetime(bundle("ku.dk", 2), shifted(1)))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "version 2 of the bundle of ku.dk was issued at 2026-11-30T08:00:00Z, before version 1 \
             (2026-12-01T08:00:00Z); its owner must sign it with a later time"
        );
        assert_eq!(
            accepted.accept(verified(&with_lifetime(bundle("ku.dk", 2), shifted(2)))),
            Ok(Acceptance::New)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_30_days_does_not_revive_an_expired_document() {
        let mut accepted = AcceptedDocuments::default();
        let end = lifetime().not_after;
        accepted.accept(verified(&directory("nordunet", 1))).unwrap();
        let id = DocumentId::directory("nordunet");
        assert_eq!(accepted.validity(&id, end), Validity::RenewalOverdue);
        // The operator's floor was issued a day after the directory's end.
        let after = Lifetime { issued: end + DAY, renew_by: end + 2 * DAY, not_after: end + 3 * DAY };
        accepted.accept(verified(&with_lifetime(floor("nordunet", 1), after))).unwrap();
        assert_eq!(accepted.validity(&id, end + DAY - 30 * DAY), Validity::Expired);
        assert_eq!(accepted.now(&id, end - 29 * DAY), end + DAY);
    }

    #[test]
    fn other_owners_do_not_move_a_documents_time() {
        let mut accepted = AcceptedDocuments::default();
        accepted.accept(verified(&directory("nordunet", 1))).unwrap();
        // Another operator, an institution, and an institution that has the operator's name.
        for document in [floor("sunet", 1), bundle("ku.dk", 1), bundle("nordunet", 1)] {
            accepted.accept(verified(&with_lifetime(document, shifted(1000)))).unwrap();
        }
        let id = DocumentId::directory("nordunet");
        assert_eq!(accepted.now(&id, ISSUED + DAY), ISSUED + DAY);
        assert_eq!(accepted.now(&DocumentId::bundle("nordunet"), ISSUED), ISSUED + 1000 * DAY);
        assert_eq!(accepted.validity(&id, ISSUED), Validity::Valid);
    }

    #[test]
    fn a_document_that_is_not_known_is_good_for_nothing() {
        let accepted = AcceptedDocuments::default();
        assert_eq!(accepted.validity(&DocumentId::floor("nordunet"), 0), Validity::Expired);
        assert_eq!(accepted.now(&DocumentId::floor("nordunet"), 5), 5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn neither_versions_nor_time_go_back_whatever_arrives(
            arrivals in proptest::collection::vec((1_u64..5, 0_u64..5, any::<bool>()), 1..12), wall in 0..2 * ISSUED
        ) {
            let mut accepted = AcceptedDocuments::default();
            let id = DocumentId::floor("nordunet");
            let (mut newest, mut now) = (None, accepted.now(&id, wall));
            for (version, days, is_floor) in arrivals {
                let document = if is_floor { floor("nordunet", version) } else { directory("nordunet", version) };
                let _ = accepted.accept(verified(&with_lifetime(document, shifted(days))));
                let versions = accepted.newest(&id).map(|floor| (floor.version(), floor.hash()));
                if let (Some((before, hash)), Some((after, other))) = (newest, versions) {
                    prop_assert!(after > before || (after == before && hash == other));
                }
                prop_assert!(newest.is_none() || versions.is_some());
                prop_assert!(accepted.now(&id, wall) >= now);
                (newest, now) = (versions, accepted.now(&id, wall));
                // Restored from its notes, it is the same.
                let mut restored = AcceptedDocuments::default();
                for document in accepted.iter() {
                    restored.accept(document.clone()).unwrap();
                }
                prop_assert_eq!(&restored, &accepted);
            }
        }
    }
}
