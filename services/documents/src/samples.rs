//! Documents and keys for tests.

use std::collections::BTreeMap;

use crate::{
    Bundle, Directory, DirectoryNode, Document, Floor, Lifetime, Note, OperatorPin, PinnedKeys, Pins,
    RoomClassRule, SigningKey, VerifiedDocument, Vocabulary,
};

/// 2026-11-29T08:00:00Z.
pub(crate) const ISSUED: u64 = 1_795_939_200;
pub(crate) const DAY: u64 = 86_400;
/// Any CA certificate.
pub(crate) const ROOTS: &str = include_str!("../tests/golden/nordu.net.pem");

/// A key whose seed is made of its name.
pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name, crate::hash::sha256(name.as_bytes())).unwrap()
}

pub(crate) fn lifetime() -> Lifetime {
    Lifetime { issued: ISSUED, renew_by: ISSUED + 60 * DAY, not_after: ISSUED + 90 * DAY }
}

fn names<const N: usize>(names: [&str; N]) -> std::collections::BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn zones() -> BTreeMap<String, Vec<String>> {
    let nordic = ["DK", "FI", "IS", "NO", "SE"].map(str::to_owned).to_vec();
    [("Nordic".to_owned(), nordic), ("North Sea".to_owned(), vec!["NO".to_owned()])].into()
}

pub(crate) fn bundle(institution: &str, version: u64) -> Document {
    Document::Bundle(Bundle {
        institution: institution.to_owned(),
        version,
        lifetime: lifetime(),
        vocabulary: Vocabulary {
            operators: names(["nordunet", "sunet"]),
            hosts: names(["Amazon Web Services", "nordunet"]),
            nodes: names(["cph-1"]),
            institutions: names([institution]),
        },
        zones: zones(),
        classes: vec![
            RoomClassRule {
                pattern: "exam \"a\" *".to_owned(),
                class: "confidential".to_owned(),
                e2ee: true,
            },
            RoomClassRule { pattern: "*".to_owned(), class: "standard".to_owned(), e2ee: false },
        ],
        guarantees: Vec::new(),
        policy: "// Rules.\n\n@id(\"a\")\npermit (principal, action, resource);\n".to_owned(),
    })
}

pub(crate) fn floor(operator: &str, version: u64) -> Document {
    Document::Floor(Floor {
        operator: operator.to_owned(),
        version,
        lifetime: lifetime(),
        vocabulary: Vocabulary::default(),
        zones: zones(),
        guarantees: Vec::new(),
        policy: "@id(\"b\")\nforbid (principal, action, resource);\n".to_owned(),
    })
}

pub(crate) fn directory(operator: &str, version: u64) -> Document {
    let node = |id: &str, keys: &[&str]| DirectoryNode {
        id: id.to_owned(),
        spiffe_id: format!("spiffe://nordu.net/relay/{id}"),
        keys: keys.iter().map(|name| key(name).public()).collect(),
        prefixes: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        site: "København".to_owned(),
        region: "dk-copenhagen".to_owned(),
        country: "DK".to_owned(),
        host: "nordunet".to_owned(),
        host_controlled_from: "DK".to_owned(),
    };
    Document::Directory(Directory {
        operator: operator.to_owned(),
        trust_domain: "nordu.net".to_owned(),
        controlled_from: "DK".to_owned(),
        version,
        lifetime: lifetime(),
        roots: ROOTS.to_owned(),
        nodes: vec![node("cph-1", &["cph-1/a"]), node("sto-1", &["sto-1/a", "sto-1/b"])],
    })
}

/// The document with other dates.
pub(crate) fn with_lifetime(mut document: Document, lifetime: Lifetime) -> Document {
    match &mut document {
        Document::Bundle(bundle) => bundle.lifetime = lifetime,
        Document::Floor(floor) => floor.lifetime = lifetime,
        Document::Directory(directory) => directory.lifetime = lifetime,
    }
    document
}

/// The text, signed with keys of these names.
pub(crate) fn signed_text(text: &str, keys: &[&str]) -> String {
    let mut note = Note::sign(text, &key(keys[0])).unwrap();
    for name in &keys[1..] {
        note.add_signature(&key(name)).unwrap();
    }
    note.to_string()
}

pub(crate) fn signed(document: &Document, keys: &[&str]) -> String {
    signed_text(&document.to_text(), keys)
}

/// `ku.dk` with two of three keys, `au.dk` and the operator `nordunet` with one each, an institution with the
/// operator's name.
pub(crate) fn pins() -> Pins {
    let pinned = |names: &[&str], threshold| {
        PinnedKeys::new(names.iter().map(|name| key(name).public()).collect(), threshold).unwrap()
    };
    let operator =
        |name: &str| OperatorPin { trust_domain: "nordu.net".to_owned(), keys: pinned(&[name], 1) };
    Pins {
        institutions: [
            ("ku.dk".to_owned(), pinned(&["ku.dk/1", "ku.dk/2", "ku.dk/3"], 2)),
            ("au.dk".to_owned(), pinned(&["au.dk/1"], 1)),
            ("nordunet".to_owned(), pinned(&["nordunet/rooms"], 1)),
        ]
        .into(),
        operators: [
            ("nordunet".to_owned(), operator("nordunet/1")),
            ("sunet".to_owned(), operator("sunet/1")),
        ]
        .into(),
    }
}

pub(crate) fn verified(document: &Document) -> VerifiedDocument {
    let keys: &[&str] = match (document, document.owner()) {
        (_, "ku.dk") => &["ku.dk/1", "ku.dk/2"],
        (_, "au.dk") => &["au.dk/1"],
        (Document::Bundle(_), "nordunet") => &["nordunet/rooms"],
        (_, "sunet") => &["sunet/1"],
        _ => &["nordunet/1"],
    };
    pins().verify(&signed(document, keys)).unwrap()
}
