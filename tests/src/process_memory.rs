//! What is in the memory of a process.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, Result, ensure};

/// Read at once, bytes.
const CHUNK: usize = 1 << 20;

/// The texts that are in the writable memory of a process.
///
/// # Errors
/// When the process does not run, or its memory may not be read.
pub fn texts_in_memory<'a>(pid: u32, texts: &[&'a str]) -> Result<Vec<&'a str>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("the process does not run")?;
    let mut memory =
        File::open(format!("/proc/{pid}/mem")).context("the memory of the process cannot be read")?;
    let (mut found, mut read_bytes) = (Vec::new(), 0);
    let overlap = texts.iter().map(|text| text.len()).max().unwrap_or_default();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(access)) = (fields.next(), fields.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        if !access.starts_with("rw") {
            continue;
        }
        let (mut at, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut window: Vec<u8> = Vec::new();
        while at < end {
            let length = CHUNK.min(usize::try_from(end - at)?);
            let kept = window.len().saturating_sub(overlap);
            window.drain(..kept);
            let begin = window.len();
            window.resize(begin + length, 0);
            // Some mappings cannot be read, such as those of devices.
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut window[begin..]).is_err() {
                break;
            }
            read_bytes += length;
            let window = String::from_utf8_lossy(&window);
            found.extend(texts.iter().filter(|text| window.contains(**text)));
            at += length as u64;
        }
    }
    ensure!(read_bytes > 0, "no memory of process {pid} can be read");
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
