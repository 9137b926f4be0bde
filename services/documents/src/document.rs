//! The documents, and which document a text is.

use std::fmt;

use serde::Serialize;

use crate::bundle::Bundle;
use crate::characters::{deceptive_problem, escaped, first_deceptive};
use crate::directory::Directory;
use crate::error::DocumentError;
use crate::floor::Floor;
use crate::format::{FirstLine, check_first_line};
use crate::lifetime::Lifetime;
use crate::note::MAX_NOTE_BYTES;
use crate::text::TomlText;

/// A document. A value of this type is not verified; see [`crate::VerifiedDocument`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An institution's policy.
    Bundle(Bundle),
    /// An operator's forbid rules.
    Floor(Floor),
    /// An operator's nodes.
    Directory(Directory),
}

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// [`Bundle`]
    Bundle,
    /// [`Floor`]
    Floor,
    /// [`Directory`]
    Directory,
}

/// Which document it is, in all its versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DocumentId {
    /// Its kind.
    pub kind: DocumentKind,
    /// The institution of a bundle; the operator of a floor or directory.
    pub owner: String,
}

impl DocumentKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Bundle, Self::Floor, Self::Directory];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Floor => "floor",
            Self::Directory => "directory",
        }
    }

    /// The first line of the text.
    #[must_use]
    pub const fn first_line(self) -> &'static str {
        match self {
            Self::Bundle => "systir.org/bundle/v1",
            Self::Floor => "systir.org/floor/v1",
            Self::Directory => "systir.org/directory/v1",
        }
    }
}

impl Document {
    /// Reads a document from the text of a note.
    ///
    /// # Errors
    /// When the text is no document; the error names the line, if it is about one.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let wrong = |line, problem: String| Err(DocumentError::new(line, problem));
        if text.len() > MAX_NOTE_BYTES {
            return wrong(
                None,
                format!("the text has {} bytes; at most {MAX_NOTE_BYTES} are allowed", text.len()),
            );
        }
        if let Some((line, character)) = first_deceptive(text) {
            return wrong(Some(line), deceptive_problem(character));
        }
        if !text.ends_with('\n') {
            return wrong(None, "the text must end with a newline".to_owned());
        }
        let (first_line, toml) = text.split_once('\n').unwrap_or_default();
        let toml = TomlText(toml);
        let mut of_kind = None;
        for kind in DocumentKind::ALL {
            match check_first_line(first_line, kind.first_line()) {
                Ok(()) => of_kind = Some(kind),
                Err(FirstLine::Unsupported(unsupported)) => return Err(unsupported),
                Err(FirstLine::Other) => {}
            }
        }
        match of_kind {
            Some(DocumentKind::Bundle) => Bundle::parse(toml).map(Self::Bundle),
            Some(DocumentKind::Floor) => Floor::parse(toml).map(Self::Floor),
            Some(DocumentKind::Directory) => Directory::parse(toml).map(Self::Directory),
            None => {
                let types: Vec<_> = DocumentKind::ALL.into_iter().map(DocumentKind::first_line).collect();
                let problem = format!(
                    "\"{}\" is not the type of a document; the first line must be one of {}",
                    escaped(first_line),
                    types.join(", ")
                );
                wrong(Some(1), problem)
            }
        }
    }

    /// The text of the document, as [`Document::parse`] reads it. The text of an invalid document does not parse.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.kind().first_line());
        match self {
            Self::Bundle(bundle) => bundle.write(&mut text),
            Self::Floor(floor) => floor.write(&mut text),
            Self::Directory(directory) => directory.write(&mut text),
        }
        text
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> DocumentKind {
        match self {
            Self::Bundle(_) => DocumentKind::Bundle,
            Self::Floor(_) => DocumentKind::Floor,
            Self::Directory(_) => DocumentKind::Directory,
        }
    }

    /// Which document it is.
    #[must_use]
    pub fn id(&self) -> DocumentId {
        DocumentId { kind: self.kind(), owner: self.owner().to_owned() }
    }

    /// The institution of a bundle; the operator of a floor or directory.
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Bundle(bundle) => &bundle.institution,
            Self::Floor(floor) => &floor.operator,
            Self::Directory(directory) => &directory.operator,
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Self::Bundle(bundle) => bundle.version,
            Self::Floor(floor) => floor.version,
            Self::Directory(directory) => directory.version,
        }
    }

    /// Its dates.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        match self {
            Self::Bundle(bundle) => bundle.lifetime,
            Self::Floor(floor) => floor.lifetime,
            Self::Directory(directory) => directory.lifetime,
        }
    }
}

/// The line of a document's text, from 1, at which its policy begins: line 1 of the Cedar text stands there. `None` if
/// the text has no policy.
#[must_use]
pub fn policy_line(text: &str) -> Option<usize> {
    let (_, toml) = text.split_once('\n')?;
    TomlText(toml).policy_line()
}

impl DocumentId {
    /// The bundle of an institution.
    #[must_use]
    pub fn bundle(institution: &str) -> Self {
        Self { kind: DocumentKind::Bundle, owner: institution.to_owned() }
    }

    /// The floor of an operator.
    #[must_use]
    pub fn floor(operator: &str) -> Self {
        Self { kind: DocumentKind::Floor, owner: operator.to_owned() }
    }

    /// The directory of an operator.
    #[must_use]
    pub fn directory(operator: &str) -> Self {
        Self { kind: DocumentKind::Directory, owner: operator.to_owned() }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.owner)
    }
}
