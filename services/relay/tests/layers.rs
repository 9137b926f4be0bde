//! Checks the architecture: which crate may depend on which, and what the cores must not use.

#![allow(clippy::unwrap_used, reason = "a test of the manifests, outside of test functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate of the workspace and its dependencies within the workspace, lower layers first. A crate may
/// depend only on crates listed before it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("reason", &[]),
    ("limits", &[]),
    ("version", &[]),
    ("proto", &[]),
    ("rtp", &[]),
    ("assignment", &[]),
    ("room-tag", &["assignment"]),
    ("documents", &["version"]),
    ("journal", &["documents"]),
    ("identity", &["documents"]),
    ("policy", &["reason", "assignment", "room-tag", "documents", "journal", "identity"]),
    ("policy-profile", &["documents", "policy"]),
    ("policy-proof", &["documents", "policy"]),
    ("grants", &["reason", "assignment", "documents"]),
    ("placement", &["reason", "assignment"]),
    ("drain", &[]),
    ("doctor", &["version"]),
    ("transport", &[]),
    ("allocation", &["rtp"]),
    ("forwarding", &["rtp"]),
    ("congestion", &["rtp"]),
    ("media-control", &["rtp", "transport"]),
    ("livekit", &["reason", "rtp", "media-control"]),
    (
        "room",
        &[
            "reason",
            "limits",
            "proto",
            "rtp",
            "assignment",
            "documents",
            "journal",
            "policy",
            "media-control",
            "livekit",
        ],
    ),
    ("registry", &["reason", "version", "assignment", "documents", "journal", "policy", "grants"]),
    ("worker", &["limits", "rtp", "transport", "forwarding", "congestion", "allocation", "media-control"]),
    ("cascade", &["reason", "limits", "version", "proto", "rtp", "documents", "identity", "forwarding"]),
    ("gateway", &["reason", "limits", "livekit"]),
    (
        "admission",
        &[
            "reason",
            "assignment",
            "room-tag",
            "journal",
            "policy",
            "grants",
            "placement",
            "livekit",
            "registry",
        ],
    ),
    (
        "room-runtime",
        &[
            "reason",
            "proto",
            "assignment",
            "policy",
            "placement",
            "media-control",
            "livekit",
            "room",
            "registry",
            "worker",
        ],
    ),
    ("console", &[]),
    (
        "relay",
        &[
            "reason",
            "limits",
            "version",
            "proto",
            "rtp",
            "assignment",
            "room-tag",
            "documents",
            "journal",
            "identity",
            "policy",
            "grants",
            "placement",
            "drain",
            "doctor",
            "transport",
            "forwarding",
            "media-control",
            "livekit",
            "room",
            "registry",
            "worker",
            "cascade",
            "gateway",
            "admission",
            "room-runtime",
            "console",
        ],
    ),
    (
        "ctl",
        &[
            "reason",
            "assignment",
            "room-tag",
            "documents",
            "journal",
            "identity",
            "policy",
            "policy-profile",
            "policy-proof",
            "placement",
            "drain",
            "doctor",
            "relay",
        ],
    ),
    ("load", &[]),
];

/// Crates without I/O and without a clock.
const CORES: &[&str] = &[
    "reason",
    "limits",
    "version",
    "rtp",
    "assignment",
    "room-tag",
    "documents",
    "journal",
    "policy",
    "policy-profile",
    "grants",
    "placement",
    "drain",
    "doctor",
    "transport",
    "allocation",
    "forwarding",
    "congestion",
    "media-control",
    "livekit",
    "room",
];

/// Crates that cores must not depend on.
const RUNTIME: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-stream",
    "axum",
    "axum-server",
    "hyper-util",
    "quinn",
    "quinn-udp",
    "socket2",
    "tonic",
    "reqwest",
    "etcd-client",
    "tokio-tungstenite",
];

/// The crates of the workspace by name without prefix, each with its folder and its normal (not dev)
/// dependencies.
fn crates() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let crates = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let name = short(package["name"].as_str().unwrap()).to_owned();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap().to_string_lossy().into_owned();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        (name, (folder, names))
    });
    crates.collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("systir-").unwrap_or(name).trim_start_matches("systir")
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    let crates = crates();
    for (position, (name, allowed)) in ALLOWED.iter().enumerate() {
        let below: Vec<&str> = ALLOWED.iter().take(position).map(|(name, _)| *name).collect();
        for dependency in *allowed {
            assert!(
                below.contains(dependency),
                "{name} may not depend on {dependency}, which is not listed before it"
            );
        }
        let (_, dependencies) = crates.get(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        let ours = dependencies.iter().filter(|dependency| dependency.starts_with("systir-"));
        let ours: BTreeSet<&str> = ours.map(|dependency| short(dependency)).collect();
        for dependency in &ours {
            assert!(
                allowed.contains(dependency),
                "{name} depends on {dependency}: if that is intended, add it to ALLOWED"
            );
        }
        for dependency in *allowed {
            assert!(
                ours.contains(dependency),
                "{name} no longer depends on {dependency}: remove it from ALLOWED"
            );
        }
    }
    let known: BTreeSet<&str> =
        ALLOWED.iter().map(|(name, _)| *name).chain(["tests", "hostile-node", "golden", "fuzz"]).collect();
    let unknown: Vec<_> = crates.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "crates that are not in ALLOWED: {unknown:?}");
}

/// All packages that are part of a program of this package, by name, in any version.
fn linked(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--all-features",
        ])
        .args(["--format", "{p}", "--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_relay_links_no_prover() {
    let prover = ["cedar-policy-symcc", "systir-policy-proof", "systir-policy-profile", "jiff"];
    let (relay, ctl) = (linked("systir-relay"), linked("systir-ctl"));
    for package in prover {
        assert!(!relay.contains(package), "systir-relay links {package}");
        assert!(ctl.contains(package), "systir-ctl does not link {package}: is it called otherwise now?");
    }
    assert!(relay.contains("cedar-policy"), "{relay:?}");
}

#[test]
fn cores_have_no_runtime_and_depend_on_cores_only() {
    let crates = crates();
    // `proto` without its feature `grpc`, which no core enables, is plain data. `identity` verifies certificates
    // and proofs that it is given: it opens no connection.
    let below: BTreeSet<&str> = CORES.iter().copied().chain(["proto", "identity"]).collect();
    for name in CORES {
        let (_, dependencies) = &crates[*name];
        for dependency in dependencies {
            assert!(!RUNTIME.contains(&dependency.as_str()), "the core {name} depends on {dependency}");
            let is_ours = dependency.starts_with("systir-");
            assert!(
                !is_ours || below.contains(short(dependency)),
                "{name} depends on {dependency}, which is no core"
            );
        }
    }
}

#[test]
fn cores_may_not_read_a_clock_or_ambient_randomness() {
    let crates = crates();
    for name in CORES {
        let (folder, _) = &crates[*name];
        let path = Path::new(folder).join("clippy.toml");
        let rules = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        for forbidden in
            ["std::time::Instant::now", "std::time::SystemTime::now", "rand::rng", "rand::random"]
        {
            assert!(
                rules.contains(&format!("\"{forbidden}\"")),
                "{} does not forbid {forbidden}",
                path.display()
            );
        }
    }
}
