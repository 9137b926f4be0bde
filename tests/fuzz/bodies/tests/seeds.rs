//! Seeds that the project's own writers make, and that are copies of its golden files. `GOLDEN=write` writes them again;
//! review the difference. Other seeds of the corpus stay as they are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use systir_identity::{TrustDomain, ca};

mod media_seeds;
mod message_seeds;
mod text_seeds;

/// The corpus folder, the name of the file, and the bytes.
type Seed = (&'static str, String, Vec<u8>);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn writes() -> bool {
    std::env::var_os("GOLDEN").is_some_and(|golden| golden == "write")
}

/// As `Reader::piece` reads it.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short piece");
    [&length.to_be_bytes(), bytes].concat()
}

/// Seeds with something random in them: those that are committed stay.
fn random_seeds() -> Vec<Seed> {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let authority = |domain: &str| ca::create(&TrustDomain::new(domain).unwrap(), now).unwrap();
    let (ours, theirs) = (authority("nordu.net"), authority("uninett.no"));
    let node =
        ca::issue(&ours, &"spiffe://nordu.net/relay/cph-1".parse().unwrap(), now, ca::NODE_LIFE).unwrap();
    let [one, other, node] = [ours, theirs, node].map(|pem| pem.certificate);
    let seed = |target, name: &str, text: String| (target, name.to_owned(), text.into_bytes());
    let mut seeds = message_seeds::random();
    seeds.extend([
        seed("trust_roots", "one", one.clone()),
        seed("trust_roots", "two", one.clone() + &other),
        seed("trust_roots", "with_text", format!("# roots of nordu.net\r\n{}", one.replace('\n', "\r\n"))),
        seed("trust_roots", "node", node.clone()),
        seed("certificate", "chain", node + &one),
    ]);
    seeds
}

#[test]
fn seeds_are_what_the_writers_make() {
    for (target, name, bytes) in random_seeds() {
        let file = root().join("tests/fuzz/corpus").join(target).join(&name);
        if writes() && !file.exists() {
            std::fs::write(&file, &bytes).unwrap();
        }
        assert!(file.exists(), "{} is missing; GOLDEN=write", file.display());
    }
    let seeds = [media_seeds::all(), message_seeds::all(), text_seeds::all()].concat();
    for (target, name, bytes) in seeds {
        let file = root().join("tests/fuzz/corpus").join(target).join(&name);
        if writes() {
            std::fs::write(&file, &bytes).unwrap();
        }
        let committed = std::fs::read(&file).unwrap_or_default();
        assert!(committed == bytes, "{} is not what is made today; GOLDEN=write", file.display());
    }
}
