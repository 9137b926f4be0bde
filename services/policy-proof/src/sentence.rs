//! Counterexamples as sentences.

use systir_policy::{Action, RoomClass};

use crate::counterexample::{Counterexample, PossibleNode};
use crate::language::Language;

impl Counterexample {
    /// The request as a sentence, without a full stop: "a standard room of ku.dk without end-to-end encryption could spill
    /// to a node in SE, run by nordunet (controlled from DK) on a machine of amazon (controlled from US), by rule ku-spill".
    #[must_use]
    pub fn sentence(&self, language: Language) -> String {
        let rules = self.rules.join(", ");
        let (room, subject) = (self.room_words(language), self.subject(language));
        let act = phrase(self.action, language);
        let by = match (language, self.rules.as_slice()) {
            (_, []) => String::new(),
            (Language::English, [_]) => format!(", by rule {rules}"),
            (Language::English, _) => format!(", by the rules {rules}"),
            (Language::Danish, [_]) => format!(", efter reglen {rules}"),
            (Language::Danish, _) => format!(", efter reglerne {rules}"),
        };
        let when = self.time.as_ref().map(|time| format!(", {}", time.words(language))).unwrap_or_default();
        if self.node.is_some() {
            format!("{room} {act} {subject}{when}{by}")
        } else {
            format!("{subject} {act} {room}{when}{by}")
        }
    }

    fn room_words(&self, language: Language) -> String {
        let confidential = self.room.class == RoomClass::Confidential;
        let e2ee = self.room.e2ee;
        match language {
            Language::English => {
                let class = if confidential { "confidential" } else { "standard" };
                let of = self.institution.as_deref().unwrap_or("any institution");
                let with = if e2ee { "with" } else { "without" };
                format!("a {class} room of {of} {with} end-to-end encryption")
            }
            Language::Danish => {
                let class = if confidential { "fortroligt" } else { "almindeligt" };
                let of = self.institution.as_deref().unwrap_or("en hvilken som helst institution");
                let with = if e2ee { "med" } else { "uden" };
                format!("et {class} rum hos {of} {with} end-to-end-kryptering")
            }
        }
    }

    fn subject(&self, language: Language) -> String {
        match (&self.node, language) {
            (Some(node), Language::English) => node.in_english(),
            (Some(node), Language::Danish) => node.in_danish(),
            (None, Language::English) => {
                format!("a participant of {}", self.participant_of.as_deref().unwrap_or("any institution"))
            }
            (None, Language::Danish) => format!(
                "en deltager fra {}",
                self.participant_of.as_deref().unwrap_or("en hvilken som helst institution")
            ),
        }
    }
}

impl PossibleNode {
    fn in_english(&self) -> String {
        let place = self.country.as_deref().unwrap_or("a country that no rule names");
        let operator = self.operator.as_deref().unwrap_or("any operator");
        let from = |country: &Option<String>| match country {
            Some(country) => format!("controlled from {country}"),
            None => "controlled from a country that no rule names".to_owned(),
        };
        let run = format!("a node in {place}, run by {operator} ({})", from(&self.operator_controlled_from));
        let machine = if self.own_machine {
            " on its own machine".to_owned()
        } else {
            let host = self.host.as_deref().unwrap_or("any host");
            format!(" on a machine of {host} ({})", from(&self.host_controlled_from))
        };
        let declared = if self.declared_by_another { ", as another operator declares" } else { "" };
        format!("{run}{machine}{declared}")
    }

    fn in_danish(&self) -> String {
        let place = self.country.as_deref().unwrap_or("et land, som ingen regel nævner");
        let operator = self.operator.as_deref().unwrap_or("en hvilken som helst operatør");
        let from = |country: &Option<String>| match country {
            Some(country) => format!("kontrolleret fra {country}"),
            None => "kontrolleret fra et land, som ingen regel nævner".to_owned(),
        };
        let run =
            format!("en node i {place}, drevet af {operator} ({})", from(&self.operator_controlled_from));
        let machine = if self.own_machine {
            " på egen maskine".to_owned()
        } else {
            let host = self.host.as_deref().unwrap_or("en hvilken som helst vært");
            format!(" på en maskine hos {host} ({})", from(&self.host_controlled_from))
        };
        let declared = if self.declared_by_another { ", ifølge en anden operatør" } else { "" };
        format!("{run}{machine}{declared}")
    }
}

/// What could happen between the room and the node, or the participant and the room.
fn phrase(action: Action, language: Language) -> &'static str {
    match language {
        Language::English => match action {
            Action::Home => "could have its home on",
            Action::Spill => "could spill to",
            Action::Transit => "could be forwarded by",
            Action::RelaySignal => "could have its signalling relayed by",
            Action::Record => "could be recorded by",
            Action::Transcribe => "could be transcribed by",
            Action::Turn => "could use as TURN server",
            Action::Telemetry => "could send traces and metrics to",
            Action::Webhook => "could send webhooks to",
            Action::Join => "could join",
            Action::JoinHidden => "could join, hidden,",
            Action::JoinRecorder => "could join as a recorder",
            Action::JoinGuest => "could join as a guest",
            Action::Administer => "could administer",
        },
        Language::Danish => match action {
            Action::Home => "kunne have hjemme på",
            Action::Spill => "kunne løbe over til",
            Action::Transit => "kunne videresendes af",
            Action::RelaySignal => "kunne få sin signalering gennem",
            Action::Record => "kunne optages af",
            Action::Transcribe => "kunne udskrives af",
            Action::Turn => "kunne bruge som TURN-server",
            Action::Telemetry => "kunne sende målinger til",
            Action::Webhook => "kunne sende webhooks til",
            Action::Join => "kunne deltage i",
            Action::JoinHidden => "kunne deltage skjult i",
            Action::JoinRecorder => "kunne deltage som optager i",
            Action::JoinGuest => "kunne deltage som gæst i",
            Action::Administer => "kunne administrere",
        },
    }
}

#[cfg(test)]
mod tests {
    use systir_policy::RoomAttributes;

    use super::*;
    use crate::possible_time::PossibleTime;

    #[test]
    fn a_counterexample_says_room_node_and_rule() {
        let mut example = Counterexample {
            action: Action::Spill,
            room: RoomAttributes::default(),
            institution: Some("ku.dk".to_owned()),
            node: Some(PossibleNode {
                country: Some("SE".to_owned()),
                operator: Some("nordunet".to_owned()),
                operator_controlled_from: Some("DK".to_owned()),
                host: Some("amazon".to_owned()),
                host_controlled_from: Some("US".to_owned()),
                own_machine: false,
                declared_by_another: false,
            }),
            participant_of: None,
            time: None,
            rules: vec!["ku-spill-cloud".to_owned()],
        };
        assert_eq!(
            example.sentence(Language::English),
            "a standard room of ku.dk without end-to-end encryption could spill to a node in SE, run by nordunet \
             (controlled from DK) on a machine of amazon (controlled from US), by rule ku-spill-cloud"
        );
        assert_eq!(
            example.sentence(Language::Danish),
            "et almindeligt rum hos ku.dk uden end-to-end-kryptering kunne løbe over til en node i SE, drevet af nordunet \
             (kontrolleret fra DK) på en maskine hos amazon (kontrolleret fra US), efter reglen ku-spill-cloud"
        );
        example.time =
            Some(PossibleTime { weekday: "wed".to_owned(), at: Some("2027-02-03T10:30:00Z".to_owned()) });
        let sentences = [Language::English, Language::Danish].map(|language| example.sentence(language));
        assert!(
            sentences[0].ends_with(
                "(controlled from US), on Wednesday 2027-02-03 at 10:30 UTC, by rule ku-spill-cloud"
            )
        );
        assert!(sentences[1].ends_with(
            "(kontrolleret fra US), onsdag 2027-02-03 kl. 10:30 UTC, efter reglen ku-spill-cloud"
        ));
        example.time = None;
        example.action = Action::Join;
        example.node = None;
        assert_eq!(
            example.sentence(Language::English),
            "a participant of any institution could join a standard room of ku.dk without end-to-end encryption, by rule \
             ku-spill-cloud"
        );
    }
}
