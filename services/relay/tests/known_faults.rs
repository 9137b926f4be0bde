//! Known faults of libraries that read what anyone sends: the versions in use are beyond those that have them.

#![allow(clippy::unwrap_used, reason = "a test of the lock file, outside of test functions")]

use std::path::Path;

/// Advisory, library, and the first version without the fault.
const FAULTS: &[(&str, &str, &str)] = &[
    // One packet before the handshake ends the process. The parser is tested in `services/cascade/tests/known_faults.rs`.
    ("RUSTSEC-2026-0037", "quinn-proto", "0.11.14"),
    // Stream data out of order takes memory without limit. The version is all that is checked: quinn sends no such data. A stream
    // of a link has a window of 4 KiB, and a connection two streams.
    ("RUSTSEC-2026-0185", "quinn-proto", "0.11.15"),
    // Refusing a connection after a Retry packet ends the process.
    ("CVE-2024-45311", "quinn-proto", "0.11.7"),
    // Name constraints for URI names are ignored.
    ("RUSTSEC-2026-0098", "rustls-webpki", "0.103.12"),
    // Name constraints are not applied to wildcard names.
    ("RUSTSEC-2026-0099", "rustls-webpki", "0.103.12"),
];

/// The numbers of a version; one before a release has none.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

#[test]
fn locked_versions_are_beyond_those_with_known_faults() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock: toml::Table = std::fs::read_to_string(lock).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    for (advisory, library, fixed) in FAULTS {
        let named = packages.iter().filter(|package| package["name"].as_str() == Some(*library));
        let versions: Vec<&str> = named.filter_map(|package| package["version"].as_str()).collect();
        assert!(!versions.is_empty(), "{library} is not used any more: remove {advisory}");
        for version in versions {
            assert!(numbers(version) >= numbers(fixed), "{library} {version} has {advisory}");
        }
    }
}
