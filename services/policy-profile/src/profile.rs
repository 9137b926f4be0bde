//! A profile, checked, and its bundle.

use std::collections::{BTreeMap, BTreeSet};

use systir_documents::{Bundle, Document, Guarantee, Lifetime, RoomClassRule, Vocabulary};

use crate::check::{Names, listed, own_zones, time_zone, wrong};
use crate::error::ProfileError;
use crate::guarantees::named;
use crate::place::Place;
use crate::rules::{Rules, RulesText};
use crate::text::{ProfileText, Word};

/// A profile whose words are all known.
#[derive(Clone, Debug)]
pub struct Profile {
    institution: String,
    vocabulary: Vocabulary,
    zones: BTreeMap<String, Vec<String>>,
    classes: Vec<RoomClassRule>,
    guarantees: Vec<Guarantee>,
    rules: RulesText,
}

impl Profile {
    /// Reads the text of a profile.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and what to write.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let read: ProfileText = toml::from_str(text).map_err(|error| ProfileError {
            line: error.span().filter(|span| span.end > 0).and_then(|span| wrong(text, span, "").line),
            what: error.message().trim().replace('\n', "; "),
        })?;
        let institution = institution(text, &read.institution)?;
        let mut names = Names {
            text,
            operators: listed(text, &read.operators, "nordunet")?,
            hosts: listed(text, &read.hosts, "nordunet")?,
            time_zone: read.time_zone.as_ref().map(|word| time_zone(text, word)).transpose()?,
            own_zones: own_zones(text, &read.zones)?,
            used_zones: BTreeMap::new(),
        };
        let partners: BTreeSet<String> =
            read.partners.iter().map(|word| self::institution(text, word)).collect::<Result<_, _>>()?;
        let mut rules = Rules::new(&institution);
        let home = Place::new(&mut names, "[home]", read.home.span(), read.home.get_ref())?;
        rules.permit_node("home", None, &["home"], &home);
        let mut tiers = BTreeSet::new();
        for spill in read.spill {
            let at = spill.span();
            let (tier, place) = spill.into_inner().into_place();
            if !tiers.insert(*tier.get_ref()) {
                let what = format!(
                    "another [[spill]] has tier {}; nodes of the lowest tier are asked first, so give each its own",
                    tier.get_ref()
                );
                return Err(names.wrong(tier.span(), what));
            }
            let place = Place::new(&mut names, "[[spill]]", at, &place)?;
            let tier = *tier.get_ref();
            rules.permit_node(&format!("spill-{tier}"), Some(tier), &["spill", "transit"], &place);
        }
        let gateway = Place::new(&mut names, "[gateway]", read.gateway.span(), read.gateway.get_ref())?;
        rules.permit_node("gateway", None, &["relay-signal"], &gateway);
        for (name, text) in [("record", &read.record), ("transcribe", &read.transcribe)] {
            if let Some(text) = text {
                let place = Place::new(&mut names, &format!("[{name}]"), text.span(), text.get_ref())?;
                rules.permit_node(name, None, &[name], &place);
            }
        }
        if let Some(control) = &read.control {
            rules.forbid_control(&mut names, control.span(), control.get_ref())?;
        }
        rules.permit_participants(&names, &read.join, &partners)?;
        let classes = read.rooms.iter().map(|rooms| {
            let rooms = rooms.get_ref();
            let class = rooms.class.as_ref().map(|word| names.class(word)).transpose()?.unwrap_or_default();
            let pattern = rooms.names.get_ref().clone();
            if pattern.is_empty() {
                return Err(names.wrong(rooms.names.span(), "the pattern is empty; write \"exam-*\""));
            }
            Ok(RoomClassRule { pattern, class: class.as_str().to_owned(), e2ee: rooms.e2ee })
        });
        let classes = classes.collect::<Result<_, _>>()?;
        let mut guarantees = Vec::new();
        for word in &read.guarantees {
            let guarantee = named(&mut names, word, &institution)?;
            if guarantees.iter().any(|other: &Guarantee| other.id == guarantee.id) {
                return Err(names.wrong(word.span(), "this guarantee is in the list twice"));
            }
            guarantees.push(guarantee);
        }
        for own in read.own_guarantees {
            let own = own.into_inner();
            // Zones that only a condition names are part of the bundle too.
            names.used_zones.extend(names.own_zones.clone());
            let at = own.id.span();
            let guarantee = Guarantee {
                id: own.id.into_inner(),
                says: own.says.into_inner(),
                says_da: own.says_da,
                actions: own.actions.into_iter().map(Word::into_inner).collect(),
                holds: own.holds.into_inner(),
            };
            if guarantees.iter().any(|other: &Guarantee| other.id == guarantee.id) {
                return Err(names.wrong(at, format!("another guarantee has the id {:?}", guarantee.id)));
            }
            guarantees.push(guarantee.clone());
            let alone = Self {
                institution: institution.clone(),
                vocabulary: Vocabulary::default(),
                zones: BTreeMap::new(),
                classes: Vec::new(),
                guarantees: vec![guarantee],
                rules: Rules::new(&institution).into_text(),
            };
            alone.is_readable().map_err(|problem| names.wrong(at, problem))?;
        }
        let profile = Self {
            vocabulary: Vocabulary {
                operators: names.operators,
                hosts: names.hosts,
                nodes: BTreeSet::new(),
                institutions: partners,
            },
            zones: names.used_zones,
            institution,
            classes,
            guarantees,
            rules: rules.into_text(),
        };
        profile.is_readable().map_err(|what| ProfileError { line: None, what })?;
        Ok(profile)
    }

    /// Nodes must be able to read the bundle that it becomes. A fault is found here, before the bundle is signed and published.
    fn is_readable(&self) -> Result<(), String> {
        let bundle = self.bundle(1, Lifetime { issued: 1, renew_by: 2, not_after: 3 });
        Document::parse(&Document::Bundle(bundle).to_text()).map(drop).map_err(|error| error.problem)
    }

    /// The institution.
    #[must_use]
    pub fn institution(&self) -> &str {
        &self.institution
    }

    /// The rules of a bundle with these dates, Cedar text. Hours are written for these dates only. If it is issued at 0, a
    /// draft without dates, they are written from 2026 on, for five years of changes between summer and winter time.
    #[must_use]
    pub fn cedar(&self, lifetime: Lifetime) -> String {
        self.rules.at(lifetime)
    }

    /// The bundle, unsigned.
    #[must_use]
    pub fn bundle(&self, version: u64, lifetime: Lifetime) -> Bundle {
        let Self { institution, vocabulary, zones, classes, guarantees, rules } = self.clone();
        let policy = rules.at(lifetime);
        Bundle { institution, version, lifetime, vocabulary, zones, classes, guarantees, policy }
    }
}

fn institution(text: &str, word: &Word) -> Result<String, ProfileError> {
    let name = word.get_ref();
    let is_domain = name.contains('.')
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    if is_domain {
        return Ok(name.clone());
    }
    Err(wrong(text, word.span(), format!("{name:?} is no domain; an institution is named like \"ku.dk\"")))
}
