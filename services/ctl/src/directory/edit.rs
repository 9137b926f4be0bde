//! Changes the nodes of a directory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use systir_documents::{Directory, DirectoryNode, Document, IpPrefix, PublicKey};
use systir_policy::PolicyEngine;

use crate::document_file::{DocumentFile, FileProblems, at};
use crate::{dates, files, key};

/// The directory to change.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The directory.
    file: PathBuf,
    /// File to write instead; needed if the directory is signed, because the new version is not.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A later date; as before if not given.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    renew_by: Option<u64>,
    /// A later date; as before if not given.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    not_after: Option<u64>,
}

/// Arguments of `systirctl directory add`.
#[derive(Debug, Args)]
pub(crate) struct Node {
    #[command(flatten)]
    target: Target,
    /// The node's name, such as cph-1.
    #[arg(long)]
    id: String,
    /// Its SPIFFE id; spiffe://TRUST-DOMAIN/relay/ID if not given.
    #[arg(long)]
    spiffe_id: Option<String>,
    /// A public key of the node, or its .pub file. Twice while one key replaces another.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// A prefix in which its addresses lie, such as 192.0.2.0/24; may be given several times.
    #[arg(long)]
    prefix: Vec<String>,
    /// Where the machine is: Copenhagen.
    #[arg(long)]
    site: Option<String>,
    /// The region label that clients see: dk-copenhagen.
    #[arg(long)]
    region: Option<String>,
    /// The country in which the machine is, such as DK.
    #[arg(long)]
    country: Option<String>,
    /// Who owns or houses the machine; the operator if not given.
    #[arg(long)]
    host: Option<String>,
    /// The country from which the host can be compelled; as for the operator if the host is the operator.
    #[arg(long, value_name = "COUNTRY")]
    host_controlled_from: Option<String>,
}

/// Adds or changes a node.
pub(crate) fn add(arguments: &Node, json: bool) -> Result<()> {
    let (out, mut directory) = next_version(&arguments.target)?;
    let before = directory.nodes.iter().position(|node| node.id == arguments.id);
    let node = node(arguments, &directory, before.and_then(|at| directory.nodes.get(at)))?;
    match before.and_then(|at| directory.nodes.get_mut(at)) {
        Some(entry) => *entry = node,
        None => directory.nodes.push(node),
    }
    write(&out, directory, json)
}

/// Removes a node.
pub(crate) fn remove(target: &Target, id: &str, json: bool) -> Result<()> {
    let (out, mut directory) = next_version(target)?;
    let before = directory.nodes.len();
    directory.nodes.retain(|node| node.id != id);
    if directory.nodes.len() == before {
        bail!("{}: there is no node {id}", target.file.display());
    }
    write(&out, directory, json)
}

/// Replaces the roots of the trust domain.
pub(crate) fn roots(target: &Target, roots: &[PathBuf], json: bool) -> Result<()> {
    let (out, mut directory) = next_version(target)?;
    directory.roots = read_roots(roots)?;
    write(&out, directory, json)
}

/// The certificates of CAs in these files, one after the other.
pub(crate) fn read_roots(files: &[PathBuf]) -> Result<String> {
    let texts = files.iter().map(|file| -> Result<String> {
        // Carriage returns cannot be signed.
        let text = files::read(file)?.replace("\r\n", "\n");
        Ok(if text.ends_with('\n') { text } else { text + "\n" })
    });
    texts.collect()
}

/// Checks a directory and writes its text.
pub(crate) fn write(out: &Path, directory: Directory, json: bool) -> Result<()> {
    let nodes = directory.nodes.len();
    let document = Document::Directory(directory);
    let text = document.to_text();
    Document::parse(&text).map_err(|error| anyhow!("{}: {}", out.display(), error.problem))?;
    PolicyEngine::check(&document).map_err(|error| {
        FileProblems(error.problems.iter().map(|problem| at(out, None, &problem.message())).collect())
    })?;
    files::replace(out, &text)?;
    let (path, version) = (out.display(), document.version());
    let mut terminal = std::io::stdout();
    if json {
        let fields = serde_json::json!({
            "file": path.to_string(), "document": document.id().to_string(), "version": version, "nodes": nodes,
            "signatures": 0,
        });
        writeln!(terminal, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        writeln!(terminal, "{path}: {}, version {version}, nodes: {nodes}, not signed yet", document.id())?;
        writeln!(terminal, "next: systirctl directory sign {path} --key FILE")?;
    }
    Ok(())
}

/// The directory with the next version, issued now, and the file to write it to.
fn next_version(target: &Target) -> Result<(PathBuf, Directory)> {
    let file = DocumentFile::read(&target.file)?;
    let is_signed = file.note.is_some();
    let id = file.document.id();
    let Document::Directory(mut directory) = file.document else {
        bail!("{} is the {id}, and a directory is wanted", target.file.display());
    };
    let out = match &target.out {
        Some(out) if out.exists() => bail!("{} exists: it is not overwritten", out.display()),
        Some(out) => out.clone(),
        None if is_signed => bail!(
            "{} is signed, and its next version is not: write it to another file with --out",
            target.file.display()
        ),
        None => target.file.clone(),
    };
    directory.version += 1;
    let lifetime = &mut directory.lifetime;
    lifetime.issued = lifetime.issued.max(dates::now());
    lifetime.renew_by = target.renew_by.unwrap_or(lifetime.renew_by);
    lifetime.not_after = target.not_after.unwrap_or(lifetime.not_after);
    Ok((out, directory))
}

fn node(arguments: &Node, directory: &Directory, before: Option<&DirectoryNode>) -> Result<DirectoryNode> {
    let needed = |given: &Option<String>, old: Option<&String>, option: &str| {
        given
            .as_ref()
            .or(old)
            .cloned()
            .with_context(|| format!("the node {} is new: give --{option}", arguments.id))
    };
    let host = arguments.host.clone().or_else(|| before.map(|node| node.host.clone()));
    let host = host.unwrap_or_else(|| directory.operator.clone());
    // What was known of another host does not hold for this one.
    let known = before.filter(|node| node.host == host).map(|node| &node.host_controlled_from);
    let known = known.or((host == directory.operator).then_some(&directory.controlled_from));
    let keys: Vec<PublicKey> = arguments.key.iter().map(|key| key::public_key(key)).collect::<Result<_>>()?;
    let prefixes = arguments.prefix.iter().map(|prefix| prefix.parse::<IpPrefix>());
    let prefixes: Vec<IpPrefix> = prefixes.collect::<Result<_, _>>()?;
    if before.is_none() && (keys.is_empty() || prefixes.is_empty()) {
        bail!("the node {} is new: give its --key and --prefix", arguments.id);
    }
    let kept = |new: Vec<PublicKey>| match before {
        Some(node) if new.is_empty() => node.keys.clone(),
        _ => new,
    };
    Ok(DirectoryNode {
        id: arguments.id.clone(),
        spiffe_id: arguments
            .spiffe_id
            .clone()
            .or_else(|| before.map(|node| node.spiffe_id.clone()))
            .unwrap_or_else(|| format!("spiffe://{}/relay/{}", directory.trust_domain, arguments.id)),
        keys: kept(keys),
        prefixes: match before {
            Some(node) if prefixes.is_empty() => node.prefixes.clone(),
            _ => prefixes,
        },
        site: needed(&arguments.site, before.map(|node| &node.site), "site")?,
        region: needed(&arguments.region, before.map(|node| &node.region), "region")?,
        country: needed(&arguments.country, before.map(|node| &node.country), "country")?,
        host_controlled_from: needed(&arguments.host_controlled_from, known, "host-controlled-from")?,
        host,
    })
}
