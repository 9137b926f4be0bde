//! Asks before a policy that permits more than the one before is signed or published.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use systir_documents::{Document, DocumentId};
use systir_policy_proof::{PolicyDiff, Prover};

use crate::document_file::DocumentFile;
use crate::gateway_client::GatewayClient;
use crate::policy::diff;
use crate::policy::engine::models_of_both;

/// The version before, and the consent.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The version before: what the new one permits more and less is shown.
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Do not ask if it permits more than the version before.
    #[arg(long)]
    allow_looser: bool,
}

impl Arguments {
    /// Compares the file with the version before, if one was given.
    pub(crate) async fn ask_before_signing(&self, file: &Path) -> Result<()> {
        let Some(previous) = &self.previous else { return Ok(()) };
        let (old, new) = (DocumentFile::read(previous)?, DocumentFile::read(file)?);
        self.ask(&old, &new, "sign").await
    }

    /// Compares the file with the version before: the one that was given, else the one that the gateway uses.
    pub(crate) async fn ask_before_publishing(&self, file: &Path, gateway: &GatewayClient) -> Result<()> {
        let new = DocumentFile::read(file)?;
        let old = match &self.previous {
            Some(previous) => DocumentFile::read(previous)?,
            None => match in_use(&new.document.id(), gateway).await? {
                Some(old) => old,
                None => return Ok(()),
            },
        };
        self.ask(&old, &new, "publish").await
    }

    async fn ask(&self, old: &DocumentFile, new: &DocumentFile, what: &str) -> Result<()> {
        if old.document.id() != new.document.id() {
            bail!(
                "{} is the {}, and {} is the {}: compare versions of one document",
                old.path.display(),
                old.document.id(),
                new.path.display(),
                new.document.id()
            );
        }
        if old.hash() == new.hash() || matches!(new.document, Document::Directory(_)) {
            return Ok(());
        }
        let mut terminal = std::io::stderr();
        let diff = match compare(old, new).await {
            Ok(diff) => diff,
            Err(error) if self.allow_looser => {
                writeln!(terminal, "not compared with the version before: {error:#}")?;
                return Ok(());
            }
            Err(error) => {
                return Err(error.context("it cannot be compared with the version before (--allow-looser)"));
            }
        };
        writeln!(terminal, "{}", diff::as_text(&diff))?;
        if !diff.is_looser() || self.allow_looser {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("it permits more than the version before; to {what} it, give --allow-looser");
        }
        write!(terminal, "It permits more than the version before. Type yes to {what} it: ")?;
        terminal.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim() == "yes" { Ok(()) } else { bail!("it was not {what}ed") }
    }
}

async fn compare(old: &DocumentFile, new: &DocumentFile) -> Result<PolicyDiff> {
    let (old, new) = models_of_both(old, new, None)?;
    Ok(Prover::start().await?.diff(&old, &new).await?)
}

/// The version that the gateway uses.
async fn in_use(id: &DocumentId, gateway: &GatewayClient) -> Result<Option<DocumentFile>> {
    let path = ["systir", "v1", "documents", id.kind.as_str(), &id.owner];
    let Some(note) = gateway.get_text(&path).await? else { return Ok(None) };
    DocumentFile::parse(Path::new("the version in use"), &note).map(Some)
}
