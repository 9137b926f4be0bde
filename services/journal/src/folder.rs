//! The files of a journal: which one takes the next lines, and which are too old. A day begins a new file, and so does a
//! file's size; files older than the days that are kept are removed whole.

use std::collections::BTreeMap;

use systir_documents::{parse_rfc3339, rfc3339};

use crate::time::day_of;

/// Limits of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Days that are kept, besides today.
    pub keep_days: u64,
    /// Size from which a file takes no more lines, bytes.
    pub file_bytes: u64,
    /// Most bytes of one day: more is missing, so that nobody fills the disk.
    pub day_bytes: u64,
}

/// A file of a journal, by its day and its number within the day: `decisions-2026-11-29.0.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalFile {
    /// Days since 1970.
    pub day: u64,
    /// From 0.
    pub number: u32,
}

const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".jsonl";
const DAY_SECONDS: u64 = 24 * 3600;

impl JournalFile {
    /// The file with this name; `None` for a file that is not of a journal.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (day, number) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('.')?;
        let seconds = parse_rfc3339(&format!("{day}T00:00:00Z")).ok()?;
        let file = Self { day: seconds / DAY_SECONDS, number: number.parse().ok()? };
        // One name for each file.
        (file.name() == name).then_some(file)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        let midnight = rfc3339(self.day.saturating_mul(DAY_SECONDS));
        let day = midnight.split_once('T').map_or(midnight.as_str(), |(day, _)| day);
        format!("{PREFIX}{day}.{}{SUFFIX}", self.number)
    }
}

/// The files that a folder has, with their sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalFolder(BTreeMap<JournalFile, u64>);

impl JournalFolder {
    /// A folder with these files.
    pub fn new(files: impl IntoIterator<Item = (JournalFile, u64)>) -> Self {
        Self(files.into_iter().collect())
    }

    /// The file that takes `bytes` more at this time; none when the day's limit is reached.
    #[must_use]
    pub fn next(&self, now_ms: u64, bytes: u64, limits: &JournalLimits) -> Option<JournalFile> {
        let day = day_of(now_ms);
        let today = || self.0.range(JournalFile { day, number: 0 }..=JournalFile { day, number: u32::MAX });
        let used = today().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        if used.saturating_add(bytes) > limits.day_bytes {
            return None;
        }
        match today().next_back() {
            // A file takes the first lines whatever their size.
            Some((last, size)) if *size > 0 && size.saturating_add(bytes) > limits.file_bytes => {
                Some(JournalFile { day, number: last.number.checked_add(1)? })
            }
            Some((last, _)) => Some(*last),
            None => Some(JournalFile { day, number: 0 }),
        }
    }

    /// The file has this size now.
    pub fn has(&mut self, file: JournalFile, size: u64) {
        self.0.insert(file, size);
    }

    /// The file was removed.
    pub fn removed(&mut self, file: JournalFile) {
        self.0.remove(&file);
    }

    /// The files that are older than the days that are kept.
    #[must_use]
    pub fn expired(&self, now_ms: u64, limits: &JournalLimits) -> Vec<JournalFile> {
        let oldest = day_of(now_ms).saturating_sub(limits.keep_days);
        self.0.keys().copied().filter(|file| file.day < oldest).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: JournalLimits = JournalLimits { keep_days: 90, file_bytes: 1000, day_bytes: 5000 };
    const DAY_MS: u64 = DAY_SECONDS * 1000;

    #[test]
    fn a_day_and_a_full_file_begin_a_new_one() {
        let now = 20_786 * DAY_MS + 5;
        let mut folder = JournalFolder::default();
        let first = folder.next(now, 900, &LIMITS).unwrap();
        assert_eq!(first.name(), "decisions-2026-11-29.0.jsonl");
        folder.has(first, 900);
        assert_eq!(folder.next(now, 100, &LIMITS), Some(first));
        let second = folder.next(now, 101, &LIMITS).unwrap();
        assert_eq!(second.name(), "decisions-2026-11-29.1.jsonl");
        folder.has(second, 0);
        assert_eq!(folder.next(now, 2000, &LIMITS), Some(second), "a file takes its first lines");
        let tomorrow = folder.next(now + DAY_MS, 1, &LIMITS).unwrap();
        assert_eq!(tomorrow.name(), "decisions-2026-11-30.0.jsonl");
    }

    #[test]
    fn no_day_has_more_than_its_limit() {
        let now = 20_786 * DAY_MS;
        let mut folder = JournalFolder::default();
        for number in 0..5 {
            let file = folder.next(now, 1000, &LIMITS).unwrap();
            assert_eq!(file.number, number);
            folder.has(file, 1000);
        }
        assert_eq!(folder.next(now, 1, &LIMITS), None);
        assert!(folder.next(now + DAY_MS, 1, &LIMITS).is_some());
    }

    #[test]
    fn ninety_days_are_kept() {
        let file = |day| JournalFile { day, number: 0 };
        let folder = JournalFolder::new([(file(100), 1), (file(101), 1), (file(190), 1)]);
        assert_eq!(folder.expired(190 * DAY_MS, &LIMITS), []);
        assert_eq!(folder.expired(191 * DAY_MS, &LIMITS), [file(100)]);
        assert_eq!(
            folder.expired(0, &LIMITS),
            [],
            "a clock that is wrong by years removes nothing that is newer"
        );
    }

    #[test]
    fn only_names_of_journals_are_files_of_it() {
        for other in [
            "decisions-2026-11-29.0.jsonl.gz",
            "decisions-2026-11-29.00.jsonl",
            "decisions-2026-11-29.+1.jsonl",
            "decisions-2026-11-31.0.jsonl",
            "decisions-2026-11-29.jsonl",
            "bundle-ku.dk.note",
            "",
        ] {
            assert_eq!(JournalFile::named(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(day in 0_u64..2_932_896, number: u32) {
            let file = JournalFile { day, number };
            prop_assert_eq!(JournalFile::named(&file.name()), Some(file));
        }

        #[test]
        fn whatever_is_written_stays_within_the_limits(
            writes in proptest::collection::vec((0_u64..40, 1_u64..1500), 1..200),
        ) {
            let mut folder = JournalFolder::default();
            let mut days: BTreeMap<u64, u64> = BTreeMap::new();
            let mut now = 0;
            for (hours, bytes) in writes {
                now += hours * 3600 * 1000;
                let Some(file) = folder.next(now, bytes, &LIMITS) else { continue };
                prop_assert_eq!(file.day, day_of(now));
                let size = folder.0.get(&file).copied().unwrap_or_default();
                prop_assert!(size == 0 || size + bytes <= LIMITS.file_bytes);
                folder.has(file, size + bytes);
                let day = days.entry(file.day).or_default();
                *day += bytes;
                prop_assert!(*day <= LIMITS.day_bytes);
                for old in folder.expired(now, &LIMITS) {
                    prop_assert!(old.day + LIMITS.keep_days < day_of(now));
                    folder.removed(old);
                }
            }
        }
    }
}
