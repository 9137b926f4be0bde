//! The words of the page in its languages.

use systir_policy::{Action, RoomAttributes, RoomClass};
use systir_policy_proof::Language;

/// The text in the language.
pub(super) fn text(language: Language, english: &'static str, danish: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::Danish => danish,
    }
}

/// What a machine or a participant does.
pub(super) fn action(action: Action, language: Language) -> &'static str {
    let (english, danish) = match action {
        Action::Home => ("The room's home", "Rummets hjem"),
        Action::Spill => ("Overflow, when the home is full", "Overløb, når hjemmet er fuldt"),
        Action::Transit => ("Forwarding between two nodes", "Videresendelse mellem to noder"),
        Action::RelaySignal => ("Entrance: names, chat, signalling", "Indgang: navne, chat, signalering"),
        Action::Record => ("Recording", "Optagelse"),
        Action::Transcribe => ("Transcription", "Udskrift"),
        Action::Turn => ("TURN server", "TURN-server"),
        Action::Telemetry => ("Measurements", "Målinger"),
        Action::Webhook => ("Webhooks", "Webhooks"),
        Action::Join => ("Join", "Deltage"),
        Action::JoinHidden => ("Join without being seen", "Deltage uden at blive set"),
        Action::JoinRecorder => ("Join as a recorder", "Deltage som optager"),
        Action::JoinGuest => ("Join as a guest, without a login", "Deltage som gæst, uden login"),
        Action::Administer => ("Administer rooms", "Administrere rum"),
    };
    text(language, english, danish)
}

/// For which rooms.
pub(super) fn rooms(kinds: &[RoomAttributes], language: Language) -> String {
    let has = |class: RoomClass, e2ee: bool| kinds.contains(&RoomAttributes { class, e2ee });
    let of = |class: RoomClass| (has(class, false), has(class, true));
    let one = |class: RoomClass| match (class, of(class)) {
        (_, (false, false)) => None,
        (RoomClass::Standard, (true, true)) => Some(text(language, "standard", "almindelige")),
        (RoomClass::Standard, (false, true)) => {
            Some(text(language, "standard, encrypted end to end", "almindelige, end-to-end-krypterede"))
        }
        (RoomClass::Standard, (true, false)) => Some(text(
            language,
            "standard, not encrypted end to end",
            "almindelige, ikke end-to-end-krypterede",
        )),
        (RoomClass::Confidential, (true, true)) => Some(text(language, "confidential", "fortrolige")),
        (RoomClass::Confidential, (false, true)) => {
            Some(text(language, "confidential, encrypted end to end", "fortrolige, end-to-end-krypterede"))
        }
        (RoomClass::Confidential, (true, false)) => Some(text(
            language,
            "confidential, not encrypted end to end",
            "fortrolige, ikke end-to-end-krypterede",
        )),
    };
    if of(RoomClass::Standard) == of(RoomClass::Confidential) {
        return match of(RoomClass::Standard) {
            (true, true) => text(language, "all", "alle"),
            (false, true) => {
                text(language, "all that are encrypted end to end", "alle, der er end-to-end-krypterede")
            }
            (true, false) => text(
                language,
                "all that are not encrypted end to end",
                "alle, der ikke er end-to-end-krypterede",
            ),
            (false, false) => "",
        }
        .to_owned();
    }
    let words = [RoomClass::Standard, RoomClass::Confidential].into_iter().filter_map(one);
    words.collect::<Vec<_>>().join("; ")
}
