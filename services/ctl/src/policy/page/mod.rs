//! A page about a policy for those who do not read Cedar: a self-contained HTML file, for the screen and for A4.

mod countries;
mod html;
mod sections;
mod words;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use systir_documents::{Document, PublicKey};
use systir_policy_proof::{Language, Permissions, PolicyDiff, PolicyModel, ProofReport, Prover};

use crate::document_file::DocumentFile;
use crate::policy::engine::{model_of, models_of_both};
use crate::{dates, files, key};

/// Arguments of the page of `systirctl policy show`.
#[derive(Debug, Args)]
pub(crate) struct PageArguments {
    /// Writes a page for those who do not read Cedar to this file: what is permitted, in which order, what is never possible
    /// and proved (needs cvc5), and who signed.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The language of the page.
    #[arg(long, value_enum, default_value_t = PageLanguage::En, requires = "html")]
    language: PageLanguage,
    /// The floor of the operator on whose nodes the bundle is used.
    #[arg(long, value_name = "FILE", requires = "html")]
    floor: Option<PathBuf>,
    /// The version before: the page says what changed.
    #[arg(long, value_name = "FILE", requires = "html")]
    previous: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PageLanguage {
    /// English.
    En,
    /// Danish.
    Da,
}

/// What the page says.
struct Page<'a> {
    language: Language,
    /// Seconds since 1970.
    made: u64,
    file: &'a DocumentFile,
    floor: Option<&'a DocumentFile>,
    model: &'a PolicyModel,
    signers: Vec<Signature>,
    permissions: Permissions,
    proof: ProofReport,
    diff: Option<PolicyDiff>,
}

/// One signature of the bundle.
struct Signature {
    stated: String,
    /// The fingerprint, if the key was given and signed this text.
    verified: Option<String>,
}

/// Proves the guarantees and writes the page.
pub(crate) async fn run(
    bundle: &Path,
    keys: &[String],
    arguments: &PageArguments,
    html: &Path,
    json: bool,
) -> Result<()> {
    let file = DocumentFile::read_or_compile(bundle)?;
    if !matches!(file.document, Document::Bundle(_)) {
        bail!("{} is the {}: a page is made of a bundle", bundle.display(), file.document.id());
    }
    let floor_path = arguments.floor.as_deref();
    let floor = floor_path.map(DocumentFile::read).transpose()?;
    let model = model_of(&file, floor_path)?;
    let mut prover = Prover::start().await?;
    let proof = prover.prove(&model).await?;
    let diff = match &arguments.previous {
        Some(previous) => {
            let previous = DocumentFile::read_or_compile(previous)?;
            let (previous, model) = models_of_both(&previous, &file, floor_path)?;
            Some(prover.diff(&previous, &model).await?)
        }
        None => None,
    };
    let keys: Vec<PublicKey> = keys.iter().map(|key| key::public_key(key)).collect::<Result<_>>()?;
    let page = Page {
        language: match arguments.language {
            PageLanguage::En => Language::English,
            PageLanguage::Da => Language::Danish,
        },
        made: dates::now(),
        signers: signatures(&file, &keys)?,
        permissions: model.permissions()?,
        file: &file,
        floor: floor.as_ref(),
        model: &model,
        proof,
        diff,
    };
    files::replace(html, &page.to_html())?;
    let proved = page.proof.is_proved();
    let (path, policy) = (html.display().to_string(), &page.proof.policy);
    let text = if json {
        serde_json::to_string_pretty(&serde_json::json!({"file": path, "policy": policy, "proved": proved}))?
    } else {
        format!(
            "{path}: {policy}, {}",
            if proved { "all guarantees proved" } else { "NOT all guarantees proved" }
        )
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// A key that was given and did not sign the text is an error: the page would show a forged signature.
fn signatures(file: &DocumentFile, keys: &[PublicKey]) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for signature in file.note.iter().flat_map(|note| note.signatures()) {
        let key = keys.iter().find(|key| signature.is_by(key));
        let verified = key.filter(|key| key.verify(file.text.as_bytes(), signature.signature()));
        if key.is_some() && verified.is_none() {
            bail!("the signature of {signature} is not valid: the text was changed after it was signed");
        }
        signatures.push(Signature {
            stated: signature.to_string(),
            verified: verified.map(PublicKey::fingerprint),
        });
    }
    Ok(signatures)
}
