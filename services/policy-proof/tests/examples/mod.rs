//! The policies in `examples/policy`: profiles, decision tables and the floor.

use std::path::{Path, PathBuf};

use systir_documents::{Bundle, Directory, Document, DocumentHash, Floor, Lifetime, Validity};
use systir_policy::{LoadError, PolicyEngine, SourceDocument, Sources};
use systir_policy_profile::Profile;
use systir_policy_proof::{DecisionTable, PolicyModel};

pub(crate) const NAMES: [&str; 4] = ["copenhagen", "leased-when-full", "exam-rooms", "consortium"];
/// From 2026-11-01 to 2027-06-01: hours are written for winter and for summer.
const LIFETIME: Lifetime =
    Lifetime { issued: 1_793_491_200, renew_by: 1_809_129_600, not_after: 1_811_808_000 };

/// One example.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) bundle: Bundle,
    pub(crate) floor: Floor,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy")
}

fn read(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn floor() -> Floor {
    match Document::parse(&read("floor.note")).unwrap() {
        Document::Floor(floor) => floor,
        other => panic!("{}", other.id()),
    }
}

impl Example {
    pub(crate) fn read(name: &str) -> Self {
        let profile = Profile::parse(&read(&format!("{name}/profile.toml")));
        let profile = profile.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { bundle: profile.bundle(1, LIFETIME), floor: floor() }
    }

    pub(crate) fn table(name: &str) -> DecisionTable {
        DecisionTable::parse(&read(&format!("{name}/decisions.toml")))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn engine(&self, directories: &[Directory]) -> Result<PolicyEngine, LoadError> {
        let directories: Vec<_> = directories.iter().map(source).collect();
        PolicyEngine::load(&Sources {
            floor: source(&self.floor),
            bundles: &[source(&self.bundle)],
            directories: &directories,
        })
    }

    pub(crate) fn model(&self) -> PolicyModel {
        PolicyModel::of_bundle(&self.engine(&[]).unwrap(), &self.bundle).unwrap()
    }
}

/// The floor by itself.
pub(crate) fn floor_model(floor: &Floor) -> Result<PolicyModel, LoadError> {
    let bundle = Bundle {
        institution: "no-rules.example".to_owned(),
        classes: Vec::new(),
        guarantees: Vec::new(),
        policy: String::new(),
        ..Example::read("copenhagen").bundle
    };
    let engine = Example { bundle: bundle.clone(), floor: floor.clone() }.engine(&[])?;
    Ok(PolicyModel::of_floor(&engine, floor, &bundle.institution).unwrap())
}

fn source<D>(document: &D) -> SourceDocument<'_, D> {
    SourceDocument { document, hash: DocumentHash::of(""), validity: Validity::Valid, signers: &[] }
}
