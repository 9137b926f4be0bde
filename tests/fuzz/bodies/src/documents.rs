//! Signed documents, from anyone who carries them.

use std::sync::LazyLock;

use systir_documents::{Document, Note, OperatorPin, PinnedKeys, Pins, SignedGrant, SigningKey, Ticket};

/// Documents that the pinned keys below signed; the corpus begins with them.
const SIGNED: [&str; 3] = [
    include_str!("../../../../services/documents/tests/golden/1/bundle.note"),
    include_str!("../../../../services/documents/tests/golden/1/floor.note"),
    include_str!("../../../../services/documents/tests/golden/1/directory.note"),
];

static PINS: LazyLock<Option<Pins>> = LazyLock::new(pins);

fn pins() -> Option<Pins> {
    let key = |name: &str, seed: u8| SigningKey::from_seed(name, [seed; 32]).ok().map(|key| key.public());
    let institution = PinnedKeys::new(vec![key("ku.dk/2026", 1)?, key("ku.dk/rector", 3)?], 2).ok()?;
    let keys = PinnedKeys::new(vec![key("nordunet/2026", 4)?], 1).ok()?;
    Some(Pins {
        institutions: [("ku.dk".to_owned(), institution)].into(),
        operators: [("nordunet".to_owned(), OperatorPin { trust_domain: "nordu.net".to_owned(), keys })]
            .into(),
    })
}

/// A note, the document that is its text, and its verification: no other text than a signed one passes it.
pub fn document(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        read(note.text());
    }
    read(text);
    let Some(pins) = &*PINS else { unreachable!("the pins of this file are valid") };
    match pins.verify(text) {
        Ok(verified) => assert!(SIGNED.iter().any(|note| text_of(note) == text_of(verified.note()))),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

fn text_of(note: &str) -> &str {
    note.rsplit_once("\n\n").map_or(note, |(text, _)| text)
}

fn read(text: &str) {
    match Document::parse(text) {
        Ok(document) => assert_eq!(Document::parse(&document.to_text()).as_ref(), Ok(&document)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A ticket that the key below signed; the corpus begins with it.
const SIGNED_TICKET: &str = include_str!("../../../../services/documents/tests/golden/1/ticket.note");

static NODE: LazyLock<Option<SigningKey>> =
    LazyLock::new(|| SigningKey::from_seed("cph-1/2026", [11; 32]).ok());

fn node_key() -> &'static SigningKey {
    let Some(key) = &*NODE else { unreachable!("the key of this file is valid") };
    key
}

/// A gateway's ticket: what is read is written the same, and no other text than a signed one is accepted.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text, text_of(text)] {
        if let Ok(ticket) = Ticket::parse(text) {
            assert_eq!(ticket.to_text().trim_end(), text.trim_end());
        }
    }
    if Ticket::verify(text, &[node_key().public()]).is_ok() {
        assert_eq!(text, SIGNED_TICKET);
    }
}

/// A grant that the same key signed, as home.
const SIGNED_GRANT: &str = include_str!("../../../../services/documents/tests/golden/1/grant.note");

/// A home's grant: no other text than a signed one is accepted, a text that is accepted has one form only, and is no ticket.
pub fn grant(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let verify = |note: &str| SignedGrant::verify(note, |_| vec![node_key().public()]);
    if verify(text).is_ok() {
        assert_eq!(text, SIGNED_GRANT);
    }
    for text in [text.to_owned(), format!("{}\n", text_of(text))] {
        // As if a home had signed it.
        let Ok(note) = Note::sign(&text, node_key()).map(|note| note.to_string()) else { continue };
        let Ok(read) = verify(&note) else { continue };
        let written = SignedGrant::sign(read.grant().clone(), node_key());
        assert_eq!(written.map(|signed| signed.note().to_string()), Ok(note.clone()));
        assert!(Ticket::verify(&note, &[node_key().public()]).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the mutations of the corpus would be refused at once.
    #[test]
    fn the_corpus_begins_with_notes_that_are_accepted() {
        let keys = || vec![node_key().public()];
        Ticket::verify(SIGNED_TICKET, &keys()).expect("the golden ticket");
        SignedGrant::verify(SIGNED_GRANT, |_| keys()).expect("the golden grant");
        for (corpus, golden) in [("ticket", SIGNED_TICKET), ("grant", SIGNED_GRANT)] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus");
            let read = |file: &str| std::fs::read_to_string(format!("{folder}/{corpus}/{file}"));
            assert_eq!(read("signed").expect("a file"), golden);
            assert_eq!(read("unsigned").expect("a file"), format!("{}\n", text_of(golden)));
        }
    }
}
