//! Signs documents.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use systir_documents::DocumentKind;
use systir_policy::SigningError;

use crate::document_file::DocumentFile;
use crate::{dates, files, key};

/// Adds the signature of a key to a document of these kinds. Refuses a document that a node would refuse.
pub(crate) fn sign(path: &Path, key_file: &Path, kinds: &[DocumentKind], json: bool) -> Result<()> {
    let file = DocumentFile::read(path)?;
    if !kinds.contains(&file.document.kind()) {
        let command = if file.document.kind() == DocumentKind::Directory { "directory" } else { "policy" };
        bail!("{} is the {}; sign it with `systirctl {command} sign`", path.display(), file.document.id());
    }
    let key = key::signing_key(key_file)?;
    let note = match file.note.clone() {
        Some(note) => systir_policy::add_signature(note, &key, dates::now()),
        None => systir_policy::sign(&file.text, &key, dates::now()),
    };
    let note = note.map_err(|error| match error {
        SigningError::Load(error) => file.problems(&error).into(),
        error => anyhow!("{}: {error}", path.display()),
    })?;
    files::replace(path, &note.to_string())?;
    let (public, signers) = (key.public(), note.signatures().len());
    let mut out = std::io::stdout();
    if json {
        let fields = serde_json::json!({
            "file": path.display().to_string(), "document": file.document.id().to_string(),
            "version": file.document.version(), "hash": note.hash(), "signatures": signers,
            "signer": {"name": public.name(), "fingerprint": public.fingerprint()},
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&fields)?)?;
    } else {
        writeln!(
            out,
            "{}: {}-{}, {}\nsigned with {} {}; signatures now: {signers}",
            path.display(),
            file.document.version(),
            note.hash().short(),
            file.document.id(),
            public.name(),
            public.fingerprint()
        )?;
    }
    Ok(())
}
