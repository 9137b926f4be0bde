//! Bundles: the policy of an institution.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::error::DocumentError;
use crate::guarantee::{Guarantee, GuaranteeText, check_guarantees};
use crate::lifetime::Lifetime;
use crate::names::{check_label, check_name};
use crate::text::{DatesText, PolicyTable, TomlText, quoted, write_head, write_policy};
use crate::vocabulary::{Vocabulary, VocabularyText};
use crate::zones::{ZonesText, check_zones, write_zones};

/// Most room class rules of a bundle: a node compares each new room's name with all of them.
const MAX_CLASSES: usize = 256;

/// An institution's policy, signed with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The institution, such as `ku.dk`.
    pub institution: String,
    /// Its version, from 1; the highest one is valid.
    pub version: u64,
    /// Its dates.
    pub lifetime: Lifetime,
    /// The names that the policy may use.
    pub vocabulary: Vocabulary,
    /// Zone -> countries, ISO 3166-1 alpha-2.
    pub zones: BTreeMap<String, Vec<String>>,
    /// Which rooms are confidential, by patterns of their names. Of several that match, the strictest values count.
    pub classes: Vec<RoomClassRule>,
    /// What the policy never permits: conditions that `systirctl policy prove` proves.
    pub guarantees: Vec<Guarantee>,
    /// The policy, Cedar text.
    pub policy: String,
}

/// The class of the rooms whose name matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomClassRule {
    /// Pattern of names; `*` stands for any characters. Policy compares it with names.
    pub pattern: String,
    /// `standard` or `confidential`.
    pub class: String,
    /// Whether the room must be end-to-end encrypted.
    pub e2ee: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleText {
    institution: Spanned<String>,
    version: Spanned<u64>,
    issued: Spanned<Datetime>,
    renew_by: Spanned<Datetime>,
    not_after: Spanned<Datetime>,
    vocabulary: VocabularyText,
    #[serde(default)]
    zones: ZonesText,
    #[serde(default, rename = "class")]
    classes: Vec<Spanned<RoomClassText>>,
    #[serde(default, rename = "guarantee")]
    guarantees: Vec<Spanned<GuaranteeText>>,
    policy: PolicyTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomClassText {
    pattern: Spanned<String>,
    class: Spanned<String>,
    #[serde(default)]
    e2ee: bool,
}

impl Bundle {
    pub(crate) fn parse(text: TomlText<'_>) -> Result<Self, DocumentError> {
        let read: BundleText = text.read()?;
        let dates = DatesText { issued: read.issued, renew_by: read.renew_by, not_after: read.not_after };
        if let Some(first_too_many) = read.classes.get(MAX_CLASSES) {
            return Err(text.wrong(first_too_many, format!("there are more than {MAX_CLASSES} [[class]]")));
        }
        let classes = read.classes.into_iter().map(|rule| rule.into_inner().check(text));
        Ok(Self {
            institution: text.checked(read.institution, check_name)?,
            version: text.version(&read.version)?,
            lifetime: text.lifetime(&dates)?,
            vocabulary: read.vocabulary.check(text)?,
            zones: check_zones(read.zones, text)?,
            classes: classes.collect::<Result<_, _>>()?,
            guarantees: check_guarantees(read.guarantees, text)?,
            policy: read.policy.cedar.into_inner(),
        })
    }

    pub(crate) fn write(&self, out: &mut String) {
        out.push_str(&format!("institution = {}\n", quoted(&self.institution)));
        write_head(out, self.version, &self.lifetime);
        self.vocabulary.write(out);
        write_zones(&self.zones, out);
        for RoomClassRule { pattern, class, e2ee } in &self.classes {
            let (pattern, class) = (quoted(pattern), quoted(class));
            out.push_str(&format!("\n[[class]]\npattern = {pattern}\nclass = {class}\ne2ee = {e2ee}\n"));
        }
        self.guarantees.iter().for_each(|guarantee| guarantee.write(out));
        write_policy(out, &self.policy);
    }
}

impl RoomClassText {
    fn check(self, text: TomlText<'_>) -> Result<RoomClassRule, DocumentError> {
        Ok(RoomClassRule {
            pattern: text.checked(self.pattern, check_label)?,
            class: text.checked(self.class, check_class)?,
            e2ee: self.e2ee,
        })
    }
}

fn check_class(class: &str) -> Result<(), String> {
    match class {
        "standard" | "confidential" => Ok(()),
        _ => Err("a class is \"standard\" or \"confidential\"".to_owned()),
    }
}
