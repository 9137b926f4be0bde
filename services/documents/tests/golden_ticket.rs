//! Compares the ticket that this crate writes with a committed one, and with an independent implementation of the note
//! format.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use signed_note::{StandardVerifier, VerifierList};
use systir_documents::{DOCUMENT_FORMATS, SigningKey, Ticket, TicketPermission, TicketSource};
use systir_golden::Golden;

/// 2026-11-29T08:00:00Z.
const ISSUED_MS: u64 = 1_795_939_200_000;

fn key() -> SigningKey {
    SigningKey::from_seed("cph-1/2026", [11; 32]).unwrap()
}

fn ticket() -> Ticket {
    Ticket {
        gateway: "cph-1".to_owned(),
        institution: "ku.dk".to_owned(),
        room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
        room_sid: "RM_4kTqYb2xNc7h".to_owned(),
        identity: "Åse Lund".to_owned(),
        participant_sid: "PA_9fQmWv3sKd5j".to_owned(),
        join_number: ISSUED_MS,
        kind: 0,
        hidden: false,
        recorder: false,
        permissions: [TicketPermission::Data, TicketPermission::Publish, TicketPermission::Subscribe].into(),
        sources: Some([TicketSource::Camera, TicketSource::Microphone].into()),
        media_node: "sto-1".to_owned(),
        issued_ms: ISSUED_MS,
        not_after_ms: ISSUED_MS + 600_000,
    }
}

#[test]
fn a_ticket_is_written_like_the_golden_file() {
    let written = ticket().sign(&key()).unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let files = Golden::new(env!("CARGO_PKG_NAME"), folder, DOCUMENT_FORMATS);
    files.check("ticket.note", written.as_bytes(), |_, golden| {
        let read = Ticket::verify(std::str::from_utf8(golden).unwrap(), &[key().public()]);
        assert_eq!(read, Ok(ticket()));
    });
    let verifier = StandardVerifier::new(&key().public().to_string()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    let note = signed_note::Note::from_bytes(written.as_bytes()).unwrap();
    assert_eq!(note.verify(&known).unwrap().0.len(), 1);
}
