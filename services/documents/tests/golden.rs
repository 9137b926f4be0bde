//! Compares the notes that this crate writes with committed ones, and with an independent implementation of the format
//! (`signed_note`, which uses `ed25519-dalek`). The files were also signed with Go's, see `golden/README.md`.

#![allow(clippy::unwrap_used, reason = "a test, outside of test functions")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use signed_note::{StandardSigner, StandardVerifier, VerifierList};
use systir_documents::{
    Bundle, DOCUMENT_FORMATS, Directory, DirectoryNode, Document, Floor, Lifetime, Note, OperatorPin,
    PinnedKeys, Pins, RoomClassRule, SigningKey, Vocabulary,
};
use systir_golden::Golden;

/// 2026-11-29T08:00:00Z.
const ISSUED: u64 = 1_795_939_200;
const DAY: u64 = 86_400;

/// Keys for these files only: their seeds are numbers.
const KEYS: [(&str, u8); 4] =
    [("ku.dk/2026", 1), ("ku.dk/security", 2), ("ku.dk/rector", 3), ("nordunet/2026", 4)];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join("1").join(file)).unwrap()
}

fn key(name: &str) -> SigningKey {
    let (_, seed) = KEYS.into_iter().find(|(key, _)| *key == name).unwrap();
    SigningKey::from_seed(name, [seed; 32]).unwrap()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn lifetime() -> Lifetime {
    Lifetime { issued: ISSUED, renew_by: ISSUED + 60 * DAY, not_after: ISSUED + 90 * DAY }
}

fn bundle() -> Document {
    Document::Bundle(Bundle {
        institution: "ku.dk".to_owned(),
        version: 7,
        lifetime: lifetime(),
        vocabulary: Vocabulary {
            operators: names(["nordunet", "sunet"]),
            hosts: names(["Amazon Web Services", "nordunet"]),
            nodes: names([]),
            institutions: names(["au.dk", "ku.dk"]),
        },
        zones: [
            ("Nordic".to_owned(), ["DK", "FI", "IS", "NO", "SE"].map(str::to_owned).to_vec()),
            ("North Sea".to_owned(), ["DE", "DK", "NO"].map(str::to_owned).to_vec()),
        ]
        .into(),
        classes: vec![RoomClassRule { pattern: "eksamen *".to_owned(), class: "confidential".to_owned(), e2ee: true }],
        guarantees: Vec::new(),
        policy: "// Which nodes may carry rooms of ku.dk.\n\n@id(\"ku-home-denmark\")\n@why(\"{node} is in Denmark\")\n\
                 permit (principal in Institution::\"ku.dk\", action == Action::\"home\", resource)\nwhen {\n  \
                 resource.country == Country::\"DK\"\n};\n"
            .to_owned(),
    })
}

fn floor() -> Document {
    Document::Floor(Floor {
        operator: "nordunet".to_owned(),
        version: 2,
        lifetime: lifetime(),
        vocabulary: Vocabulary::default(),
        zones: [].into(),
        guarantees: Vec::new(),
        policy: "@id(\"floor-declared-by-its-operator\")\n@why(\"declared by {declared_by}\")\n\
                 forbid (principal, action in Action::\"on-node\", resource)\n\
                 unless { resource.declared_by == resource.operator };\n"
            .to_owned(),
    })
}

fn directory() -> Document {
    let node = |id: &str, site: &str, region: &str, country: &str, seeds: &[u8]| {
        let key = |(seed, number): (&u8, usize)| {
            SigningKey::from_seed(&format!("{id}/{number}"), [*seed; 32]).unwrap().public()
        };
        DirectoryNode {
            id: id.to_owned(),
            spiffe_id: format!("spiffe://nordu.net/relay/{id}"),
            keys: seeds.iter().zip(1..).map(key).collect(),
            prefixes: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/48".parse().unwrap()],
            site: site.to_owned(),
            region: region.to_owned(),
            country: country.to_owned(),
            host: "nordunet".to_owned(),
            host_controlled_from: "DK".to_owned(),
        }
    };
    Document::Directory(Directory {
        operator: "nordunet".to_owned(),
        trust_domain: "nordu.net".to_owned(),
        controlled_from: "DK".to_owned(),
        version: 12,
        lifetime: lifetime(),
        roots: std::fs::read_to_string(folder().join("nordu.net.pem")).unwrap(),
        nodes: vec![
            node("cph-1", "København", "dk-copenhagen", "DK", &[11]),
            node("sto-1", "Stockholm", "se-stockholm", "SE", &[12, 13]),
        ],
    })
}

/// Each golden file, its document and its signers.
fn golden() -> Vec<(&'static str, Document, &'static [&'static str])> {
    vec![
        ("bundle.note", bundle(), &["ku.dk/2026", "ku.dk/rector"]),
        ("floor.note", floor(), &["nordunet/2026"]),
        ("directory.note", directory(), &["nordunet/2026"]),
    ]
}

fn pins() -> Pins {
    let pinned = |names: &[&str], threshold| {
        PinnedKeys::new(names.iter().map(|name| key(name).public()).collect(), threshold).unwrap()
    };
    let keys = pinned(&["nordunet/2026"], 1);
    Pins {
        institutions: [("ku.dk".to_owned(), pinned(&["ku.dk/2026", "ku.dk/security", "ku.dk/rector"], 2))]
            .into(),
        operators: [("nordunet".to_owned(), OperatorPin { trust_domain: "nordu.net".to_owned(), keys })]
            .into(),
    }
}

fn sign(text: &str, signers: &[&str]) -> Note {
    let mut note = Note::sign(text, &key(signers[0])).unwrap();
    for signer in &signers[1..] {
        note.add_signature(&key(signer)).unwrap();
    }
    note
}

/// What the other implementation says of a note: the names of the known keys that signed it.
fn signers_by_the_other_implementation(note: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let verifier = |name: &&str| -> Box<dyn signed_note::Verifier> {
        Box::new(StandardVerifier::new(&key(name).public().to_string()).unwrap())
    };
    let known = VerifierList::new(known.iter().map(verifier).collect());
    let note = signed_note::Note::from_bytes(note.as_bytes()).map_err(|error| error.to_string())?;
    let (verified, _) = note.verify(&known).map_err(|error| error.to_string())?;
    Ok(verified.iter().map(|signature| signature.name().to_owned()).collect())
}

/// The text, signed by the other implementation.
fn sign_by_the_other_implementation(text: &str, signers: &[&str]) -> String {
    let signers: Vec<_> =
        signers.iter().map(|name| StandardSigner::new(&key(name).to_text()).unwrap()).collect();
    let signers: Vec<&dyn signed_note::Signer> = signers.iter().map(|signer| signer as _).collect();
    let mut note = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
    note.add_sigs(&signers).unwrap();
    String::from_utf8(note.to_bytes()).unwrap()
}

#[test]
fn notes_are_written_like_the_golden_files() {
    let files = Golden::new(env!("CARGO_PKG_NAME"), folder(), DOCUMENT_FORMATS);
    for (file, document, signers) in golden() {
        let written = sign(&document.to_text(), signers).to_string();
        files.check(file, written.as_bytes(), |_, golden| {
            let verified = pins().verify(std::str::from_utf8(golden).unwrap()).unwrap();
            assert_eq!(verified.document(), &document, "{file}");
            assert_eq!(verified.signers(), signers.iter().map(|name| key(name).public()).collect::<Vec<_>>());
        });
    }
    files.check_names(&["bundle.note", "directory.note", "floor.note", "grant.note", "ticket.note"]);
}

#[test]
fn the_other_implementation_verifies_the_golden_files_and_writes_the_same() {
    for (file, document, signers) in golden() {
        let golden = read(file);
        assert_eq!(signers_by_the_other_implementation(&golden, signers).unwrap(), signers, "{file}");
        assert_eq!(sign_by_the_other_implementation(&document.to_text(), signers), golden, "{file}");
        let changed = golden.replacen("version = ", "version = 1", 1);
        assert!(signers_by_the_other_implementation(&changed, signers).is_err(), "{file}");
    }
}

#[test]
fn keys_have_the_same_text_in_both_implementations() {
    for (name, _) in KEYS {
        let key = key(name);
        assert!(StandardVerifier::new(&key.public().to_string()).is_ok(), "{name}");
        let signer = StandardSigner::new(&key.to_text()).unwrap();
        assert_eq!(signed_note::Signer::name(&signer), name);
        assert_eq!(signed_note::Signer::key_id(&signer).to_be_bytes(), key.public().id());
    }
}

proptest! {
    // The other implementation is not optimised in tests.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_one_implementation_signs_the_other_verifies(
        text in "(\\PC|\n){0,80}\n", signers in proptest::sample::subsequence(KEYS.map(|(name, _)| name).to_vec(), 1..=4)
    ) {
        // Texts that are refused here, such as those with invisible characters, do not count.
        prop_assume!(Note::sign(&text, &key("ku.dk/2026")).is_ok());
        let ours = sign(&text, &signers).to_string();
        prop_assert_eq!(&signers_by_the_other_implementation(&ours, &signers).unwrap(), &signers);
        let theirs = sign_by_the_other_implementation(&text, &signers);
        prop_assert_eq!(&ours, &theirs);
        let keys = signers.iter().map(|name| key(name).public()).collect();
        let pinned = PinnedKeys::new(keys, signers.len()).unwrap();
        prop_assert_eq!(pinned.verify(&Note::parse(&theirs).unwrap()).unwrap().len(), signers.len());
    }
}

#[test]
fn a_document_of_another_format_is_refused_with_what_to_do() {
    for (file, document, signers) in golden() {
        let (kind, text) = (document.kind(), document.to_text());
        let of = |number: &str| {
            let line = format!("systir.org/{kind}/v{number}\n");
            sign(&text.replacen(&format!("systir.org/{kind}/v1\n"), &line, 1), signers).to_string()
        };
        let refused = pins().verify(&of("2")).unwrap_err();
        assert!(refused.is_unsupported(), "{file}: {refused}");
        let sentence = refused.to_string();
        assert!(
            sentence.contains(&format!("it is a {kind} of format 2, and this release reads format 1")),
            "{sentence}"
        );
        assert!(sentence.contains("upgrade this node"), "{sentence}");
        let older = pins().verify(&of("0")).unwrap_err();
        assert!(older.is_unsupported() && older.to_string().contains("signed anew"), "{older}");
        // The same number in another form is no version.
        assert!(pins().verify(&of("01")).is_err_and(|refused| !refused.is_unsupported()));
    }
}
