//! Guarantees: what a policy never permits, stated beside its rules so that it can be proved of them.

use serde::Deserialize;
use toml::Spanned;

use crate::error::DocumentError;
use crate::names::{check_label, check_name};
use crate::text::{TomlText, list, literal, quoted};

/// Most guarantees of a document.
const MAX_GUARANTEES: usize = 64;

/// A condition that holds of every request that the policy permits. Nodes do not decide by it; `systirctl policy prove`
/// proves it of the rules, or shows a request that the rules permit and the condition excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// Its name, unique in the document.
    pub id: String,
    /// What it means, a sentence.
    pub says: String,
    /// The same in Danish; may be empty.
    pub says_da: String,
    /// The actions that it is about; empty for every action on a node.
    pub actions: Vec<String>,
    /// The condition: a Cedar expression, as in `when { }`. Of claims it is proved whatever they say.
    pub holds: String,
}

/// A table `[[guarantee]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuaranteeText {
    id: Spanned<String>,
    says: Spanned<String>,
    says_da: Option<Spanned<String>>,
    #[serde(default)]
    actions: Vec<Spanned<String>>,
    holds: Spanned<String>,
}

pub(crate) fn check_guarantees(
    guarantees: Vec<Spanned<GuaranteeText>>,
    text: TomlText<'_>,
) -> Result<Vec<Guarantee>, DocumentError> {
    if let Some(first_too_many) = guarantees.get(MAX_GUARANTEES) {
        return Err(text.wrong(first_too_many, format!("there are more than {MAX_GUARANTEES} [[guarantee]]")));
    }
    let mut checked = Vec::<Guarantee>::new();
    for guarantee in guarantees {
        let GuaranteeText { id, says, says_da, actions, holds } = guarantee.into_inner();
        if checked.iter().any(|other| other.id == *id.get_ref()) {
            return Err(text.wrong(&id, "another guarantee of this document has the same id"));
        }
        checked.push(Guarantee {
            id: text.checked(id, check_name)?,
            says: text.checked(says, check_label)?,
            says_da: says_da.map(|says| text.checked(says, check_label)).transpose()?.unwrap_or_default(),
            actions: text.each_checked(actions, check_name)?,
            holds: holds.into_inner(),
        });
    }
    Ok(checked)
}

impl Guarantee {
    pub(crate) fn write(&self, out: &mut String) {
        let Self { id, says, says_da, actions, holds } = self;
        out.push_str(&format!("\n[[guarantee]]\nid = {}\nsays = {}\n", quoted(id), quoted(says)));
        if !says_da.is_empty() {
            out.push_str(&format!("says_da = {}\n", quoted(says_da)));
        }
        if !actions.is_empty() {
            out.push_str(&format!("actions = {}\n", list(actions.iter().map(String::as_str))));
        }
        out.push_str(&format!("holds = {}\n", literal(holds)));
    }
}
