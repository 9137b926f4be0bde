//! Signed documents, from anyone who carries them.

use std::sync::LazyLock;

use systir_documents::{Document, Note, OperatorPin, PinnedKeys, Pins, PublicKey, SigningKey, Ticket};

/// Documents that the pinned keys below signed; the corpus begins with them.
const SIGNED: [&str; 3] = [
    include_str!("../../../../services/documents/tests/golden/bundle.note"),
    include_str!("../../../../services/documents/tests/golden/floor.note"),
    include_str!("../../../../services/documents/tests/golden/directory.note"),
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
const SIGNED_TICKET: &str = include_str!("../../../../services/documents/tests/golden/ticket.note");

static GATEWAY: LazyLock<Option<PublicKey>> =
    LazyLock::new(|| SigningKey::from_seed("cph-1/2026", [11; 32]).ok().map(|key| key.public()));

/// A gateway's ticket: what is read is written the same, and no other text than a signed one is accepted.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text, text_of(text)] {
        if let Ok(ticket) = Ticket::parse(text) {
            assert_eq!(ticket.to_text().trim_end(), text.trim_end());
        }
    }
    let Some(key) = &*GATEWAY else { unreachable!("the key of this file is valid") };
    if Ticket::verify(text, std::slice::from_ref(key)).is_ok() {
        assert_eq!(text, SIGNED_TICKET);
    }
}
