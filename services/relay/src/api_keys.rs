//! The API keys in force. They are taken from the configuration file and the files that it names, again when one of
//! these changes. A removed key signs no further join; participants who are in a room stay.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use systir_livekit::token::{KeyRing, MIN_SECRET_CHARS, Redacted, is_weak};
use systir_policy::{Authority, PolicyEngine};

use crate::changed_files;
use crate::config::{ApiKeySection, FieldError, RelayConfig};
use crate::startup_files::{may_hold_keys, read};

/// The API keys of a configuration, with their secrets. Not all of them may be permitted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredKeys {
    keys: BTreeMap<String, ConfiguredKey>,
    /// The key that signs guest tokens of the meeting page.
    guest: Option<String>,
    /// Longest life of a token.
    max_life: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ConfiguredKey {
    institution: String,
    secret: Redacted<String>,
    audience: Option<String>,
    allow_weak_secret: bool,
}

/// The keys that this node accepts.
#[derive(Debug, Clone, Default)]
struct PermittedKeys {
    ring: Arc<KeyRing>,
    guest: Option<(String, Redacted<String>)>,
}

impl ConfiguredKeys {
    /// Reads the secrets.
    ///
    /// # Errors
    /// With the field and the problem, when a file cannot be read.
    pub(crate) fn read(config: &RelayConfig) -> Result<Self, FieldError> {
        let mut keys = BTreeMap::new();
        for (name, key) in &config.keys {
            let key = ConfiguredKey {
                institution: key.institution.clone(),
                secret: Redacted::new(secret(&format!("keys.{name}"), key)?),
                audience: key.audience.clone(),
                allow_weak_secret: key.allow_weak_secret,
            };
            keys.insert(name.clone(), key);
        }
        let max_life = Duration::from_secs(3600 * u64::from(config.http.max_token_hours));
        Ok(Self { keys, guest: config.page.guest_key.clone(), max_life })
    }

    /// Those that this node may hold, and what is wrong with each of the others.
    fn permitted(&self, engine: &PolicyEngine, node: &str) -> (PermittedKeys, Vec<FieldError>) {
        let (mut ring, mut problems) = (KeyRing::new().with_max_life(self.max_life), Vec::new());
        for (name, key) in &self.keys {
            match key.check(name, engine, node) {
                Ok(()) => {
                    ring.insert(name, key.secret.expose(), &key.institution);
                    if let Some(audience) = &key.audience {
                        ring.require_audience(name, audience);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        let guest = self.guest.as_ref().filter(|name| ring.institution(name).is_some());
        let guest = guest.and_then(|name| Some((name.clone(), self.keys.get(name)?.secret.clone())));
        (PermittedKeys { ring: Arc::new(ring), guest }, problems)
    }
}

impl ConfiguredKey {
    fn check(&self, name: &str, engine: &PolicyEngine, node: &str) -> Result<(), FieldError> {
        let field = format!("keys.{name}");
        if name.is_empty() || self.secret.expose().is_empty() || self.institution.is_empty() {
            return Err(FieldError::new(field, "name, secret and institution must not be empty"));
        }
        if !self.allow_weak_secret && is_weak(self.secret.expose()) {
            let problem = format!(
                "its secret can be guessed: use {MIN_SECRET_CHARS} or more random characters (openssl rand -hex 32); for tests on \
                 loopback write allow_weak_secret = true"
            );
            return Err(FieldError::new(field, problem));
        }
        may_hold_keys(engine, node, &self.institution)
            .map_err(|problem| FieldError::new(format!("{field}.institution"), problem))
    }
}

/// The API keys in force on a running node.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    node: String,
    configured: ConfiguredKeys,
    permitted: RwLock<PermittedKeys>,
}

impl ApiKeys {
    /// The keys to start with.
    ///
    /// # Errors
    /// With the field and the problem, when this node may not hold one of them.
    pub(crate) fn new(config: &RelayConfig, engine: &PolicyEngine) -> Result<Self, FieldError> {
        let (configured, node) = (ConfiguredKeys::read(config)?, config.node.name.clone());
        let (permitted, problems) = configured.permitted(engine, &node);
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Self { node, configured, permitted: RwLock::new(permitted) }),
        }
    }

    // A poisoned lock is safe to use: its value is replaced as a whole.
    fn permitted(&self) -> PermittedKeys {
        self.permitted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys that verify tokens.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        self.permitted().ring
    }

    /// The keys that verify tokens, and name and secret of the one that signs guest tokens; none when there are no
    /// guests.
    pub(crate) fn ring_and_guest(&self) -> (Arc<KeyRing>, Option<(String, Redacted<String>)>) {
        let PermittedKeys { ring, guest } = self.permitted();
        (ring, guest)
    }

    /// Uses changed keys. A key that this node may not hold is not used, and a removed one is not used any more,
    /// whatever is wrong with the others.
    fn replace(&self, configured: &ConfiguredKeys, engine: &PolicyEngine) {
        let (permitted, problems) = configured.permitted(engine, &self.node);
        for problem in problems {
            tracing::error!(%problem, "a changed API key is not used");
        }
        tracing::info!(keys = permitted.ring.len(), "the API keys have changed");
        *self.permitted.write().unwrap_or_else(PoisonError::into_inner) = permitted;
    }
}

/// Follows the configuration file and the files of secrets until the node stops.
pub(crate) async fn follow(keys: Arc<ApiKeys>, authority: Arc<Authority>, file: PathBuf) {
    // The error too is content: it is logged once.
    let read = move || {
        let config = RelayConfig::load(&file).map_err(|error| error.to_string());
        Ok(config.and_then(|config| ConfiguredKeys::read(&config).map_err(|error| error.to_string())))
    };
    changed_files::follow(Ok(keys.configured.clone()), read, |now| match now {
        Ok(configured) => keys.replace(configured, &authority.engine()),
        Err(error) => {
            tracing::error!(error, "the changed API keys cannot be read; the earlier ones stay in use");
        }
    })
    .await;
}

fn secret(field: &str, key: &ApiKeySection) -> Result<String, FieldError> {
    match (&key.secret, &key.secret_file) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Some(path)) => Ok(read(&format!("{field}.secret_file"), path)?.trim_end().to_owned()),
        (None, None) => Ok(String::new()),
    }
}
