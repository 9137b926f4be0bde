//! Golden fixtures of formats: committed files with the bytes of each message, record and document that nodes exchange. A crate
//! keeps its own in `tests/golden/NUMBER/NAME`. NUMBER is the version that first wrote those bytes; they hold until a higher
//! number has a file of the same name. So a format that did not change has one file.
//!
//! [`Golden::check`] fails if what this release writes differs, or if it does not read what a version that it works with
//! writes. Binary formats have the extension `hex`: their bytes are written as hexadecimal digits.

// These are failures of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use systir_version::VersionRange;

/// `SYSTIR_RENEW=1` writes fixtures anew, those of the newest version only.
const RENEW: &str = "SYSTIR_RENEW";

/// The fixtures of one crate.
#[derive(Debug)]
pub struct Golden {
    folder: PathBuf,
    versions: VersionRange,
    package: &'static str,
}

impl Golden {
    /// The fixtures below this folder, of the versions that this release reads. The newest is what it writes.
    #[must_use]
    pub fn new(package: &'static str, folder: impl Into<PathBuf>, versions: VersionRange) -> Self {
        Self { folder: folder.into(), versions, package }
    }

    /// The fixtures of that name, by number.
    fn files(&self, name: &str) -> BTreeMap<u16, PathBuf> {
        let numbers = (0..=self.versions.newest())
            .map(|number| (number, self.folder.join(number.to_string()).join(name)));
        numbers.filter(|(_, path)| path.exists()).collect()
    }

    /// Compares what this release writes with the newest fixture of that name. `read` gets the bytes of each version that this
    /// release works with, and must find in them what they say.
    ///
    /// # Panics
    /// When the bytes differ: nodes of other releases would not read them, or not as they were meant.
    pub fn check(&self, name: &str, written: &[u8], mut read: impl FnMut(u16, &[u8])) {
        let text = encoded(name, written);
        let newest = self.files(name).into_values().next_back();
        let same = newest.as_ref().is_some_and(|path| std::fs::read_to_string(path).unwrap() == text);
        if !same && std::env::var_os(RENEW).is_some() {
            let path = self.folder.join(self.versions.newest().to_string()).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &text).unwrap();
        } else if !same {
            panic!("{}", self.differs(name, newest, &text));
        }
        let files = self.files(name);
        let oldest = self.versions.oldest();
        // The one that holds in the oldest version, and those since.
        let first = files.keys().copied().rfind(|number| *number <= oldest).unwrap_or(oldest);
        for (number, path) in files.range(first..) {
            read(*number, &decoded(name, &std::fs::read_to_string(path).unwrap()));
        }
    }

    fn differs(&self, name: &str, newest: Option<PathBuf>, text: &str) -> String {
        let package = self.package;
        let renew = format!("{RENEW}=1 cargo test -p {package}");
        let Some(path) = newest else {
            return format!(
                "{name} has no fixture below {}: write it with `{renew}`, and commit it",
                self.folder.display()
            );
        };
        format!(
            "{} has other bytes than this release writes. Nodes of another release read these: raise the version (VersionRange::OWN \
             and the minor version in Cargo.toml; for a document the number in its first line), unless no release has written the \
             present one. Then `{renew}` writes the fixture of the new version beside the old one, which must still be read \
             (docs/decisions/38-versions.md). This release writes:\n{text}",
            path.display()
        )
    }

    /// Checks that each fixture has one of these names.
    ///
    /// # Panics
    /// When a file is not checked by any test.
    pub fn check_names(&self, names: &[&str]) {
        for folder in std::fs::read_dir(&self.folder).unwrap() {
            let folder = folder.unwrap().path();
            if !folder.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(&folder).unwrap() {
                let file = file.unwrap();
                let name = file.file_name().to_string_lossy().into_owned();
                assert!(names.contains(&&*name), "no test reads {}: remove it", file.path().display());
            }
        }
    }
}

/// Bytes of a fixture as they are committed.
fn encoded(name: &str, bytes: &[u8]) -> String {
    if !name.ends_with(".hex") {
        return String::from_utf8(bytes.to_vec()).unwrap();
    }
    let mut text = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn decoded(name: &str, text: &str) -> Vec<u8> {
    if !name.ends_with(".hex") {
        return text.as_bytes().to_vec();
    }
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixtures of this crate's own: `hello` was changed by version 2, `room` was not.
    fn golden(versions: VersionRange) -> Golden {
        Golden::new("systir-golden", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), versions)
    }

    fn read(versions: VersionRange, name: &str, written: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut seen = Vec::new();
        golden(versions).check(name, written, |number, bytes| seen.push((number, bytes.to_vec())));
        seen
    }

    #[test]
    fn each_version_that_the_release_works_with_is_read() {
        let range = |oldest, newest| VersionRange::new(oldest, newest).unwrap();
        let (old, new) = (vec![1, 2], vec![1, 2, 3]);
        assert_eq!(read(range(1, 2), "hello.hex", &new), [(1, old.clone()), (2, new.clone())]);
        assert_eq!(read(range(0, 1), "hello.hex", &old), [(1, old)]);
        assert_eq!(read(range(2, 3), "hello.hex", &new), [(2, new)]);
        assert_eq!(read(range(2, 3), "room.json", b"{}\n"), [(1, b"{}\n".to_vec())]);
    }

    #[test]
    #[should_panic = "raise the version"]
    fn other_bytes_are_refused_with_what_to_do() {
        golden(VersionRange::only(2)).check("hello.hex", &[1, 2, 4], |_, _| {});
    }

    #[test]
    #[should_panic = "has no fixture below"]
    fn a_format_without_a_fixture_is_refused() {
        golden(VersionRange::only(2)).check("ticket.note", b"", |_, _| {});
    }

    #[test]
    #[should_panic = "no test reads"]
    fn a_fixture_that_no_test_reads_is_refused() {
        golden(VersionRange::only(2)).check_names(&["hello.hex"]);
    }
}
