//! Signs documents.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use systir_documents::{DocumentKind, Note, rfc3339};

use crate::document_file::DocumentFile;
use crate::{dates, files, key};

/// A clock may be this far behind the clock of the computer that built the document, seconds.
const SKEW: u64 = 3600;

/// Adds the signature of a key to a document of these kinds. Refuses a document that a node would refuse.
pub(crate) fn sign(path: &Path, key_file: &Path, kinds: &[DocumentKind], json: bool) -> Result<()> {
    let file = DocumentFile::read(path)?;
    if !kinds.contains(&file.document.kind()) {
        let command = if file.document.kind() == DocumentKind::Directory { "directory" } else { "policy" };
        bail!("{} is the {}; sign it with `systirctl {command} sign`", path.display(), file.document.id());
    }
    file.check()?;
    check_dates(&file, dates::now())?;
    let key = key::signing_key(key_file)?;
    let note = match file.note {
        Some(mut note) => note.add_signature(&key).map(|()| note),
        None => Note::sign(&file.text, &key),
    };
    let note = note.with_context(|| path.display().to_string())?;
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

/// A document that is issued later could not be replaced until then, and one that has ended is good for nothing.
fn check_dates(file: &DocumentFile, now: u64) -> Result<()> {
    let lifetime = file.document.lifetime();
    let path = file.path.display();
    if lifetime.issued > now + SKEW {
        bail!(
            "{path}: it is issued at {}, in the future; nodes would count its owner's other documents as old from that \
             time on",
            rfc3339(lifetime.issued)
        );
    }
    if lifetime.not_after < now {
        bail!("{path}: it ended at {}; build it with a later not_after", rfc3339(lifetime.not_after));
    }
    Ok(())
}
