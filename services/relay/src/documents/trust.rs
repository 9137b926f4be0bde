//! The CA roots that the directories state.

use systir_documents::{AcceptedDocuments, Document, Validity, VerifiedDocument};
use systir_identity::{IdentityError, TrustBundle, TrustDomain};

/// The roots of the trust domain of each directory that has not expired.
///
/// # Errors
/// When a directory's roots are not certificates.
pub(crate) fn trust(accepted: &AcceptedDocuments, now: u64) -> Result<TrustBundle, IdentityError> {
    let valid = |verified: &&VerifiedDocument| accepted.validity(&verified.id(), now) != Validity::Expired;
    accepted.iter().filter(valid).try_fold(TrustBundle::new(), |bundle, verified| match verified.document() {
        Document::Directory(directory) => {
            bundle.with(TrustDomain::new(&directory.trust_domain)?, &directory.roots)
        }
        Document::Bundle(_) | Document::Floor(_) => Ok(bundle),
    })
}

/// The roots of each directory that is in force, as PEM, with the operator.
pub(crate) fn roots(accepted: &AcceptedDocuments, now: u64) -> Vec<(String, String)> {
    let valid = accepted.iter().filter(|one| accepted.validity(&one.id(), now) != Validity::Expired);
    let roots = valid.filter_map(|verified| match verified.document() {
        Document::Directory(directory) => Some((verified.id().owner, directory.roots.clone())),
        Document::Bundle(_) | Document::Floor(_) => None,
    });
    roots.collect()
}
