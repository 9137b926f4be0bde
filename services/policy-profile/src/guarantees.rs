//! Guarantees by name.

use systir_documents::Guarantee;

use crate::cedar::entity;
use crate::check::Names;
use crate::error::ProfileError;
use crate::text::Word;

/// The forms of guarantees that have a name; ZONE is a zone.
pub const GUARANTEE_FORMS: [&str; 9] = [
    "machines only in ZONE",
    "home only in ZONE",
    "controlled only from ZONE",
    "controlled only from ZONE unless encrypted",
    "confidential rooms on own machines",
    "only own participants",
    "no guests in confidential rooms",
    "no recording",
    "nothing but relaying",
];

/// The guarantee with this name.
pub(crate) fn named(
    names: &mut Names<'_>,
    word: &Word,
    institution: &str,
) -> Result<Guarantee, ProfileError> {
    let name = word.get_ref().as_str();
    let id: String = name.to_lowercase().replace(' ', "-");
    let made = |says: String, says_da: String, actions: &[&str], holds: String| Guarantee {
        id: id.clone(),
        says,
        says_da,
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        holds,
    };
    let mut zone = |zone: &str| names.zone(&Word::new(word.span(), zone.to_owned()));
    let in_zone = |attribute: &str, zone: &str| format!("resource.{attribute} in {}", entity("Zone", zone));
    let control = |zone: &str| {
        format!("{} && {}", in_zone("operator_controlled_from", zone), in_zone("host_controlled_from", zone))
    };
    if let Some(name) = name.strip_prefix("machines only in ") {
        let zone = zone(name)?;
        return Ok(made(
            format!("every machine that touches a room stands in {zone}"),
            format!("enhver maskine, der rører et rum, står i {zone}"),
            &[],
            in_zone("country", &zone),
        ));
    }
    if let Some(name) = name.strip_prefix("home only in ") {
        let zone = zone(name)?;
        return Ok(made(
            format!("the home of every room stands in {zone}"),
            format!("ethvert rums hjemmenode står i {zone}"),
            &["home"],
            in_zone("country", &zone),
        ));
    }
    if let Some(rest) = name.strip_prefix("controlled only from ") {
        if let Some(name) = rest.strip_suffix(" unless encrypted") {
            let zone = zone(name)?;
            return Ok(made(
                format!(
                    "no machine that is run or owned by someone controlled from outside {zone} touches a room that is not \
                     end-to-end encrypted"
                ),
                format!(
                    "ingen maskine, der drives eller ejes af nogen, som kontrolleres fra lande uden for {zone}, rører et rum, der ikke \
                     er end-to-end-krypteret"
                ),
                &[],
                format!("({}) || principal.e2ee", control(&zone)),
            ));
        }
        let zone = zone(rest)?;
        return Ok(made(
            format!(
                "no machine that is run or owned by someone controlled from outside {zone} touches a room"
            ),
            format!(
                "ingen maskine, der drives eller ejes af nogen, som kontrolleres fra lande uden for {zone}, rører et rum"
            ),
            &[],
            control(&zone),
        ));
    }
    let fixed = |says: &str, says_da: &str, actions: &[&str], holds: &str| {
        Ok(made(says.to_owned(), says_da.to_owned(), actions, holds.to_owned()))
    };
    match name {
        "confidential rooms on own machines" => fixed(
            "a confidential room touches only machines that their operator owns",
            "et fortroligt rum rører kun maskiner, som operatøren selv ejer",
            &[],
            "principal.class != RoomClass::\"confidential\" || resource.own_machine",
        ),
        "only own participants" => Ok(made(
            format!("only participants with a token of {institution} join or administer its rooms"),
            format!(
                "kun deltagere med en adgangsnøgle fra {institution} deltager i eller administrerer dens rum"
            ),
            &["join", "join-hidden", "join-recorder", "join-guest", "administer"],
            format!("principal in {}", entity("Institution", institution)),
        )),
        "no guests in confidential rooms" => fixed(
            "no guest joins a confidential room",
            "ingen gæst deltager i et fortroligt rum",
            &["join-guest"],
            "resource.class != RoomClass::\"confidential\"",
        ),
        "no recording" => fixed(
            "no machine records or transcribes a room, and no participant joins as a recorder",
            "ingen maskine optager eller udskriver et rum, og ingen deltager er optager",
            &["record", "transcribe", "join-recorder"],
            "false",
        ),
        "nothing but relaying" => fixed(
            "no machine gets a room's recordings, transcripts, TURN traffic, measurements or webhooks",
            "ingen maskine får et rums optagelser, udskrifter, TURN-trafik, målinger eller webhooks",
            &["record", "transcribe", "turn", "telemetry", "webhook"],
            "false",
        ),
        _ => {
            let what = format!(
                "there is no guarantee {name:?}; write one of {}, or [[guarantee]] with id, says and holds",
                GUARANTEE_FORMS.map(|form| format!("{form:?}")).join(", ")
            );
            Err(names.wrong(word.span(), what))
        }
    }
}
