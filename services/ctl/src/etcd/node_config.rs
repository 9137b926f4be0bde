//! What a node's configuration file says of its documents: the pinned keys, and the folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use systir_documents::{
    AcceptedDocuments, NotAccepted, OperatorPin, PinnedKeys, Pins, PublicKey, VerifiedDocument,
};

use crate::document_file::{FileProblems, at};
use crate::files;

/// Most notes that are read from one folder, as on a node.
const MAX_NOTES: usize = 1024;

/// A part of a node's configuration file. The node checks the rest.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeConfig {
    pub(crate) node: NodePart,
    pub(crate) policy: PolicyPart,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodePart {
    pub(crate) cluster: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PolicyPart {
    pub(crate) operator: String,
    documents: PathBuf,
    state: PathBuf,
    operators: BTreeMap<String, OperatorPart>,
    pub(crate) institutions: BTreeMap<String, KeysPart>,
}

#[derive(Debug, Deserialize)]
struct OperatorPart {
    trust_domain: String,
    #[serde(flatten)]
    keys: KeysPart,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KeysPart {
    keys: Vec<String>,
    threshold: Option<usize>,
}

impl NodeConfig {
    /// Reads the file. Environment variables of the node do not count.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = files::read(path)?;
        toml::from_str(&text).map_err(|error| {
            let before = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            let line = error.span().map(|span| before(span.start));
            FileProblems(vec![at(path, line, &error.message().trim().replace('\n', "; "))]).into()
        })
    }

    /// The newest documents that the pinned keys signed, of the folder of documents (`documents` instead, if it is
    /// given) and of the folder in which the node keeps the newest ones. `base` is the folder of the configuration.
    pub(crate) fn documents(&self, base: &Path, documents: Option<&Path>) -> Result<AcceptedDocuments> {
        let pins = self.pins()?;
        let mut accepted = AcceptedDocuments::default();
        let folder = documents.map_or_else(|| base.join(&self.policy.documents), Path::to_owned);
        let kept = base.join(&self.policy.state);
        for path in notes(&kept)? {
            // As on a node: a kept document that the pinned keys did not sign is not used. They were changed since.
            if let Ok(document) = pins.verify(&files::read(&path)?) {
                accept(&mut accepted, document, &path)?;
            }
        }
        let found = notes(&folder)?;
        ensure!(!found.is_empty(), "{} has no signed documents (*.note)", folder.display());
        for path in found {
            let document = pins.verify(&files::read(&path)?).with_context(|| path.display().to_string())?;
            accept(&mut accepted, document, &path)?;
        }
        Ok(accepted)
    }

    fn pins(&self) -> Result<Pins> {
        let mut pins = Pins::default();
        for (name, operator) in &self.policy.operators {
            let keys = pinned(&operator.keys).with_context(|| format!("policy.operators.{name}"))?;
            let trust_domain = operator.trust_domain.clone();
            pins.operators.insert(name.clone(), OperatorPin { trust_domain, keys });
        }
        for (name, keys) in &self.policy.institutions {
            let keys = pinned(keys).with_context(|| format!("policy.institutions.{name}"))?;
            pins.institutions.insert(name.clone(), keys);
        }
        Ok(pins)
    }
}

fn pinned(part: &KeysPart) -> Result<PinnedKeys> {
    let keys: Vec<PublicKey> = part.keys.iter().map(|key| key.parse()).collect::<Result<_, _>>()?;
    let threshold = match part.threshold {
        Some(threshold) => threshold,
        None if keys.len() == 1 => 1,
        None => bail!("threshold: set how many of the {} keys must sign", keys.len()),
    };
    Ok(PinnedKeys::new(keys, threshold)?)
}

/// Takes a document if it is newer than what is known.
fn accept(accepted: &mut AcceptedDocuments, document: VerifiedDocument, path: &Path) -> Result<()> {
    match accepted.accept(document) {
        Ok(_) | Err(NotAccepted::Older { .. }) => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The notes of a folder, in the order of their names. A folder that is not there has none.
fn notes(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(unreadable)?,
    };
    for entry in entries {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "note") {
            found.push(path);
        }
        if found.len() > MAX_NOTES {
            bail!("{} has more than {MAX_NOTES} notes", folder.display());
        }
    }
    found.sort();
    Ok(found)
}
