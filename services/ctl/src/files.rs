//! Files that commands read and write.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The longest file that is read, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    read_open(path, file)
}

/// The text of a file that nobody else may read.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        bail!(
            "{path} is a secret that others may read (mode {:03o}); run `chmod 600 {path}`, and create another key if \
             someone else may have read it",
            mode & 0o777,
            path = path.display()
        );
    }
    read_open(path, file)
}

fn read_open(path: &Path, file: File) -> Result<String> {
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("{} has more than {MAX_BYTES} bytes", path.display());
    }
    Ok(text)
}

/// Writes a new file; an existing one is never overwritten. A secret file can be read by its owner only.
pub(crate) fn create(path: &Path, text: &str, secret: bool) -> Result<()> {
    create_folder(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(if secret { 0o600 } else { 0o644 });
    let mut file = options.open(path).with_context(|| format!("{} cannot be created", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// Writes a file or replaces it as a whole: a reader sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    create_folder(path)?;
    let mut name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?.to_owned();
    name.push(".new");
    let written = path.with_file_name(name);
    // A rest of an interrupted command.
    let _ = fs::remove_file(&written);
    create(&written, text, false)?;
    fs::rename(&written, path).with_context(|| format!("{} cannot be replaced", path.display()))
}

fn create_folder(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("{} cannot be created", folder.display()))
        }
        None => Ok(()),
    }
}
