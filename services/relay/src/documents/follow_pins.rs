//! Takes changed pins from the configuration file, so that an owner can replace its keys while nodes run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::store::DocumentStore;
use crate::config::RelayConfig;

/// How often the file is read. New content is used once it was read twice in a row.
const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the configuration file until the node stops.
pub(crate) async fn run(store: Arc<DocumentStore>, file: PathBuf) {
    let mut known = std::fs::read_to_string(&file).unwrap_or_default();
    let mut seen = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        // A missing file is about to be replaced.
        let Ok(now) = tokio::fs::read_to_string(&file).await else { continue };
        if now == known {
            seen = None;
            continue;
        }
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            continue;
        }
        known = now;
        let (store, path) = (store.clone(), file.clone());
        let pinned = tokio::task::spawn_blocking(move || {
            let config = RelayConfig::load(&path)?;
            store.pin(&config.policy)
        });
        match pinned.await {
            Ok(Ok(())) => tracing::info!(
                file = %file.display(),
                "the configuration has changed: its pinned keys are in use; API keys follow, other changes need a restart"
            ),
            Ok(Err(error)) => tracing::error!(
                file = %file.display(),
                error = format!("{error:#}"),
                "the changed configuration is not used; the pinned keys stay as they were"
            ),
            Err(error) => tracing::error!(%error, "reading the configuration failed"),
        }
    }
}
