//! Takes changed files of the folder of documents, and ends documents whose time has come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use systir_documents::{Acceptance, NotAccepted};

use super::files::{self, FileState};
use super::store::{DocumentStore, NotTaken};

/// How often the folder and the clock are read. A new document is enforced within two seconds.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often a document is tried again that the disk did not keep.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the folder and the clock until the node stops.
pub(crate) async fn run(store: Arc<DocumentStore>, folder: PathBuf) {
    // Files that need no look until they change. At first all are read again: one may have changed since the start.
    let mut known = BTreeMap::new();
    // Files whose documents the disk did not keep, and when they are tried again.
    let (mut failed, mut retry_at) = (BTreeMap::new(), Instant::now());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let waits = Instant::now() < retry_at;
        let mut seen = std::mem::take(&mut known);
        if waits {
            seen.extend(failed.clone());
        }
        let (store, folder) = (store.clone(), folder.clone());
        let looked = tokio::task::spawn_blocking(move || {
            store.check_time();
            look(&store, &folder, seen)
        });
        let (found, again) = looked.await.unwrap_or_default();
        if !waits {
            failed.clear();
        }
        if !again.is_empty() {
            failed.extend(again);
            retry_at = Instant::now() + RETRY_INTERVAL;
        }
        known = found;
        known.retain(|path, _| !failed.contains_key(path));
    }
}

type Files = BTreeMap<PathBuf, FileState>;

/// Takes the notes that changed since the last look. Returns the files, and those whose documents the disk did not keep.
fn look(store: &DocumentStore, folder: &Path, seen: Files) -> (Files, Files) {
    let found = match files::notes(folder) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the folder of documents cannot be read");
            return (seen, Files::new());
        }
    };
    let mut again = Files::new();
    for (path, state) in found.iter().filter(|(path, state)| seen.get(*path) != Some(state)) {
        let note = match files::read(path) {
            Ok(note) => note,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a document cannot be read");
                continue;
            }
        };
        match store.take(&note) {
            Ok((id, Acceptance::New)) => {
                tracing::info!(file = %path.display(), document = %id, "took a document from a file")
            }
            Ok((_, Acceptance::Known)) => {}
            // It was there at the start, and newer ones came over links.
            Err(NotTaken::NotNewer(error @ NotAccepted::Older { .. })) => {
                tracing::warn!(file = %path.display(), %error, "a document in a file is not taken");
            }
            Err(error) => {
                tracing::error!(
                    file = %path.display(),
                    %error,
                    "a document in a file is not taken; the one that was in use stays"
                );
                // The disk may work again although the file stays the same.
                if matches!(error, NotTaken::NotKept(_)) {
                    again.insert(path.clone(), *state);
                }
            }
        }
    }
    (found, again)
}
