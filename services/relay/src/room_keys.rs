//! The room keys in force. They are taken from the configuration file and the files that it names, again when one of these
//! changes, so that an institution can change its room key during meetings. Policy decides which of them this node may
//! hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use systir_livekit::token::Redacted;
use systir_policy::{Authority, PolicyEngine};
use systir_room_tag::{RoomKey, RoomKeys};
use tokio::sync::watch;

use crate::changed_files;
use crate::config::{FieldError, RelayConfig, RoomKeySection};
use crate::startup_files::{may_hold_keys, read};

/// The room keys of a configuration. Not all of them may be permitted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredRoomKeys(BTreeMap<String, ConfiguredRoomKey>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ConfiguredRoomKey {
    institution: String,
    key: RoomKey,
    creates: bool,
}

impl ConfiguredRoomKeys {
    /// Reads the keys.
    ///
    /// # Errors
    /// With the field and the problem, when one cannot be read.
    pub(crate) fn read(config: &RelayConfig) -> Result<Self, FieldError> {
        let mut keys = BTreeMap::new();
        for (name, section) in &config.room_keys {
            let key = room_key(&format!("room_keys.{name}"), section)?;
            let RoomKeySection { institution, creates, .. } = section;
            keys.insert(
                name.clone(),
                ConfiguredRoomKey { institution: institution.clone(), key, creates: *creates },
            );
        }
        Ok(Self(keys))
    }

    /// Those that this node may hold, the creating one of each institution first, and what is wrong with the others.
    fn permitted(&self, engine: &PolicyEngine, node: &str) -> (RoomKeys, Vec<FieldError>) {
        let (mut permitted, mut problems) = (RoomKeys::default(), Vec::new());
        let (creating, others): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, key)| key.creates);
        for (name, key) in creating.into_iter().chain(others) {
            match may_hold_keys(engine, node, &key.institution) {
                Ok(()) => permitted = permitted.with(&key.institution, key.key.clone()),
                Err(problem) => {
                    problems.push(FieldError::new(format!("room_keys.{name}.institution"), problem));
                }
            }
        }
        (permitted, problems)
    }

    /// The keys to start with.
    ///
    /// # Errors
    /// With the field and the problem, when this node may not hold one of them.
    pub(crate) fn at_start(&self, engine: &PolicyEngine, node: &str) -> Result<RoomKeys, FieldError> {
        let (keys, problems) = self.permitted(engine, node);
        problems.into_iter().next().map_or(Ok(keys), Err)
    }
}

/// Follows the configuration file and the files of keys until the node stops.
pub(crate) async fn follow(configured: watch::Sender<ConfiguredRoomKeys>, file: PathBuf) {
    // The error too is content: it is logged once.
    let read = move || {
        let config = RelayConfig::load(&file).map_err(|error| error.to_string());
        Ok(config.and_then(|config| ConfiguredRoomKeys::read(&config).map_err(|error| error.to_string())))
    };
    let known = configured.borrow().clone();
    changed_files::follow(Ok(known), read, |now| match now {
        Ok(now) => {
            configured.send_replace(now.clone());
        }
        Err(error) => {
            tracing::error!(error, "the changed room keys cannot be read; the earlier ones stay in use");
        }
    })
    .await;
}

/// Decides again which keys this node may hold, whenever they or the policy change. A key that it may not hold is not
/// used. Ends with the senders.
pub(crate) async fn permit(
    mut configured: watch::Receiver<ConfiguredRoomKeys>,
    authority: Arc<Authority>,
    mut policy_changes: watch::Receiver<u64>,
) {
    loop {
        let changed = tokio::select! {
            changed = configured.changed() => changed,
            changed = policy_changes.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let (keys, problems) =
            configured.borrow_and_update().permitted(&authority.engine(), authority.own_id());
        if keys == *authority.room_keys() && problems.is_empty() {
            continue;
        }
        for problem in problems {
            tracing::error!(%problem, "a room key is not used");
        }
        tracing::info!(keys = keys.len(), "the room keys have changed");
        authority.use_room_keys(keys);
    }
}

/// The room keys whose bytes are all equal.
pub(crate) fn guessed(config: &RelayConfig) -> impl Iterator<Item = &str> {
    let guessed = config.room_keys.iter().filter(|(name, section)| {
        room_key(&format!("room_keys.{name}"), section).is_ok_and(|key| key.has_equal_bytes())
    });
    guessed.map(|(name, _)| name.as_str())
}

fn room_key(field: &str, section: &RoomKeySection) -> Result<RoomKey, FieldError> {
    let (field, text) = match (&section.key, &section.key_file) {
        (Some(key), None) => (format!("{field}.key"), Redacted::new(key.clone())),
        (None, Some(path)) => {
            let field = format!("{field}.key_file");
            let text = read(&field, path)?;
            (field, Redacted::new(text))
        }
        _ => return Err(FieldError::new(field, "give either key or key_file")),
    };
    text.expose()
        .parse()
        .map_err(|error: systir_room_tag::NotARoomKey| FieldError::new(field, error.to_string()))
}
