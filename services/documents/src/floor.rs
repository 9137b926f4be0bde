//! Floors: what an operator forbids on its nodes.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::error::DocumentError;
use crate::guarantee::{Guarantee, GuaranteeText, check_guarantees};
use crate::lifetime::Lifetime;
use crate::names::check_name;
use crate::text::{DatesText, PolicyTable, TomlText, quoted, write_head, write_policy};
use crate::vocabulary::{Vocabulary, VocabularyText};
use crate::zones::{ZonesText, check_zones, write_zones};

/// The forbid rules of an operator, signed with its keys. They apply to each institution on the operator's own nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The operator, such as `nordunet`.
    pub operator: String,
    /// Its version, from 1; the highest one is valid.
    pub version: u64,
    /// Its dates.
    pub lifetime: Lifetime,
    /// The names that the policy may use.
    pub vocabulary: Vocabulary,
    /// Zone -> countries, ISO 3166-1 alpha-2.
    pub zones: BTreeMap<String, Vec<String>>,
    /// What the rules never permit, whatever an institution's bundle says.
    pub guarantees: Vec<Guarantee>,
    /// The policy, Cedar text.
    pub policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorText {
    operator: Spanned<String>,
    version: Spanned<u64>,
    issued: Spanned<Datetime>,
    renew_by: Spanned<Datetime>,
    not_after: Spanned<Datetime>,
    vocabulary: VocabularyText,
    #[serde(default)]
    zones: ZonesText,
    #[serde(default, rename = "guarantee")]
    guarantees: Vec<Spanned<GuaranteeText>>,
    policy: PolicyTable,
}

impl Floor {
    pub(crate) fn parse(text: TomlText<'_>) -> Result<Self, DocumentError> {
        let read: FloorText = text.read()?;
        let dates = DatesText { issued: read.issued, renew_by: read.renew_by, not_after: read.not_after };
        Ok(Self {
            operator: text.checked(read.operator, check_name)?,
            version: text.version(&read.version)?,
            lifetime: text.lifetime(&dates)?,
            vocabulary: read.vocabulary.check(text)?,
            zones: check_zones(read.zones, text)?,
            guarantees: check_guarantees(read.guarantees, text)?,
            policy: read.policy.cedar.into_inner(),
        })
    }

    pub(crate) fn write(&self, out: &mut String) {
        out.push_str(&format!("operator = {}\n", quoted(&self.operator)));
        write_head(out, self.version, &self.lifetime);
        self.vocabulary.write(out);
        write_zones(&self.zones, out);
        self.guarantees.iter().for_each(|guarantee| guarantee.write(out));
        write_policy(out, &self.policy);
    }
}
