//! Input from operators and institutions: policies, configuration and journals. They are trusted, but a mistake must lead to
//! an error message and never to a panic. Signed documents have a target of their own.

use std::sync::LazyLock;

use systir_documents::{Document, Lifetime, SigningKey};
use systir_journal::{JournalEvent, JournalFile, JournalLine, MAX_LINE_BYTES};
use systir_policy::demo::DemoDocuments;
use systir_policy_profile::Profile;

static DEMO: LazyLock<Option<DemoDocuments>> = LazyLock::new(|| {
    let lifetime = Lifetime { issued: 0, renew_by: 1, not_after: 2 };
    let key = SigningKey::from_seed("node", [1; 32]).ok()?.public();
    let prefix = "192.0.2.0/24".parse().ok()?;
    DemoDocuments::new(lifetime, "", |_| (vec![key.clone()], vec![prefix])).ok()
});

/// An institution's policy and an operator's floor, with the nodes of the demo.
pub fn policy(bytes: &[u8]) {
    let (Ok(text), Some(demo)) = (std::str::from_utf8(bytes), &*DEMO) else { return };
    let (mut as_bundle, mut as_floor) = (demo.clone(), demo.clone());
    text.clone_into(&mut as_bundle.bundle.policy);
    text.clone_into(&mut as_floor.floor.policy);
    for documents in [as_bundle, as_floor] {
        if let Err(error) = documents.engine() {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// An institution's profile, and the policy that it becomes.
pub fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Profile::parse(text) {
        Ok(profile) => {
            let lifetime =
                Lifetime { issued: 1_800_000_000, renew_by: 1_810_000_000, not_after: 1_815_000_000 };
            let bundle = Document::Bundle(profile.bundle(1, lifetime));
            assert_eq!(Document::parse(&bundle.to_text()).as_ref(), Ok(&bundle));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A relay's configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = systir_relay::fuzz::config(text) {
        assert!(!error.is_empty());
    }
}

fn without_candidates(mut line: JournalLine) -> JournalLine {
    if let JournalEvent::Entry(entry) = &mut line.event
        && let Some(placement) = &mut entry.placement
    {
        let left_out = std::mem::take(&mut placement.candidates).len();
        placement.candidates_left_out = placement.candidates_left_out.saturating_add(left_out);
        placement.answers.clear();
    }
    line
}

/// A journal. What is read is written as the same line; of a line that would be too long, without candidates.
pub fn journal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for line in text.lines() {
        if let Some(file) = JournalFile::named(line) {
            assert_eq!(file.name(), line);
        }
        match JournalLine::parse(line) {
            Ok(read) => match JournalLine::parse(&read.to_text()) {
                Ok(again) => assert!(again == read || again == without_candidates(read)),
                // Names of fields, which another writer may leave out, make it a few times as long.
                Err(_) => assert!(line.len() >= MAX_LINE_BYTES / 8),
            },
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
