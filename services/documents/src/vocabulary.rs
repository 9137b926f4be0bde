//! The names that a policy may use.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use crate::error::DocumentError;
use crate::names::{check_label, check_name};
use crate::text::{TomlText, list};

/// The names that the policy of a document may use. Cedar accepts any entity id, so without this list a rule with a
/// typing error would never apply and nobody would notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Who runs nodes.
    pub operators: BTreeSet<String>,
    /// Who owns machines.
    pub hosts: BTreeSet<String>,
    /// Ids of nodes.
    pub nodes: BTreeSet<String>,
    /// Institutions that own rooms or whose participants join them.
    pub institutions: BTreeSet<String>,
}

/// The table `[vocabulary]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VocabularyText {
    #[serde(default)]
    operators: Vec<Spanned<String>>,
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
    #[serde(default)]
    nodes: Vec<Spanned<String>>,
    #[serde(default)]
    institutions: Vec<Spanned<String>>,
}

impl VocabularyText {
    pub(crate) fn check(self, text: TomlText<'_>) -> Result<Vocabulary, DocumentError> {
        Ok(Vocabulary {
            operators: text.each_checked(self.operators, check_name)?,
            hosts: text.each_checked(self.hosts, check_label)?,
            nodes: text.each_checked(self.nodes, check_name)?,
            institutions: text.each_checked(self.institutions, check_name)?,
        })
    }
}

impl Vocabulary {
    pub(crate) fn write(&self, out: &mut String) {
        out.push_str("\n[vocabulary]\n");
        let Self { operators, hosts, nodes, institutions } = self;
        for (key, names) in
            [("operators", operators), ("hosts", hosts), ("nodes", nodes), ("institutions", institutions)]
        {
            out.push_str(&format!("{key} = {}\n", list(names.iter().map(String::as_str))));
        }
    }
}
