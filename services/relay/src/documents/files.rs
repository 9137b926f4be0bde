//! Notes in folders.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use systir_documents::{DocumentId, MAX_NOTE_BYTES, VerifiedDocument};

/// Most notes that are read from one folder.
const MAX_NOTES: usize = 1024;

/// What tells that a file changed: its length and its time of change.
pub(super) type FileState = (u64, Option<SystemTime>);

/// The notes (`*.note`) of a folder, by path. A folder that is not there has none.
///
/// # Errors
/// When the folder cannot be read, or has too many notes.
pub(super) fn notes(folder: &Path) -> Result<BTreeMap<PathBuf, FileState>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", folder.display())),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be read", folder.display()))?.path();
        if path.extension().is_none_or(|extension| extension != "note") {
            continue;
        }
        // A file that was removed meanwhile is not an error.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        found.insert(path, (metadata.len(), metadata.modified().ok()));
        anyhow::ensure!(found.len() <= MAX_NOTES, "{} has more than {MAX_NOTES} notes", folder.display());
    }
    Ok(found)
}

/// The text of a note; too long a file is not read whole.
///
/// # Errors
/// When the file cannot be read, is no text, or is too long.
pub(super) fn read(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut text = String::new();
    let limit = MAX_NOTE_BYTES as u64 + 1;
    file.take(limit)
        .read_to_string(&mut text)
        .with_context(|| format!("{} cannot be read as text", path.display()))?;
    anyhow::ensure!(
        text.len() <= MAX_NOTE_BYTES,
        "{}: a note has at most {MAX_NOTE_BYTES} bytes",
        path.display()
    );
    Ok(text)
}

/// The file in the state folder that keeps this document.
fn state_file(folder: &Path, id: &DocumentId) -> PathBuf {
    folder.join(format!("{}-{}.note", id.kind.as_str(), id.owner))
}

/// Keeps a document in the state folder. It is on the disk when this returns, so that after a crash no
/// older version is accepted.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn keep(folder: &Path, document: &VerifiedDocument) -> Result<()> {
    let path = state_file(folder, &document.id());
    let failed = || format!("{} cannot be written", path.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    let temporary = path.with_extension("note-new");
    let mut file = std::fs::File::create(&temporary).with_context(failed)?;
    file.write_all(document.note().as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    std::fs::rename(&temporary, &path).with_context(failed)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)
}
