//! The newest documents of this node, and the policy engine made of them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use systir_cascade::HeldDocument;
use systir_documents::{
    Acceptance, AcceptedDocuments, DocumentId, DocumentRefused, NotAccepted, Pins, Validity, VerifiedDocument,
};
use systir_identity::{IdentityError, TrustBundle};
use systir_policy::{Authority, LoadError, PolicyEngine, PolicyTime};
use systir_reason::Reason;
use tokio::sync::watch;

use super::files;
use super::metrics::DocumentMetrics;
use super::trust::trust;
use crate::config::PolicySection;

/// Why a document is not taken. The documents that were there stay in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is not signed as this node's configuration demands.
    #[error(transparent)]
    Refused(#[from] DocumentRefused),
    /// It is not newer.
    #[error(transparent)]
    NotNewer(#[from] NotAccepted),
    /// Its content cannot be used.
    #[error("its content cannot be used: {0}")]
    Policy(#[from] LoadError),
    /// Its roots are no certificates.
    #[error("its CA roots cannot be used: {0}")]
    Roots(#[from] IdentityError),
    /// The disk failed. A version that is not on the disk is not used: after a restart it would be unknown.
    #[error("it cannot be kept on the disk, so it is not used: {0:#}")]
    NotKept(anyhow::Error),
}

impl NotTaken {
    /// The reason, for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refused) if refused.is_unsupported() => Reason::UnsupportedVersion.as_str(),
            Self::Refused(_) => "refused",
            Self::NotNewer(NotAccepted::Conflict { .. }) => "conflict",
            Self::NotNewer(_) => "older",
            Self::Policy(_) | Self::Roots(_) => "invalid",
            Self::NotKept(_) => "disk",
        }
    }
}

/// Documents that were read at start, not yet in use.
#[derive(Debug)]
pub(crate) struct ReadDocuments {
    accepted: AcceptedDocuments,
    /// What is wrong and does not prevent a start.
    pub(crate) warnings: Vec<String>,
}

/// Reads the configured documents and those of an earlier run; the newest version of each counts.
///
/// # Errors
/// When a configured document is not signed as the configuration demands, two of one version differ, or a later release kept one that
/// this release does not read.
pub(crate) fn read(policy: &PolicySection, pins: &Pins) -> Result<ReadDocuments> {
    let mut read = ReadDocuments { accepted: AcceptedDocuments::default(), warnings: Vec::new() };
    // Kept ones first: of two texts with one version, the first stays.
    for path in files::notes(&policy.state)?.into_keys() {
        let taken = files::read(&path).and_then(|note| {
            let document = pins.verify(&note)?;
            Ok(read.accepted.accept(document)?)
        });
        // Else an older version would replace what a later release kept, and count. A pinned key signed it.
        if let Err(error) = &taken
            && matches!(error.downcast_ref(), Some(DocumentRefused::Document(_)))
        {
            anyhow::bail!("{}: a later release of this node kept it: {error}", path.display());
        }
        if let Err(error) = taken {
            // Usually the pinned keys were changed.
            read.warnings.push(format!("{}: a kept document is not used: {error:#}", path.display()));
        }
    }
    for path in files::notes(&policy.documents)?.into_keys() {
        let note = files::read(&path)?;
        let document = pins.verify(&note).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        match read.accepted.accept(document) {
            Ok(_) => {}
            Err(error @ NotAccepted::Older { .. }) => {
                read.warnings.push(format!("{}: not used: {error}", path.display()));
            }
            Err(error) => anyhow::bail!("{}: {error}", path.display()),
        }
    }
    Ok(read)
}

impl ReadDocuments {
    /// The policy engine of these documents.
    ///
    /// # Errors
    /// When the own operator's floor or directory is missing, or a document's content cannot be used.
    pub(crate) fn engine(&self, policy: &PolicySection) -> Result<PolicyEngine> {
        for id in [DocumentId::floor(&policy.operator), DocumentId::directory(&policy.operator)] {
            anyhow::ensure!(
                self.accepted.newest(&id).is_some(),
                "policy.documents: {} has no {id}: no node can be approved without it",
                policy.documents.display()
            );
        }
        Ok(PolicyEngine::load_accepted(&self.accepted, &policy.operator, unix_seconds())?)
    }

    /// The CA roots that the directories state.
    ///
    /// # Errors
    /// When they are no certificates.
    pub(crate) fn trust(&self) -> Result<TrustBundle, IdentityError> {
        trust(&self.accepted, unix_seconds())
    }

    /// The CA roots of each operator in the directories, as PEM.
    pub(crate) fn roots(&self) -> Vec<(String, String)> {
        super::trust::roots(&self.accepted, unix_seconds())
    }

    /// The newest version of each.
    pub(crate) fn accepted(&self) -> &AcceptedDocuments {
        &self.accepted
    }

    /// Documents that were issued more than a minute after this time, and how many seconds.
    pub(crate) fn made_in_future(&self, now: u64) -> impl Iterator<Item = (DocumentId, u64)> {
        let ahead = move |document: &VerifiedDocument| document.lifetime().issued.saturating_sub(now);
        let all = self.accepted.iter().map(move |document| (document.id(), ahead(document)));
        all.filter(|(_, seconds)| *seconds > 60)
    }
}

/// The newest documents, and the policy that follows from them.
#[derive(Debug)]
pub(crate) struct DocumentStore {
    operator: String,
    state: PathBuf,
    accepted: Mutex<State>,
    authority: Arc<Authority>,
    changes: watch::Sender<u64>,
    metrics: Arc<DocumentMetrics>,
}

#[derive(Debug)]
struct State {
    pins: Pins,
    accepted: AcceptedDocuments,
    /// The validity of each document in the engine that is in use.
    validities: Vec<(DocumentId, Validity)>,
    /// The minute at which it was last looked whether a rule decides otherwise.
    looked_at: Option<PolicyTime>,
}

impl DocumentStore {
    /// Uses documents that were read at start. The authority already decides by them.
    ///
    /// # Errors
    /// When they cannot be kept on the disk.
    pub(crate) fn new(
        read: ReadDocuments,
        policy: &PolicySection,
        pins: Pins,
        authority: Arc<Authority>,
        metrics: Arc<DocumentMetrics>,
    ) -> Result<Self> {
        for document in read.accepted.iter() {
            files::keep(&policy.state, document)?;
        }
        metrics.show(&read.accepted);
        let validities = validities(&read.accepted, unix_seconds());
        for (id, validity) in &validities {
            warn_of(id, *validity);
        }
        Ok(Self {
            operator: policy.operator.clone(),
            state: policy.state.clone(),
            accepted: Mutex::new(State { pins, accepted: read.accepted, validities, looked_at: None }),
            authority,
            changes: watch::Sender::new(0),
            metrics,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes after each document that was taken, each document that ended, and when a rule decides otherwise at this time.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes a note if it is signed as it must be, newer, and usable. Blocks: it writes to the disk.
    ///
    /// # Errors
    /// Why it is not taken. Everything stays as it was.
    pub(crate) fn take(&self, note: &str) -> Result<(DocumentId, Acceptance), NotTaken> {
        let taken = self.try_take(note);
        match &taken {
            Ok((_, Acceptance::Known)) => {}
            Ok((id, Acceptance::New)) => self.journal(id, None),
            Err(error) => {
                self.metrics.refused(error.reason());
                self.journal_refused(note, error);
            }
        }
        taken
    }

    fn journal(&self, id: &DocumentId, refused: Option<&'static str>) {
        let version = self.newest(id).map(|document| document.version()).unwrap_or_default();
        self.authority.journal_document(&format!("{id}, version {version}"), refused);
    }

    /// A document that nobody of this node's pins signed is not named: whoever sends it chooses its text.
    fn journal_refused(&self, note: &str, error: &NotTaken) {
        // Nodes and operators publish what is known already again and again.
        if error.reason() == "older" {
            return;
        }
        let signed = self.state().pins.verify(note);
        let document = signed.map(|document| format!("{}, version {}", document.id(), document.version()));
        let document = document.unwrap_or_else(|_| "a document that is not signed as it must be".to_owned());
        self.authority.journal_document(&document, Some(error.reason()));
    }

    fn try_take(&self, note: &str) -> Result<(DocumentId, Acceptance), NotTaken> {
        let mut state = self.state();
        let document = state.pins.verify(note)?;
        let id = document.id();
        let mut accepted = state.accepted.clone();
        if accepted.accept(document.clone())? == Acceptance::Known {
            return Ok((id, Acceptance::Known));
        }
        let now = unix_seconds();
        let engine = PolicyEngine::load_accepted(&accepted, &self.operator, now)?;
        trust(&accepted, now)?;
        let left_out = engine.left_out().to_vec();
        files::keep(&self.state, &document).map_err(NotTaken::NotKept)?;
        self.metrics.show(&accepted);
        let validities = validities(&accepted, now);
        (state.accepted, state.validities) = (accepted, validities);
        self.authority.replace(engine);
        drop(state);
        for problem in left_out {
            tracing::warn!(%problem, "an entry of a directory does not count");
        }
        tracing::info!(document = %id, version = document.version(), hash = document.hash().short(), "a signed document is in use");
        self.changes.send_modify(|count| *count += 1);
        Ok((id, Acceptance::New))
    }

    /// Pins other keys. All documents are verified anew: those that the new keys did not sign are no longer used.
    /// Blocks: it reads and writes files.
    ///
    /// # Errors
    /// When no policy follows from the documents that are left. Everything stays as it was.
    pub(crate) fn pin(&self, policy: &PolicySection) -> Result<()> {
        let pins = policy.pins()?;
        let mut state = self.state();
        if pins == state.pins {
            return Ok(());
        }
        let read = read(policy, &pins)?;
        let engine = read.engine(policy)?;
        read.trust()?;
        for warning in &read.warnings {
            tracing::warn!("{warning}");
        }
        for document in read.accepted.iter() {
            files::keep(&self.state, document)?;
        }
        self.metrics.show(&read.accepted);
        let validities = validities(&read.accepted, unix_seconds());
        let looked_at = state.looked_at;
        *state = State { pins, accepted: read.accepted, validities, looked_at };
        self.authority.replace(engine);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Loads policy anew if a document has passed its `renew_by` or `not_after`, and decides again if a rule decides
    /// otherwise at this time.
    pub(super) fn check_time(&self) {
        self.check_time_at(unix_seconds());
    }

    /// The same by a wall clock that shows `now`.
    pub(crate) fn check_time_at(&self, now: u64) {
        let mut state = self.state();
        let validities = validities(&state.accepted, now);
        let time = PolicyTime::of_clock(&state.accepted, &self.operator, now);
        let same_minute = std::mem::replace(&mut state.looked_at, time) == time;
        if validities == state.validities {
            if same_minute || !self.authority.advance(time) {
                return;
            }
            drop(state);
            if time.is_some() {
                tracing::info!("the time has come at which a rule decides otherwise");
            } else {
                tracing::error!(
                    "the clock is behind the documents of this node's operator: no rule permits by the time"
                );
            }
            self.changes.send_modify(|count| *count += 1);
            return;
        }
        for (id, validity) in validities.iter().filter(|known| !state.validities.contains(known)) {
            warn_of(id, *validity);
        }
        match PolicyEngine::load_accepted(&state.accepted, &self.operator, now) {
            Ok(engine) => self.authority.replace(engine),
            // The same documents were loaded before.
            Err(error) => tracing::error!(%error, "policy cannot be loaded again"),
        }
        state.validities = validities;
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The CA roots that the directories state.
    ///
    /// # Errors
    /// When they are no certificates; then their directory would not have been taken.
    pub(super) fn trust(&self) -> Result<TrustBundle, IdentityError> {
        trust(&self.state().accepted, unix_seconds())
    }

    /// The CA roots of each operator in the directories, as PEM.
    pub(crate) fn roots(&self) -> Vec<(String, String)> {
        super::trust::roots(&self.state().accepted, unix_seconds())
    }

    /// The version and the hash of each document, for other nodes.
    pub(crate) fn held(&self) -> Vec<HeldDocument> {
        let versions = self.state().accepted.versions();
        versions.into_iter().map(|(id, version, hash)| HeldDocument { id, version, hash }).collect()
    }

    /// All documents.
    pub(crate) fn all(&self) -> Vec<VerifiedDocument> {
        self.state().accepted.iter().cloned().collect()
    }

    /// The newest version of a document.
    pub(crate) fn newest(&self, id: &DocumentId) -> Option<VerifiedDocument> {
        self.state().accepted.newest(id).cloned()
    }

    /// What the newest version is good for now.
    pub(crate) fn validity(&self, id: &DocumentId) -> Validity {
        self.state().accepted.validity(id, unix_seconds())
    }

    /// What the policy that is in use takes it for.
    #[cfg(test)]
    pub(crate) fn validity_in_use(&self, id: &DocumentId) -> Option<Validity> {
        self.state().validities.iter().find(|(known, _)| known == id).map(|(_, validity)| *validity)
    }

    /// Are keys of its owner pinned here?
    pub(super) fn is_pinned(&self, id: &DocumentId) -> bool {
        self.state().pins.keys_of(id).is_some()
    }
}

fn warn_of(id: &DocumentId, validity: Validity) {
    match validity {
        Validity::Valid => {}
        Validity::RenewalOverdue => {
            tracing::error!(document = %id, "a document is past its renew_by: it allows no new room and no new node until its owner signs a new version");
        }
        Validity::Expired => {
            tracing::error!(document = %id, "a document has expired: it allows nothing until its owner signs a new version");
        }
    }
}

fn validities(accepted: &AcceptedDocuments, now: u64) -> Vec<(DocumentId, Validity)> {
    let ids = accepted.iter().map(VerifiedDocument::id);
    ids.map(|id| {
        let validity = accepted.validity(&id, now);
        (id, validity)
    })
    .collect()
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
