//! The rules of a profile, as Cedar text.

use std::collections::BTreeSet;

use systir_documents::Lifetime;
use systir_policy::RoomClass;

use crate::cedar::{RuleText, entities, entity};
use crate::check::Names;
use crate::error::ProfileError;
use crate::hours::Hours;
use crate::place::{Place, in_places};
use crate::text::{ControlText, JoinText};

/// The rules as they are written, one after the other.
pub(crate) struct Rules {
    /// `ku-dk`.
    prefix: String,
    /// `principal in Institution::"ku.dk"`.
    own_room: String,
    institution: String,
    text: String,
    timed: Vec<(String, Hours)>,
}

/// The text of all rules. Only their hours depend on the dates of the bundle.
#[derive(Clone, Debug)]
pub(crate) struct RulesText {
    /// A part, and the hours after it.
    timed: Vec<(String, Hours)>,
    rest: String,
}

impl RulesText {
    /// The text in a bundle with these dates.
    pub(crate) fn at(&self, lifetime: Lifetime) -> String {
        let timed = self.timed.iter().map(|(before, hours)| format!("{before}{}", hours.condition(lifetime)));
        timed.chain([self.rest.clone()]).collect()
    }
}

impl Rules {
    pub(crate) fn new(institution: &str) -> Self {
        Self {
            prefix: institution.replace('.', "-"),
            own_room: format!("principal in {}", entity("Institution", institution)),
            institution: institution.to_owned(),
            timed: Vec::new(),
            text: format!(
                "// Rules of {institution}, compiled from its profile. What no rule permits is denied.\n"
            ),
        }
    }

    pub(crate) fn into_text(self) -> RulesText {
        RulesText { timed: self.timed, rest: self.text }
    }

    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn permit_node(&mut self, name: &str, tier: Option<u32>, actions: &[&str], place: &Place) {
        let conditions = place.conditions();
        let clause = match place.hours() {
            None => format!("when {{\n  {conditions}\n}}"),
            Some(_) => format!("when {{\n  {conditions} &&\n  "),
        };
        let rule = RuleText {
            id: &self.id(name),
            tier,
            hours: place.hours(),
            why: &place.why(),
            effect: "permit",
            principal: &self.own_room,
            action: &action(actions),
            resource: "resource",
            clause: &clause,
        };
        rule.write(&mut self.text);
        if let Some(hours) = place.hours() {
            self.timed.push((std::mem::replace(&mut self.text, "\n};\n".to_owned()), hours.clone()));
        }
    }

    /// Who runs a machine, and who owns it, can be compelled to give access to it, wherever it is.
    pub(crate) fn forbid_control(
        &mut self,
        names: &mut Names<'_>,
        at: std::ops::Range<usize>,
        control: &ControlText,
    ) -> Result<(), ProfileError> {
        if control.countries.is_empty() && control.zones.is_empty() {
            return Err(
                names.wrong(at, "[control] says no country; write zones = [\"EEA\"], or leave it out")
            );
        }
        let countries = control.countries.iter().map(|word| names.country(word)).collect::<Result<_, _>>()?;
        let zones = control.zones.iter().map(|word| names.zone(word)).collect::<Result<_, _>>()?;
        let exempt = if control.except_e2ee { " || principal.e2ee" } else { "" };
        let rooms = if control.except_e2ee { ", and the room is not end-to-end encrypted" } else { "" };
        for (name, attribute, why) in [
            (
                "host-control",
                "host_controlled_from",
                "the machine is owned by {host}, controlled from {host_controlled_from}",
            ),
            (
                "operator-control",
                "operator_controlled_from",
                "{node} is run by {operator}, controlled from {operator_controlled_from}",
            ),
        ] {
            let inside = in_places(&format!("resource.{attribute}"), &countries, &zones);
            let rule = RuleText {
                id: &self.id(name),
                tier: None,
                hours: None,
                why: &format!("{why}{rooms}"),
                effect: "forbid",
                principal: &self.own_room,
                action: "action in Action::\"on-node\"",
                resource: "resource",
                clause: &format!("unless {{ {inside}{exempt} }}"),
            };
            rule.write(&mut self.text);
        }
        Ok(())
    }

    pub(crate) fn permit_participants(
        &mut self,
        names: &Names<'_>,
        join: &JoinText,
        partners: &BTreeSet<String>,
    ) -> Result<(), ProfileError> {
        for word in &join.institutions {
            if *word.get_ref() != self.institution && !partners.contains(word.get_ref()) {
                let what =
                    format!("{:?} is not in the list `partners` at the top; add it there", word.get_ref());
                return Err(names.wrong(word.span(), what));
            }
        }
        let own = self.institution.clone();
        let mut from: BTreeSet<String> =
            join.institutions.iter().map(|word| word.get_ref().clone()).collect();
        from.insert(own.clone());
        let everywhere: BTreeSet<RoomClass> = [RoomClass::Standard, RoomClass::Confidential].into();
        let why = "the token was signed with a key of {participant_institution}";
        self.permit_participant("join", &from, &everywhere, why);
        let own: BTreeSet<String> = [own].into();
        for (name, words, why) in [
            ("join-guest", &join.guests, "guests may join such rooms of {institution}"),
            ("join-hidden", &join.hidden, "{institution} permits hidden participants in such rooms"),
            ("join-recorder", &join.recorders, "{institution} permits recorders in such rooms"),
            ("administer", &join.administer, "the token was signed with a key of {participant_institution}"),
        ] {
            let classes = names.classes(words)?;
            if !classes.is_empty() {
                self.permit_participant(name, &own, &classes, why);
            }
        }
        Ok(())
    }

    fn permit_participant(
        &mut self,
        name: &str,
        from: &BTreeSet<String>,
        classes: &BTreeSet<RoomClass>,
        why: &str,
    ) {
        let principal = match from.iter().next() {
            Some(one) if from.len() == 1 => format!("principal in {}", entity("Institution", one)),
            _ => "principal".to_owned(),
        };
        let mut conditions = Vec::new();
        if from.len() > 1 {
            conditions.push(format!("principal in [{}]", entities("Institution", from)));
        }
        if let Some(class) = classes.iter().next().filter(|_| classes.len() == 1) {
            conditions.push(format!("resource.class == {}", entity("RoomClass", class.as_str())));
        }
        let clause = if conditions.is_empty() {
            String::new()
        } else {
            format!("when {{ {} }}", conditions.join(" && "))
        };
        let rule = RuleText {
            id: &self.id(name),
            tier: None,
            hours: None,
            why,
            effect: "permit",
            principal: &principal,
            action: &action(&[name]),
            resource: &format!("resource in {}", entity("Institution", &self.institution)),
            clause: &clause,
        };
        rule.write(&mut self.text);
    }
}

/// The scope of these actions.
fn action(names: &[&str]) -> String {
    match names {
        [one] => format!("action == {}", entity("Action", one)),
        several => {
            let several: Vec<String> = several.iter().map(|name| (*name).to_owned()).collect();
            format!("action in [{}]", entities("Action", &several))
        }
    }
}
