//! API keys, their secrets and whose they are.

use std::collections::HashMap;
use std::fmt;

/// Something that must not be printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps it.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The thing itself; the name makes every use easy to find.
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
    /// Accepts nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key, or replaces it. A key without a name or secret would let anybody sign: it is
    /// left out, and `false` is returned.
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
