//! API keys, their secrets and their institutions.

use std::collections::HashMap;
use std::fmt;

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. The name makes every use easy to find.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

#[derive(Debug, Clone)]
pub(super) struct ApiKey {
    pub(super) secret: Redacted<String>,
    pub(super) institution: String,
}

/// The API keys that this node accepts.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(HashMap<String, ApiKey>);

impl KeyRing {
    /// An empty key ring, which accepts no token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a key. A key with an empty name, secret or institution is not added, and `false` is
    /// returned: anyone could sign with an empty secret.
    pub fn insert(&mut self, key: &str, secret: &str, institution: &str) -> bool {
        if key.is_empty() || secret.is_empty() || institution.is_empty() {
            return false;
        }
        let entry = ApiKey { secret: Redacted::new(secret.to_owned()), institution: institution.to_owned() };
        self.0.insert(key.to_owned(), entry);
        true
    }

    /// The institution that a key belongs to.
    #[must_use]
    pub fn institution(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|entry| entry.institution.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&ApiKey> {
        self.0.get(key)
    }
}
