//! Compares `Cargo.lock` with the advisories of `tests/advisories`, a copy of those of RustSec's database about our
//! dependencies, so that this needs no network.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use rustsec::advisory::{Id, Informational};
use rustsec::report::Settings;
use rustsec::{Database, Lockfile, Report};
use serde::Deserialize;
use systir_documents::rfc3339;

const RENEW: &str =
    "tests/advisories/renew, which its first lines explain, makes a new copy of the advisories";

/// After so many days the copy is old: advisories are published each week.
const OLD_DAYS: u64 = 180;

/// What `deny.toml` says about advisories.
#[derive(Deserialize)]
struct Deny {
    advisories: DenyAdvisories,
}

#[derive(Deserialize)]
struct DenyAdvisories {
    ignore: Vec<Id>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One line for each advisory that applies to a locked package and is not ignored.
fn applying(lockfile: &Lockfile, ignore: Vec<Id>) -> Result<Vec<String>> {
    let database = Database::open(&root().join("tests/advisories"))
        .context("read the advisories of tests/advisories")?;
    let informational_warnings =
        vec![Informational::Notice, Informational::Unmaintained, Informational::Unsound];
    let settings = Settings { ignore, informational_warnings, ..Settings::default() };
    let report = Report::generate(&database, lockfile, &settings);
    let line = |package: &rustsec::package::Package, advisory: &rustsec::advisory::Metadata| {
        format!("{} {}: {}, {}", package.name, package.version, advisory.id, advisory.title)
    };
    let mut lines: Vec<String> =
        report.vulnerabilities.list.iter().map(|found| line(&found.package, &found.advisory)).collect();
    let warnings = report.warnings.values().flatten();
    lines.extend(warnings.filter_map(|warning| Some(line(&warning.package, warning.advisory.as_ref()?))));
    Ok(lines)
}

#[test]
fn no_advisory_applies_to_a_dependency() -> Result<()> {
    let root = root();
    let lockfile = Lockfile::load(root.join("Cargo.lock")).context("read Cargo.lock")?;
    let deny = std::fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("read deny.toml")?;
    let found = applying(&lockfile, deny.advisories.ignore)?;
    ensure!(
        found.is_empty(),
        "advisories apply; update these packages, or state the reason in `ignore` of deny.toml:\n{}",
        found.join("\n")
    );
    Ok(())
}

#[test]
fn the_copy_of_the_advisories_was_made_for_all_dependencies() -> Result<()> {
    let root = root();
    let lockfile = Lockfile::load(root.join("Cargo.lock")).context("read Cargo.lock")?;
    let covered = std::fs::read_to_string(root.join("tests/advisories/covered"))
        .context("read tests/advisories/covered")?;
    let first = covered.lines().next().unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    if let Some(warning) = warning_of_age(first, now)? {
        // The harness shows what `eprintln!` writes only when a test fails.
        writeln!(std::io::stderr(), "{warning}")?;
    }
    let covered: BTreeSet<&str> = covered.lines().collect();
    let added: BTreeSet<&str> = lockfile
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .map(|package| package.name.as_str())
        .filter(|name| !covered.contains(name))
        .collect();
    ensure!(added.is_empty(), "no advisories were looked up of {added:?}; {RENEW}");
    Ok(())
}

/// A warning when the copy, of which this is the first line, is old.
fn warning_of_age(first: &str, now: u64) -> Result<Option<String>> {
    let date = first.split_once("database of ").and_then(|(_, rest)| rest.get(..10));
    let date = date.context("tests/advisories/covered does not begin with the date of the copy")?;
    // Dates of this form are in the order of their texts.
    let limit = rfc3339(now.saturating_sub(OLD_DAYS * 86_400));
    let old = limit.get(..10).is_some_and(|limit| date < limit);
    Ok(old.then(|| {
        format!("warning: the copy of the advisories is of {date}, more than {OLD_DAYS} days ago; {RENEW}")
    }))
}

#[test]
fn a_copy_that_is_older_than_half_a_year_is_a_warning_that_names_the_command() -> Result<()> {
    let first = "# RustSec's advisory database of 2026-03-01, the advisories of these packages";
    // 1 March and 1 September 2026.
    let (made, later) = (1_772_323_200, 1_788_220_800);
    ensure!(warning_of_age(first, made)?.is_none() && warning_of_age(first, made + 180 * 86_400)?.is_none());
    let warning = warning_of_age(first, later)?.context("a warning")?;
    ensure!(warning.contains("2026-03-01") && warning.contains("tests/advisories/renew"), "{warning}");
    ensure!(warning_of_age("", later).is_err());
    Ok(())
}

/// Versions that named advisories are about are found, so that the check above can fail.
#[test]
fn versions_with_known_faults_are_found() -> Result<()> {
    let faulty = [
        ("quinn-proto", "0.11.13", "RUSTSEC-2026-0037"),
        ("quinn-proto", "0.11.14", "RUSTSEC-2026-0185"),
        ("rustls-webpki", "0.103.11", "RUSTSEC-2026-0098"),
        ("rustls-webpki", "0.103.11", "RUSTSEC-2026-0099"),
    ];
    for (name, version, id) in faulty {
        let lock = format!(
            "version = 4\n\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\n"
        );
        let found = applying(&lock.parse()?, Vec::new())?;
        ensure!(found.iter().any(|line| line.contains(id)), "{name} {version}: {found:?}");
        let ignored = applying(&lock.parse()?, vec![id.parse()?])?;
        ensure!(ignored.iter().all(|line| !line.contains(id)), "{id} is ignored: {ignored:?}");
    }
    Ok(())
}
