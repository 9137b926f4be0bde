//! The log file of the demo.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Truncates and opens the file. Lines are appended, so that lines of another process are not overwritten.
///
/// # Errors
/// When it cannot be written.
pub fn open(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be created", folder.display()))?;
    }
    File::create(path)
        .and_then(|_| File::options().append(true).open(path))
        .with_context(|| format!("the log file {} cannot be written", path.display()))
}
