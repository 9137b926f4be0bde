//! Signs a bundle of `ku.dk` with two of its three keys, and verifies it as a node does that pins them. Then three ways
//! to cheat fail: a changed rule, one signer who signs twice, and an old version.
//!
//! `cargo run -p systir-documents --example sign_and_verify`

use std::error::Error;
use std::io::Write as _;

use systir_documents::{
    Acceptance, AcceptedDocuments, Bundle, Document, DocumentId, Lifetime, NotAccepted, Note, PinnedKeys,
    Pins, SigningKey, Validity, Vocabulary,
};

/// 2026-11-29T08:00:00Z.
const NOW: u64 = 1_795_939_200;
const DAY: u64 = 86_400;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    // Seeds come from a secure random generator; these are for the example only.
    let key = |name: &str, seed: u8| SigningKey::from_seed(name, [seed; 32]);
    let (rector, security, it) = (key("ku.dk/rector", 1)?, key("ku.dk/security", 2)?, key("ku.dk/it", 3)?);
    let keys = PinnedKeys::new(vec![rector.public(), security.public(), it.public()], 2)?;
    let pins = Pins { institutions: [("ku.dk".to_owned(), keys)].into(), ..Pins::default() };

    let mut note = Note::sign(&bundle(2).to_text(), &rector)?;
    note.add_signature(&it)?;
    let verified = pins.verify(&note.to_string())?;
    writeln!(out, "{note}\n{} version {}, signed by", verified.id(), verified.version())?;
    for signer in verified.signers() {
        writeln!(out, "  {} {}", signer.name(), signer.fingerprint())?;
    }

    let mut accepted = AcceptedDocuments::default();
    assert_eq!(accepted.accept(verified)?, Acceptance::New);
    let id = DocumentId::bundle("ku.dk");
    assert_eq!(accepted.validity(&id, NOW), Validity::Valid);
    assert_eq!(accepted.validity(&id, NOW + 61 * DAY), Validity::RenewalOverdue);
    assert_eq!(accepted.validity(&id, NOW + 91 * DAY), Validity::Expired);

    let changed = note.to_string().replace("Country::\"DK\"", "Country::\"US\"");
    refuse(&pins, &changed)?;

    let once = Note::sign(&bundle(3).to_text(), &it)?.to_string();
    let signature = once.lines().last().unwrap_or_default();
    refuse(&pins, &format!("{once}{signature}\n"))?;

    let mut old = Note::sign(&bundle(1).to_text(), &rector)?;
    old.add_signature(&security)?;
    let older = accepted.accept(pins.verify(&old.to_string())?);
    assert!(matches!(older, Err(NotAccepted::Older { newest: 2, .. })));
    Ok(())
}

fn bundle(version: u64) -> Document {
    Document::Bundle(Bundle {
        institution: "ku.dk".to_owned(),
        version,
        lifetime: Lifetime { issued: NOW, renew_by: NOW + 60 * DAY, not_after: NOW + 90 * DAY },
        vocabulary: Vocabulary::default(),
        zones: [].into(),
        classes: Vec::new(),
        guarantees: Vec::new(),
        policy: "@id(\"home-denmark\")\n@why(\"{node} is in Denmark\")\n\
                 permit (principal in Institution::\"ku.dk\", action == Action::\"home\", resource)\n\
                 when { resource.country == Country::\"DK\" };\n"
            .to_owned(),
    })
}

fn refuse(pins: &Pins, note: &str) -> Result<(), Box<dyn Error>> {
    match pins.verify(note) {
        Ok(verified) => return Err(format!("the {} was accepted", verified.id()).into()),
        Err(refused) => writeln!(std::io::stdout(), "refused: {refused}")?,
    }
    Ok(())
}
