//! API keys, their secrets and their institutions.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Longest life of a token that a node accepts unless it is configured otherwise. LiveKit's SDKs make tokens of
/// 6 h.
pub const DEFAULT_MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Fewest characters of a secret that is not weak: as many as 16 random bytes have in hexadecimal.
pub const MIN_SECRET_CHARS: usize = 32;

/// Fewest different characters of a secret that is not weak. Of 32 random hexadecimal digits more are different, but
/// for one secret in millions.
const MIN_DIFFERENT_CHARS: usize = 8;

/// Is this secret easier to guess than a random one? A client that has a token can try secrets without limit. Length
/// and different characters are all that can be seen of it: a long sentence is not found to be weak.
#[must_use]
pub fn is_weak(secret: &str) -> bool {
    let mut chars: Vec<char> = secret.chars().collect();
    let length = chars.len();
    chars.sort_unstable();
    chars.dedup();
    length < MIN_SECRET_CHARS || chars.len() < MIN_DIFFERENT_CHARS
}

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
    pub(super) audience: Option<String>,
}

/// The API keys that this node accepts, and how long their tokens may live.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: HashMap<String, ApiKey>,
    max_life: Duration,
}

impl Default for KeyRing {
    fn default() -> Self {
        Self { keys: HashMap::new(), max_life: DEFAULT_MAX_LIFE }
    }
}

impl KeyRing {
    /// An empty key ring, which accepts no token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts tokens whose life, from `nbf` to `exp`, is at most this long.
    #[must_use]
    pub fn with_max_life(self, max_life: Duration) -> Self {
        Self { max_life, ..self }
    }

    /// The longest life of a token that is accepted.
    #[must_use]
    pub fn max_life(&self) -> Duration {
        self.max_life
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Is there no key, so that no token is accepted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds or replaces a key. A key with an empty name, secret or institution is not added, and `false` is
    /// returned: anyone could sign with an empty secret.
    pub fn insert(&mut self, key: &str, secret: &str, institution: &str) -> bool {
        if key.is_empty() || secret.is_empty() || institution.is_empty() {
            return false;
        }
        let secret = Redacted::new(secret.to_owned());
        let entry = ApiKey { secret, institution: institution.to_owned(), audience: None };
        self.keys.insert(key.to_owned(), entry);
        true
    }

    /// Accepts only tokens of this key whose `aud` names this audience: an institution that uses one key with several
    /// servers says so. `false` for an unknown key.
    pub fn require_audience(&mut self, key: &str, audience: &str) -> bool {
        let Some(entry) = self.keys.get_mut(key) else { return false };
        entry.audience = Some(audience.to_owned());
        true
    }

    /// The institution that a key belongs to.
    #[must_use]
    pub fn institution(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(|entry| entry.institution.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&ApiKey> {
        self.keys.get(key)
    }
}
