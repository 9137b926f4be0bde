//! An engine of documents in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use systir_documents::{Bundle, Directory, Document, DocumentHash, Floor, Lifetime, Validity, Vocabulary};
use systir_policy::{LoadError, PolicyEngine, Rule, SourceDocument, Sources};
use systir_policy_profile::Hours;
use systir_policy_proof::PolicyModel;

use crate::document_file::{ALWAYS, DocumentFile, FileProblems};

/// The files of an engine.
#[derive(Debug)]
pub(crate) struct EngineFiles {
    bundle: DocumentFile,
    floor: Option<DocumentFile>,
    directories: Vec<DocumentFile>,
}

impl EngineFiles {
    /// Reads a bundle, the floor of an operator if there is one, and directories.
    pub(crate) fn read(bundle: &Path, floor: Option<&Path>, directories: &[PathBuf]) -> Result<Self> {
        let read = Self {
            bundle: DocumentFile::read_or_compile(bundle)?,
            floor: floor.map(DocumentFile::read).transpose()?,
            directories: directories.iter().map(|path| DocumentFile::read(path)).collect::<Result<_>>()?,
        };
        read.bundle()?;
        read.floor()?;
        read.directories()?;
        Ok(read)
    }

    /// The bundle.
    pub(crate) fn bundle(&self) -> Result<&Bundle> {
        match &self.bundle.document {
            Document::Bundle(bundle) => Ok(bundle),
            _ => bail!(not_a("bundle", &self.bundle)),
        }
    }

    fn floor(&self) -> Result<Option<&Floor>> {
        match self.floor.as_ref().map(|file| (&file.document, file)) {
            Some((Document::Floor(floor), _)) => Ok(Some(floor)),
            Some((_, file)) => bail!(not_a("floor", file)),
            None => Ok(None),
        }
    }

    fn directories(&self) -> Result<Vec<(&Directory, &DocumentFile)>> {
        let mut directories = Vec::new();
        for file in &self.directories {
            match &file.document {
                Document::Directory(directory) => directories.push((directory, file)),
                _ => bail!(not_a("directory", file)),
            }
        }
        Ok(directories)
    }

    /// The engine, as a node loads it. With `now`, documents are as valid as they are at that time; without, they are
    /// valid.
    pub(crate) fn load(&self, now: Option<u64>) -> Result<PolicyEngine> {
        self.load_with(now, &[])
    }

    /// The same, with more directories.
    pub(crate) fn load_with(&self, now: Option<u64>, more: &[Directory]) -> Result<PolicyEngine> {
        let validity = |lifetime: Lifetime| now.map_or(Validity::Valid, |now| lifetime.validity(now));
        let none = no_floor();
        let floor = self.floor()?.unwrap_or(&none);
        let bundle = self.bundle()?;
        let directories = self
            .directories()?
            .into_iter()
            .map(|(directory, file)| source(directory, file.hash(), validity(directory.lifetime)));
        let more = more.iter().map(|directory| source(directory, DocumentHash::of(""), Validity::Valid));
        let directories: Vec<_> = directories.chain(more).collect();
        let floor_hash = self.floor.as_ref().map_or(DocumentHash::of(""), DocumentFile::hash);
        PolicyEngine::load(&Sources {
            floor: source(floor, floor_hash, validity(floor.lifetime)),
            bundles: &[source(bundle, self.bundle.hash(), validity(bundle.lifetime))],
            directories: &directories,
        })
        .map_err(|error| self.problems(&error).into())
    }

    /// The rules of the bundle and the floor, as they are proved.
    pub(crate) fn model(&self) -> Result<PolicyModel> {
        Ok(PolicyModel::of_bundle(&self.load(None)?, self.bundle()?)?)
    }

    // Each problem with the file of its document.
    fn problems(&self, error: &LoadError) -> FileProblems {
        let files = [&self.bundle].into_iter().chain(&self.floor).chain(&self.directories);
        let files: BTreeMap<String, &DocumentFile> =
            files.map(|file| (file.document.id().to_string(), file)).collect();
        let shown = error.problems.iter().map(|problem| match files.get(&problem.place) {
            Some(file) => file.problem(problem),
            None => problem.to_string(),
        });
        FileProblems(shown.collect())
    }
}

/// The rules of a bundle, with those of a floor, or the rules of a floor by itself, as they are proved.
pub(crate) fn model(path: &Path, floor: Option<&Path>) -> Result<PolicyModel> {
    let file = DocumentFile::read_or_compile(path)?;
    model_of(&file, floor)
}

/// The same of a file that was read.
pub(crate) fn model_of(file: &DocumentFile, floor: Option<&Path>) -> Result<PolicyModel> {
    match &file.document {
        Document::Bundle(_) => {
            let floor = floor.map(DocumentFile::read).transpose()?;
            let files = EngineFiles { bundle: file.clone(), floor, directories: Vec::new() };
            files.floor()?;
            files.model()
        }
        Document::Floor(floor) => {
            let (empty, hash) = (no_rules(), DocumentHash::of(""));
            let engine = PolicyEngine::load(&Sources {
                floor: source(floor, hash, Validity::Valid),
                bundles: &[source(&empty, hash, Validity::Valid)],
                directories: &[],
            });
            let engine = engine.map_err(|error| file.problems(&error))?;
            Ok(PolicyModel::of_floor(&engine, floor, &empty.institution)?)
        }
        Document::Directory(_) => bail!(not_a("bundle or floor", file)),
    }
}

/// Two versions as they are compared. Hours are written for the dates of a bundle; here they are written for the dates of
/// both, so that a renewal permits the same as before.
pub(crate) fn models_of_both(
    old: &DocumentFile,
    new: &DocumentFile,
    floor: Option<&Path>,
) -> Result<(PolicyModel, PolicyModel)> {
    let (one, other) = (old.document.lifetime(), new.document.lifetime());
    let both = Lifetime {
        issued: one.issued.min(other.issued),
        renew_by: one.renew_by.max(other.renew_by),
        not_after: one.not_after.max(other.not_after),
    };
    Ok((model_of(&with_hours_for(old, both)?, floor)?, model_of(&with_hours_for(new, both)?, floor)?))
}

/// The document with the hours of its profile written for other dates. Conditions on the time that are not those of the
/// rule's `@hours` stay.
fn with_hours_for(file: &DocumentFile, lifetime: Lifetime) -> Result<DocumentFile> {
    let (mut file, rules) = (file.clone(), rules(&file.document)?);
    if let Document::Bundle(bundle) = &mut file.document {
        for rule in rules {
            let Some(hours) = rule.hours().and_then(Hours::parse) else { continue };
            let own = hours.condition(bundle.lifetime);
            if rule.reads_time_only_as(&own) {
                bundle.policy = bundle.policy.replace(&own, &hours.condition(lifetime));
            }
        }
    }
    Ok(file)
}

/// The rules of a bundle or floor by themselves, in their order; none for a directory.
pub(crate) fn rules(document: &Document) -> Result<Vec<Rule>> {
    let (none, empty) = (no_floor(), no_rules());
    let (floor, bundle) = match document {
        Document::Bundle(bundle) => (&none, bundle),
        Document::Floor(floor) => (floor, &empty),
        Document::Directory(_) => return Ok(Vec::new()),
    };
    let engine = PolicyEngine::load(&Sources {
        floor: source(floor, DocumentHash::of(""), Validity::Valid),
        bundles: &[source(bundle, DocumentHash::of(""), Validity::Valid)],
        directories: &[],
    })?;
    Ok(engine.rules(&bundle.institution).into_iter().cloned().collect())
}

fn source<D>(document: &D, hash: DocumentHash, validity: Validity) -> SourceDocument<'_, D> {
    SourceDocument { document, hash, validity, signers: &[] }
}

fn not_a(wanted: &str, file: &DocumentFile) -> String {
    format!("{} is the {}, and a {wanted} is wanted", file.path.display(), file.document.id())
}

/// A floor without rules, for engines without the floor of an operator.
fn no_floor() -> Floor {
    Floor {
        operator: "no-floor".to_owned(),
        version: 1,
        lifetime: ALWAYS,
        vocabulary: Vocabulary::default(),
        zones: BTreeMap::new(),
        guarantees: Vec::new(),
        policy: String::new(),
    }
}

/// A bundle without rules, to load a floor by itself.
fn no_rules() -> Bundle {
    Bundle {
        institution: "no-rules".to_owned(),
        version: 1,
        lifetime: ALWAYS,
        vocabulary: Vocabulary::default(),
        zones: BTreeMap::new(),
        classes: Vec::new(),
        guarantees: Vec::new(),
        policy: String::new(),
    }
}
