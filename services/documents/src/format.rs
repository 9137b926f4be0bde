//! The first line of a document: its kind, and the number of its format, as in `systir.org/bundle/v1`. A document has no field that
//! its format does not know, because an unknown field may forbid something. So each change of what a document may say is
//! a new format, which a release reads before a later one lets anybody write it.

use systir_version::VersionRange;

use crate::error::DocumentError;

/// The formats of all documents that this release reads. It writes the newest.
pub const DOCUMENT_FORMATS: VersionRange = VersionRange::only(1);

/// Checks a document's first line. `wanted` is the one that this release writes.
pub(crate) fn check_first_line(line: &str, wanted: &str) -> Result<(), FirstLine> {
    if line == wanted {
        return Ok(());
    }
    match (parts(line), parts(wanted)) {
        (Some((kind, number)), Some((of, _))) if kind == of && !DOCUMENT_FORMATS.contains(number) => {
            Err(FirstLine::Unsupported(unsupported(kind, number)))
        }
        _ => Err(FirstLine::Other),
    }
}

/// Why a first line is not the wanted one.
pub(crate) enum FirstLine {
    /// It is of the same kind, in a format that this release does not read.
    Unsupported(DocumentError),
    /// It is something else.
    Other,
}

/// The kind and the number of the format, in its shortest decimal form.
fn parts(line: &str) -> Option<(&str, u16)> {
    let (kind, number) = line.strip_prefix("systir.org/")?.split_once("/v")?;
    let read = number.parse().ok().filter(|read: &u16| read.to_string() == number)?;
    Some((kind, read))
}

fn unsupported(kind: &str, number: u16) -> DocumentError {
    let (oldest, newest) = (DOCUMENT_FORMATS.oldest(), DOCUMENT_FORMATS.newest());
    let reads = if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") };
    let advice = if number > newest {
        "upgrade this node, or have it signed by the systirctl of this node's release"
    } else {
        "have it signed anew by the systirctl of this node's release"
    };
    let problem = format!(
        "it is a {kind} of format {number}, and this release reads format {reads}: {advice} (docs/upgrade.md)"
    );
    DocumentError { line: Some(1), problem, unsupported: true }
}
