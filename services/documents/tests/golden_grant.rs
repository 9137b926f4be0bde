//! Compares the grant that this crate writes with a committed one, and with an independent implementation of the note
//! format.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use std::path::Path;

use signed_note::{StandardVerifier, VerifierList};
use systir_documents::{
    DOCUMENT_FORMATS, DocumentHash, Grant, GrantTerms, MAX_GRANT_LIFE_MS, Note, SignedGrant, SigningKey,
    Ticket, TicketRefused,
};
use systir_golden::Golden;

/// 2026-11-29T08:00:00Z.
const ISSUED_MS: u64 = 1_795_939_200_000;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn golden(file: &str) -> String {
    std::fs::read_to_string(Path::new(GOLDEN).join("1").join(file)).unwrap()
}

/// The key of the golden ticket too: a node is home of one room and gateway of another.
fn key() -> SigningKey {
    SigningKey::from_seed("cph-1/2026", [11; 32]).unwrap()
}

fn grant() -> Grant {
    let nodes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Grant {
        institution: "ku.dk".to_owned(),
        room: "a3UuZGs/bGVjdHVyZQ".to_owned(),
        sid: "RM_4kTqYb2xNc7h".to_owned(),
        epoch: 3,
        serial: 7,
        home: "cph-1".to_owned(),
        successor_of: Some("cph-2".to_owned()),
        terms: GrantTerms {
            trust_domain: "nordu.net".to_owned(),
            homes: nodes(&["cph-1", "cph-2"]),
            spill: nodes(&["cph-1", "cph-2", "sto-1"]),
            gateways: nodes(&["cph-1", "sto-1"]),
            class: "confidential".to_owned(),
            e2ee: true,
            policy_version: 12,
            policy_hash: DocumentHash::of("policy"),
            directory_version: 4,
            directory_hash: DocumentHash::of("directory"),
        },
        issued_ms: ISSUED_MS,
        not_after_ms: ISSUED_MS + MAX_GRANT_LIFE_MS,
    }
}

#[test]
fn a_grant_is_written_like_the_golden_file() {
    let written = SignedGrant::sign(grant(), &key()).unwrap().note().to_string();
    let files = Golden::new(env!("CARGO_PKG_NAME"), GOLDEN, DOCUMENT_FORMATS);
    files.check("grant.note", written.as_bytes(), |_, golden| {
        let read = SignedGrant::verify(std::str::from_utf8(golden).unwrap(), |home| {
            assert_eq!(home, "cph-1");
            vec![key().public()]
        });
        assert_eq!(read.unwrap().grant(), &grant());
    });
    let verifier = StandardVerifier::new(&key().public().to_string()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    let note = signed_note::Note::from_bytes(written.as_bytes()).unwrap();
    assert_eq!(note.verify(&known).unwrap().0.len(), 1);
}

#[test]
fn a_grant_is_no_ticket_and_a_ticket_no_grant_although_one_node_key_signed_both() {
    let grant = golden("grant.note");
    let ticket = golden("ticket.note");
    let is_grant = |note: &str| SignedGrant::verify(note, |_| vec![key().public()]).is_ok();
    let is_ticket = |note: &str| Ticket::verify(note, &[key().public()]).is_ok();
    assert_eq!((is_grant(&grant), is_ticket(&ticket)), (true, true));
    assert_eq!((is_grant(&ticket), is_ticket(&grant)), (false, false));
    // The first line of the other kind, signed by the key.
    let text = |note: &str| Note::parse(note).unwrap().text().to_owned();
    let renamed = |note: &str, from: &str, to: &str| {
        let text = text(note).replacen(from, to, 1);
        assert!(text.starts_with(to));
        Note::sign(&text, &key()).unwrap().to_string()
    };
    let (grants, tickets) = ("systir.org/grant/v1", "systir.org/ticket/v1");
    let (as_ticket, as_grant) = (renamed(&grant, grants, tickets), renamed(&ticket, tickets, grants));
    for note in [as_ticket, as_grant] {
        assert_eq!((is_grant(&note), is_ticket(&note)), (false, false), "{note}");
    }
}

#[test]
fn grants_and_tickets_of_another_format_are_refused_with_what_to_do() {
    let later = |note: &str, kind: &str| {
        let text =
            Note::parse(note).unwrap().text().replacen(&format!("{kind}/v1"), &format!("{kind}/v2"), 1);
        Note::sign(&text, &key()).unwrap().to_string()
    };
    let refused =
        SignedGrant::verify(&later(&golden("grant.note"), "grant"), |_| vec![key().public()]).unwrap_err();
    assert!(refused.is_unsupported() && refused.to_string().contains("a grant of format 2"), "{refused}");
    let refused = Ticket::verify(&later(&golden("ticket.note"), "ticket"), &[key().public()]).unwrap_err();
    let sentence = refused.to_string();
    assert!(matches!(&refused, TicketRefused::Text(error) if error.unsupported), "{refused:?}");
    assert!(
        sentence.starts_with("it is a ticket of format 2") && sentence.contains("upgrade this node"),
        "{sentence}"
    );
}
