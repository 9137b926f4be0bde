//! The demo's documents, unsigned: `ku.dk`'s bundle, `nordunet`'s floor and directory. An operator or an institution may
//! start from their files, in `policies`.

pub mod signed;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use systir_documents::{
    Bundle, Directory, DirectoryNode, Document, DocumentHash, Floor, IpPrefix, Lifetime, PublicKey, Validity,
    Vocabulary,
};

use crate::engine::PolicyEngine;
use crate::problem::{LoadError, Problem};
use crate::source::{SourceDocument, Sources};
use crate::source_files::{ClassesFile, GuaranteesFile, VocabularyFile};

/// The rules of `ku.dk`, Cedar text.
pub const KU_DK: &str = include_str!("../policies/ku.dk.cedar");
/// The rules of `nordunet`'s floor, Cedar text.
pub const FLOOR: &str = include_str!("../policies/floor.cedar");
/// Zones of `ku.dk`'s policy, TOML.
pub const ZONES: &str = include_str!("../policies/zones.toml");
/// Names that `ku.dk`'s policy knows, TOML.
pub const VOCABULARY: &str = include_str!("../policies/vocabulary.toml");
/// Room classes of `ku.dk`, TOML.
pub const CLASSES: &str = include_str!("../policies/classes.toml");
/// Guarantees of `ku.dk`, TOML.
pub const GUARANTEES: &str = include_str!("../policies/guarantees.toml");
/// The nodes `cph-1`, `sto-1` and `aws-sto-1`, TOML.
pub const DIRECTORY: &str = include_str!("../policies/directory.toml");

/// The demo's institution.
pub const INSTITUTION: &str = "ku.dk";
/// The demo's operator.
pub const OPERATOR: &str = "nordunet";

/// The demo's documents, in version 1.
#[derive(Clone, Debug)]
pub struct DemoDocuments {
    /// The policy of `ku.dk`.
    pub bundle: Bundle,
    /// The floor of `nordunet`.
    pub floor: Floor,
    /// The nodes of `nordunet`.
    pub directory: Directory,
}

impl DemoDocuments {
    /// The documents with these dates, the roots of `nordunet`'s trust domain (PEM), and for each node, by id, its public
    /// keys and the addresses at which its links may be dialled.
    ///
    /// # Errors
    /// When a file of the demo is malformed.
    pub fn new(
        lifetime: Lifetime,
        roots: &str,
        node: impl FnMut(&str) -> (Vec<PublicKey>, Vec<IpPrefix>),
    ) -> Result<Self, LoadError> {
        Ok(Self {
            bundle: bundle(lifetime)?,
            floor: floor(lifetime),
            directory: directory(lifetime, roots, node)?,
        })
    }

    /// An engine that decides by these documents, as if they were verified and valid.
    ///
    /// # Errors
    /// What [`PolicyEngine::load`] refuses.
    pub fn engine(&self) -> Result<PolicyEngine, LoadError> {
        PolicyEngine::load(&Sources {
            floor: unsigned(&self.floor, Document::Floor(self.floor.clone())),
            bundles: &[unsigned(&self.bundle, Document::Bundle(self.bundle.clone()))],
            directories: &[unsigned(&self.directory, Document::Directory(self.directory.clone()))],
        })
    }
}

fn unsigned<D>(content: &D, document: Document) -> SourceDocument<'_, D> {
    let hash = DocumentHash::of(&document.to_text());
    SourceDocument { document: content, hash, validity: Validity::Valid, signers: &[] }
}

/// The bundle of `ku.dk`, version 1.
///
/// # Errors
/// When a file of the demo is malformed.
pub fn bundle(lifetime: Lifetime) -> Result<Bundle, LoadError> {
    Ok(Bundle {
        institution: INSTITUTION.to_owned(),
        version: 1,
        lifetime,
        vocabulary: parse::<VocabularyFile>("vocabulary.toml", VOCABULARY)?.into(),
        zones: parse::<BTreeMap<String, Vec<String>>>("zones.toml", ZONES)?,
        classes: parse::<ClassesFile>("classes.toml", CLASSES)?.into(),
        guarantees: parse::<GuaranteesFile>("guarantees.toml", GUARANTEES)?.into(),
        policy: KU_DK.to_owned(),
    })
}

/// The floor of `nordunet`, version 1.
#[must_use]
pub fn floor(lifetime: Lifetime) -> Floor {
    Floor {
        operator: OPERATOR.to_owned(),
        version: 1,
        lifetime,
        vocabulary: Vocabulary::default(),
        zones: BTreeMap::new(),
        guarantees: Vec::new(),
        policy: FLOOR.to_owned(),
    }
}

/// The directory of `nordunet`, version 1, with the roots of its trust domain (PEM), and for each node, by id, its public
/// keys and the addresses at which its links may be dialled.
///
/// # Errors
/// When a file of the demo is malformed.
pub fn directory(
    lifetime: Lifetime,
    roots: &str,
    mut node: impl FnMut(&str) -> (Vec<PublicKey>, Vec<IpPrefix>),
) -> Result<Directory, LoadError> {
    let file: DirectoryFile = parse("directory.toml", DIRECTORY)?;
    let nodes = file.node.into_iter().map(|entry| {
        let (keys, prefixes) = node(&entry.id);
        let Entry { id, spiffe_id, site, region, country, host, host_controlled_from } = entry;
        DirectoryNode { id, spiffe_id, keys, prefixes, site, region, country, host, host_controlled_from }
    });
    Ok(Directory {
        nodes: nodes.collect(),
        operator: file.operator,
        trust_domain: file.trust_domain,
        controlled_from: file.controlled_from,
        version: 1,
        lifetime,
        roots: roots.to_owned(),
    })
}

fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, LoadError> {
    toml::from_str(text).map_err(|error| vec![Problem::at(file, error.to_string())].into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryFile {
    operator: String,
    trust_domain: String,
    controlled_from: String,
    node: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    spiffe_id: String,
    site: String,
    region: String,
    country: String,
    host: String,
    host_controlled_from: String,
}
