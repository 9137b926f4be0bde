//! Builds the text of a bundle or floor.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::{ArgGroup, Args, value_parser};
use serde::de::DeserializeOwned;
use systir_documents::{Bundle, Document, Floor, Guarantee, Lifetime, Vocabulary};
use systir_policy::{ClassesFile, GuaranteesFile, PolicyEngine, VocabularyFile};

use crate::document_file::{DocumentFile, FileProblems, at, profile};
use crate::{dates, files};

/// Arguments of `systirctl policy build`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("owner").required(true).args(["institution", "operator", "profile"])))]
pub(crate) struct Arguments {
    /// Builds the bundle of this institution.
    #[arg(long, requires = "vocabulary")]
    institution: Option<String>,
    /// Builds the floor of this operator.
    #[arg(long)]
    operator: Option<String>,
    /// Builds the bundle of this profile (TOML); its Cedar text is what is signed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "zones", "vocabulary", "classes", "guarantees"])]
    profile: Option<PathBuf>,
    /// The rules (Cedar).
    #[arg(long, value_name = "FILE", required_unless_present = "profile")]
    policy: Option<PathBuf>,
    /// The zones (TOML): ZONE = ["DK", ...].
    #[arg(long, value_name = "FILE")]
    zones: Option<PathBuf>,
    /// The names that the rules may use (TOML): operators, hosts, nodes, institutions.
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// Room classes by patterns of names (TOML): `[[class]]` with pattern, class, e2ee.
    #[arg(long, value_name = "FILE", conflicts_with = "operator")]
    classes: Option<PathBuf>,
    /// What is to be proved of the rules (TOML): `[[guarantee]]` with id, says, actions, holds.
    #[arg(long, value_name = "FILE")]
    guarantees: Option<PathBuf>,
    /// The version: higher than all that were published.
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    version: u64,
    /// After this date no new rooms and no new nodes in rooms, until a newer version comes.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    renew_by: u64,
    /// After this date nothing is allowed, until a newer version comes.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    not_after: u64,
    /// The time of issue; now if not given.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    issued: Option<u64>,
    /// File to write. A signed document is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Builds, checks and writes.
pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let document = document(arguments)?;
    let text = document.to_text();
    Document::parse(&text).map_err(|error| anyhow!("the {}: {}", document.id(), error.problem))?;
    check(&document, arguments)?;
    write(&arguments.out, &text)?;
    let mut out = std::io::stdout();
    let (path, id, version) = (arguments.out.display().to_string(), document.id(), document.version());
    if json {
        let fields = serde_json::json!({"file": path, "document": id.to_string(), "version": version, "signatures": 0});
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        writeln!(
            out,
            "{path}: {id}, version {version}, not signed yet\nnext: systirctl policy sign {path} --key FILE"
        )?;
    }
    Ok(())
}

fn document(arguments: &Arguments) -> Result<Document> {
    let Arguments { version, renew_by, not_after, .. } = *arguments;
    let lifetime = Lifetime { issued: arguments.issued.unwrap_or_else(dates::now), renew_by, not_after };
    if let Some(path) = &arguments.profile {
        return Ok(Document::Bundle(profile(path)?.bundle(version, lifetime)));
    }
    let policy = arguments.policy.as_deref().map(rules).transpose()?.unwrap_or_default();
    let guarantees: Vec<Guarantee> = toml::<GuaranteesFile>(arguments.guarantees.as_deref())?.into();
    let zones: BTreeMap<String, Vec<String>> = toml(arguments.zones.as_deref())?;
    let vocabulary: Vocabulary = toml::<VocabularyFile>(arguments.vocabulary.as_deref())?.into();
    if let Some(operator) = arguments.operator.clone() {
        return Ok(Document::Floor(Floor {
            operator,
            version,
            lifetime,
            vocabulary,
            zones,
            guarantees,
            policy,
        }));
    }
    Ok(Document::Bundle(Bundle {
        institution: arguments.institution.clone().unwrap_or_default(),
        version,
        lifetime,
        vocabulary,
        zones,
        classes: toml::<ClassesFile>(arguments.classes.as_deref())?.into(),
        guarantees,
        policy,
    }))
}

/// The Cedar text. Tabs and other control characters cannot be signed, so they are refused here, with their line.
fn rules(path: &Path) -> Result<String> {
    let text = files::read(path)?;
    let wrong = text.split('\n').position(|line| line.contains(char::is_control));
    if let Some(line) = wrong {
        let what =
            "a signed text has no tabs, carriage returns or other control characters; replace tabs by spaces";
        bail!(FileProblems(vec![at(path, Some(line + 1), what)]));
    }
    Ok(text)
}

/// Problems are told with the line of the source file.
fn check(document: &Document, arguments: &Arguments) -> Result<()> {
    PolicyEngine::check(document).map_err(|error| {
        let problems = error.problems.iter().map(|problem| {
            match (&arguments.policy, &arguments.profile, &problem.rule, problem.line) {
                (_, Some(profile), ..) => at(profile, None, &problem.message()),
                (None, ..) | (_, _, None, None) => problem.to_string(),
                (Some(policy), _, _, line) => at(policy, line, &problem.message()),
            }
        });
        FileProblems(problems.collect()).into()
    })
}

/// A TOML file; the default without a file.
fn toml<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = files::read(path)?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
        FileProblems(vec![at(path, line, &error.message().trim().replace('\n', "; "))]).into()
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let signed = path.exists() && DocumentFile::read(path).map_or(true, |file| file.note.is_some());
    if signed {
        bail!(
            "{} exists and is not an unsigned document: it is not overwritten; write to another file",
            path.display()
        );
    }
    files::replace(path, text)
}
