//! The tables of a profile, as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A word and where it stands.
pub(crate) type Word = Spanned<String>;
/// Words and where the list stands.
pub(crate) type Words = Spanned<Vec<Word>>;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileText {
    pub(crate) institution: Word,
    /// For hours: a name of the IANA database.
    pub(crate) time_zone: Option<Word>,
    pub(crate) operators: Words,
    pub(crate) hosts: Words,
    #[serde(default)]
    pub(crate) partners: Vec<Word>,
    #[serde(default)]
    pub(crate) guarantees: Vec<Word>,
    #[serde(default)]
    pub(crate) zones: BTreeMap<String, Words>,
    pub(crate) home: Spanned<PlaceText>,
    pub(crate) gateway: Spanned<PlaceText>,
    #[serde(default)]
    pub(crate) spill: Vec<Spanned<SpillText>>,
    pub(crate) record: Option<Spanned<PlaceText>>,
    pub(crate) transcribe: Option<Spanned<PlaceText>>,
    pub(crate) control: Option<Spanned<ControlText>>,
    #[serde(default)]
    pub(crate) rooms: Vec<Spanned<RoomsText>>,
    #[serde(default)]
    pub(crate) join: JoinText,
    #[serde(default, rename = "guarantee")]
    pub(crate) own_guarantees: Vec<Spanned<OwnGuaranteeText>>,
}

/// `[home]`, `[gateway]`, `[record]`, `[transcribe]`: which nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlaceText {
    #[serde(default)]
    pub(crate) countries: Vec<Word>,
    #[serde(default)]
    pub(crate) zones: Vec<Word>,
    pub(crate) operators: Option<Words>,
    /// Without it: the operator's own machines.
    pub(crate) hosts: Option<Words>,
    pub(crate) classes: Option<Words>,
    #[serde(default)]
    pub(crate) require_e2ee: bool,
    pub(crate) hours: Option<Word>,
    pub(crate) days: Option<Word>,
}

/// `[[spill]]`: which nodes, when those of lower tiers are full.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpillText {
    pub(crate) tier: Spanned<u32>,
    #[serde(default)]
    pub(crate) countries: Vec<Word>,
    #[serde(default)]
    pub(crate) zones: Vec<Word>,
    pub(crate) operators: Option<Words>,
    pub(crate) hosts: Option<Words>,
    pub(crate) classes: Option<Words>,
    #[serde(default)]
    pub(crate) require_e2ee: bool,
    pub(crate) hours: Option<Word>,
    pub(crate) days: Option<Word>,
}

/// `[control]`: from where operators and hosts may be controlled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlText {
    #[serde(default)]
    pub(crate) countries: Vec<Word>,
    #[serde(default)]
    pub(crate) zones: Vec<Word>,
    /// End-to-end encrypted rooms are exempt.
    #[serde(default)]
    pub(crate) except_e2ee: bool,
}

/// `[[rooms]]`: what rooms with such names are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsText {
    pub(crate) names: Word,
    pub(crate) class: Option<Word>,
    #[serde(default)]
    pub(crate) e2ee: bool,
}

/// `[join]`: who may do what in rooms. Each list names room classes; `join` itself is for all rooms.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinText {
    /// Whose participants may join: institutions; the own one always.
    #[serde(default)]
    pub(crate) institutions: Vec<Word>,
    #[serde(default)]
    pub(crate) guests: Vec<Word>,
    #[serde(default)]
    pub(crate) hidden: Vec<Word>,
    #[serde(default)]
    pub(crate) recorders: Vec<Word>,
    /// May the institution's own tokens administer rooms?
    #[serde(default)]
    pub(crate) administer: Vec<Word>,
}

/// `[[guarantee]]`: one that the list of names does not have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnGuaranteeText {
    pub(crate) id: Word,
    pub(crate) says: Word,
    #[serde(default)]
    pub(crate) says_da: String,
    #[serde(default)]
    pub(crate) actions: Vec<Word>,
    pub(crate) holds: Word,
}

impl SpillText {
    /// The part that `[home]` and `[gateway]` have too.
    pub(crate) fn into_place(self) -> (Spanned<u32>, PlaceText) {
        let Self { tier, countries, zones, operators, hosts, classes, require_e2ee, hours, days } = self;
        (tier, PlaceText { countries, zones, operators, hosts, classes, require_e2ee, hours, days })
    }
}
