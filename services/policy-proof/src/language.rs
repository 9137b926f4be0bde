//! The languages of sentences.

use serde::Serialize;

/// A language of sentences and pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Danish.
    Danish,
}
