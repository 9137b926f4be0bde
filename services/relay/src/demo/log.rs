//! The file that the demonstration's nodes log to.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Opens it empty. Lines are appended, so that another writer's lines stay whole.
///
/// # Errors
/// When it cannot be written.
pub fn open(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    File::create(path)
        .and_then(|_| File::options().append(true).open(path))
        .with_context(|| format!("the log {} cannot be written", path.display()))
}
