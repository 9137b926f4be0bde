//! An engine from the documents that a node accepted.

use systir_documents::{AcceptedDocuments, Document, DocumentId, Validity, VerifiedDocument};

use crate::engine::PolicyEngine;
use crate::problem::{LoadError, Problem};
use crate::source::{SourceDocument, Sources, place};
use crate::time::PolicyTime;
use crate::{institution, nodes};

impl PolicyEngine {
    /// Loads the newest accepted documents: the floor of `operator`, whose node this is, all bundles and all directories,
    /// as valid as they are at `wall`, in seconds since 1970, and decides at that time. To try a newer document before it is accepted for good, accept
    /// it into a copy and load that.
    ///
    /// # Errors
    /// No floor of `operator`, and what [`PolicyEngine::load`] refuses.
    pub fn load_accepted(accepted: &AcceptedDocuments, operator: &str, wall: u64) -> Result<Self, LoadError> {
        let (mut floor, mut bundles, mut directories) = (None, Vec::new(), Vec::new());
        for verified in accepted.iter() {
            let validity = accepted.validity(&verified.id(), wall);
            match verified.document() {
                Document::Floor(own) if own.operator == operator => {
                    floor = Some(source(own, verified, validity))
                }
                // Floors of other operators apply on their own nodes.
                Document::Floor(_) => {}
                Document::Bundle(bundle) => bundles.push(source(bundle, verified, validity)),
                Document::Directory(directory) => directories.push(source(directory, verified, validity)),
            }
        }
        let floor = floor.ok_or_else(|| {
            vec![Problem::at(
                &place::floor(operator),
                "it is missing; a node needs the floor of its own operator",
            )]
        })?;
        let engine = Self::load(&Sources { floor, bundles: &bundles, directories: &directories })?;
        Ok(engine.at(PolicyTime::of_clock(accepted, operator, wall)))
    }

    /// Checks a document's own content, as before it is signed. What contradicts other documents is found by
    /// [`PolicyEngine::load`].
    ///
    /// # Errors
    /// Every problem found.
    pub fn check(document: &Document) -> Result<(), LoadError> {
        let problems = match document {
            Document::Bundle(bundle) => institution::check_bundle(bundle).err().unwrap_or_default(),
            Document::Floor(floor) => institution::check_floor(floor).err().unwrap_or_default(),
            Document::Directory(directory) => nodes::check(directory),
        };
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }
}

/// How far a clock may be behind the time of issue of the newest document of the operator, seconds.
const MAX_BEHIND: u64 = 300;

impl PolicyTime {
    /// The minute of the wall clock, in seconds since 1970; none if the clock is known to be wrong, because the operator
    /// whose node this is issued a floor or a directory later than now.
    #[must_use]
    pub fn of_clock(accepted: &AcceptedDocuments, operator: &str, wall: u64) -> Option<Self> {
        let latest = accepted.now(&DocumentId::floor(operator), wall);
        (latest <= wall.saturating_add(MAX_BEHIND)).then(|| Self::at(wall))
    }
}

fn source<'a, D>(
    document: &'a D,
    verified: &'a VerifiedDocument,
    validity: Validity,
) -> SourceDocument<'a, D> {
    SourceDocument { document, hash: verified.hash(), validity, signers: verified.signers() }
}
