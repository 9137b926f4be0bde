//! Runs each body over its corpus and over mutations of it: the bodies stay up to date, and inputs that
//! a fuzzer found are tested again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use systir_fuzz::TARGETS;
use systir_fuzz::mutate::Mutator;

/// The number of mutations of each corpus.
const ROUNDS: u64 = 4_000;
/// For bodies that take about a millisecond.
const SLOW_ROUNDS: u64 = 150;
const SLOW: [&str; 4] = ["policy", "config", "signal", "dtls"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Multiplies the mutations: `FUZZ_TIMES=1000 cargo test --test corpus` runs for a night without a
/// fuzzer.
fn times() -> u64 {
    let times = std::env::var("FUZZ_TIMES").ok();
    times.map_or(1, |times| times.parse().expect("FUZZ_TIMES is a number"))
}

#[test]
fn no_body_panics_on_its_corpus_or_on_mutations_of_it() {
    for (number, (name, body)) in (1..).zip(TARGETS) {
        let seeds = corpus(name);
        let mut mutator = Mutator::new(number);
        let rounds = times() * if SLOW.contains(name) { SLOW_ROUNDS } else { ROUNDS };
        let mutations = (0..rounds).map(|_| mutator.make(&seeds));
        for input in seeds.iter().cloned().chain(mutations) {
            let run = std::panic::catch_unwind(|| body(&input));
            assert!(run.is_ok(), "{name} panics on {input:02x?}");
        }
    }
}

#[test]
fn bodies_and_fuzz_targets_match() {
    let targets: BTreeSet<String> = std::fs::read_dir(folder().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, bodies);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in &bodies {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\n")),
            "{name} is missing in tests/fuzz/Cargo.toml"
        );
    }
}
