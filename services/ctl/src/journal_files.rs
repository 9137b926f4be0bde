//! The files of journals, read line by line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use systir_journal::{JournalFile, JournalLine, MAX_LINE_BYTES};

use crate::dates;
use crate::document_file::at;
use crate::tables::printable;

/// Folders within folders that are searched: one for each node whose journal was collected.
const MAX_DEPTH: usize = 3;

/// Most unreadable lines of one file that are told one by one.
const MAX_TOLD: usize = 20;

/// Which lines are read.
#[derive(Debug, Args)]
pub(crate) struct Period {
    /// Only from this time on: 2026-12-01, which means its first second in UTC, or 2026-12-01T12:00:00Z.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    since: Option<u64>,
    /// Only before this time.
    #[arg(long, value_name = "DATE", value_parser = dates::parse)]
    until: Option<u64>,
}

impl Period {
    fn contains(&self, time_ms: u64) -> bool {
        let since = self.since.is_none_or(|since| time_ms >= since.saturating_mul(1000));
        since && self.until.is_none_or(|until| time_ms < until.saturating_mul(1000))
    }
}

/// Reads the lines of files, and of the journals' files in folders. A line that cannot be read ends nothing. Returns what is
/// wrong with those, each as `FILE:LINE: what`.
///
/// # Errors
/// When a file or a folder cannot be read, or a folder has no journal.
pub(crate) fn read(
    paths: &[PathBuf],
    period: &Period,
    mut each: impl FnMut(JournalLine),
) -> Result<Vec<String>> {
    let mut unreadable = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files = Vec::new();
            find(path, MAX_DEPTH, &mut files)?;
            if files.is_empty() {
                bail!("{} has no journal: no file named like decisions-2026-12-01.0.jsonl", path.display());
            }
            for file in files {
                read_file(&file, period, &mut each, &mut unreadable)?;
            }
        } else {
            read_file(path, period, &mut each, &mut unreadable)?;
        }
    }
    Ok(unreadable)
}

/// The files of journals in a folder and its folders, in their order.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || format!("{} cannot be read", folder.display());
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path();
        if let Some(file) = entry.file_name().to_str().and_then(JournalFile::named) {
            files.push((file, path));
        } else if depth > 0 && entry.file_type().with_context(failed)?.is_dir() {
            folders.push(path);
        }
    }
    files.sort();
    folders.sort();
    found.extend(files.into_iter().map(|(_, path)| path));
    folders.iter().try_for_each(|folder| find(folder, depth - 1, found))
}

fn read_file(
    path: &Path,
    period: &Period,
    each: &mut impl FnMut(JournalLine),
    unreadable: &mut Vec<String>,
) -> Result<()> {
    let failed = || format!("{} cannot be read", path.display());
    let mut reader = BufReader::new(File::open(path).with_context(failed)?);
    let (mut line, mut number, mut wrong) = (Vec::new(), 0, 0_usize);
    while next_line(&mut reader, &mut line).with_context(failed)? {
        number += 1;
        let read = match std::str::from_utf8(&line) {
            Ok(text) => JournalLine::parse(text).map_err(|error| error.to_string()),
            Err(_) => Err("it is not text in UTF-8".to_owned()),
        };
        match read {
            Ok(line) if period.contains(line.time_ms) => each(line),
            Ok(_) => {}
            Err(what) => {
                wrong += 1;
                if wrong <= MAX_TOLD {
                    // It quotes the line, which must not look like several.
                    let what = printable(&format!("this line cannot be read: {what}"));
                    unreadable.push(at(path, Some(number), &what));
                }
            }
        }
    }
    if wrong > MAX_TOLD {
        unreadable.push(at(path, None, &format!("{} more lines cannot be read", wrong - MAX_TOLD)));
    }
    Ok(())
}

/// The next line without its end; false at the end. Of a line that is too long the rest is left out.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        let room = (MAX_LINE_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}
