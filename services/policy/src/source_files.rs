//! The source files of a bundle or floor besides its Cedar text, as they are read from TOML: by `systirctl policy build`
//! and by the demo.

use std::collections::BTreeSet;

use serde::Deserialize;
use systir_documents::{Guarantee, RoomClassRule, Vocabulary};

/// The names that the rules may use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VocabularyFile {
    operators: BTreeSet<String>,
    hosts: BTreeSet<String>,
    nodes: BTreeSet<String>,
    institutions: BTreeSet<String>,
}

impl From<VocabularyFile> for Vocabulary {
    fn from(file: VocabularyFile) -> Self {
        let VocabularyFile { operators, hosts, nodes, institutions } = file;
        Self { operators, hosts, nodes, institutions }
    }
}

/// Room classes by patterns of names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassesFile {
    #[serde(default)]
    class: Vec<ClassEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassEntry {
    pattern: String,
    class: String,
    #[serde(default)]
    e2ee: bool,
}

impl From<ClassesFile> for Vec<RoomClassRule> {
    fn from(file: ClassesFile) -> Self {
        let rule = |ClassEntry { pattern, class, e2ee }| RoomClassRule { pattern, class, e2ee };
        file.class.into_iter().map(rule).collect()
    }
}

/// Guarantees.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuaranteesFile {
    #[serde(default)]
    guarantee: Vec<GuaranteeEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuaranteeEntry {
    id: String,
    says: String,
    #[serde(default)]
    says_da: String,
    #[serde(default)]
    actions: Vec<String>,
    holds: String,
}

impl From<GuaranteesFile> for Vec<Guarantee> {
    fn from(file: GuaranteesFile) -> Self {
        let guarantee = |entry| {
            let GuaranteeEntry { id, says, says_da, actions, holds } = entry;
            Guarantee { id, says, says_da, actions, holds }
        };
        file.guarantee.into_iter().map(guarantee).collect()
    }
}
