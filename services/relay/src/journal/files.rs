//! The files of the journal, on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use systir_journal::{JournalFile, JournalFolder, JournalLimits, day_of};

/// The owner writes; its group may read, so that an auditor needs no other right.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// Why lines were not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The disk did not take them.
    #[error("{0:#}")]
    Disk(#[from] anyhow::Error),
    /// The day's limit is reached.
    #[error("the day's limit is reached")]
    DayLimit,
}

/// The files of one node's journal.
#[derive(Debug)]
pub(crate) struct JournalFiles {
    folder: PathBuf,
    limits: JournalLimits,
    known: JournalFolder,
    open: Option<OpenFile>,
    /// The day whose old files were removed.
    cleaned: Option<u64>,
    /// A day, and the bytes of its lines for which other nodes asked.
    asked: (u64, u64),
    /// When a gap was written last.
    gap_ms: Option<u64>,
    /// Were the files of an earlier run read?
    read: bool,
}

#[derive(Debug)]
struct OpenFile {
    which: JournalFile,
    file: File,
    size: u64,
}

impl JournalFiles {
    /// The journal in this folder. Nothing is read or written yet.
    pub(crate) fn new(folder: &Path, limits: JournalLimits) -> Self {
        let (folder, known) = (folder.to_owned(), JournalFolder::default());
        Self { folder, limits, known, open: None, cleaned: None, asked: (0, 0), gap_ms: None, read: false }
    }

    /// Writes whole lines, all or none. An empty text only does what the time demands.
    ///
    /// # Errors
    /// Why nothing was written.
    pub(crate) fn write(&mut self, lines: &str, now_ms: u64) -> Result<(), NotWritten> {
        self.look(now_ms)?;
        self.clean(now_ms);
        if lines.is_empty() {
            return Ok(());
        }
        let which = self.known.next(now_ms, lines.len() as u64, &self.limits).ok_or(NotWritten::DayLimit)?;
        let mut open = match self.open.take().filter(|open| open.which == which) {
            Some(open) => open,
            None => self.open(which)?,
        };
        let written = append(&mut open, lines.as_bytes());
        self.known.has(which, open.size);
        written.with_context(|| self.folder.join(which.name()).display().to_string())?;
        self.open = Some(open);
        Ok(())
    }

    /// Has no gap been written for so long?
    pub(crate) fn gap_is_due(&self, now_ms: u64, interval_ms: u64) -> bool {
        self.gap_ms.is_none_or(|last| now_ms < last || now_ms - last >= interval_ms)
    }

    pub(crate) fn gap_written(&mut self, now_ms: u64) {
        self.gap_ms = Some(now_ms);
    }

    /// Takes place for a line that others caused. All of them have half of the day's limit, so that nobody keeps the rest out
    /// of the journal.
    pub(crate) fn take_place_of_others(&mut self, bytes: u64, now_ms: u64) -> bool {
        let today = day_of(now_ms);
        let used = if self.asked.0 == today { self.asked.1 } else { 0 };
        let sum = used.saturating_add(bytes);
        let fits = sum <= self.limits.day_bytes / 2;
        if fits {
            self.asked = (today, sum);
        }
        fits
    }

    /// Finds the files of an earlier run.
    fn look(&mut self, now_ms: u64) -> Result<()> {
        if self.read {
            return Ok(());
        }
        let failed = || format!("{} cannot be made or read", self.folder.display());
        if !self.folder.is_dir() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder).with_context(failed)?;
            // Whatever the process's umask: an auditor reads journals as a member of the group.
            fs::set_permissions(&self.folder, Permissions::from_mode(FOLDER_MODE)).with_context(failed)?;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if let Some(file) = entry.file_name().to_str().and_then(JournalFile::named) {
                found.push((file, entry.metadata().map_or(0, |metadata| metadata.len())));
            }
        }
        // Whose lines an earlier run wrote today is not known: they count as caused by others.
        let today = day_of(now_ms);
        let written = found.iter().filter(|(file, _)| file.day == today).map(|(_, size)| *size).sum::<u64>();
        self.asked = (today, written.min(self.limits.day_bytes / 4));
        self.known = JournalFolder::new(found);
        self.read = true;
        Ok(())
    }

    /// Removes the files that are too old, once a day.
    fn clean(&mut self, now_ms: u64) {
        let today = day_of(now_ms);
        if self.cleaned.replace(today) == Some(today) {
            return;
        }
        for old in self.known.expired(now_ms, &self.limits) {
            let path = self.folder.join(old.name());
            match fs::remove_file(&path) {
                Ok(()) => self.known.removed(old),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.known.removed(old),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "an old file of the journal cannot be removed");
                }
            }
        }
    }

    /// Opens a file to append to it.
    fn open(&mut self, which: JournalFile) -> Result<OpenFile> {
        let path = self.folder.join(which.name());
        let failed = || format!("{} cannot be opened", path.display());
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(FILE_MODE);
        let mut file = options.open(&path).with_context(failed)?;
        let size = file.metadata().with_context(failed)?.len();
        if size == 0 {
            file.set_permissions(Permissions::from_mode(FILE_MODE)).with_context(failed)?;
        }
        let mut open = OpenFile { which, size, file: file.try_clone().with_context(failed)? };
        // A crash may have cut the last line short: the next one begins a new line.
        let mut last = [b'\n'];
        if size > 0 {
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).with_context(failed)?;
        }
        if last != [b'\n'] {
            append(&mut open, b"\n").with_context(failed)?;
        }
        Ok(open)
    }
}

/// Appends to a file. When it fails, nothing of it stays: a full disk takes half a line.
fn append(open: &mut OpenFile, bytes: &[u8]) -> std::io::Result<()> {
    let written = open.file.write_all(bytes).and_then(|()| open.file.sync_data());
    match written {
        Ok(()) => open.size += bytes.len() as u64,
        // If this fails too, the file is opened anew, and half a line is ended there.
        Err(_) => drop(open.file.set_len(open.size)),
    }
    written
}
