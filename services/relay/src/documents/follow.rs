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
    // A folder that does not answer holds up no date.
    tokio::join!(follow_clock(store.clone()), follow_folder(store, folder));
}

async fn follow_clock(store: Arc<DocumentStore>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let store = store.clone();
        // If it panics, the next look tries again.
        let _ = tokio::task::spawn_blocking(move || store.check_time()).await;
    }
}

async fn follow_folder(store: Arc<DocumentStore>, folder: PathBuf) {
    // Files that need no look until they change. At first all are read again: one may have changed since the start.
    let mut known = BTreeMap::new();
    // Those whose documents the disk did not keep, and when they are looked at again although they stay the same.
    let (mut failed, mut retry_at) = (Vec::new(), Instant::now());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut seen: Files = std::mem::take(&mut known);
        if Instant::now() >= retry_at {
            for path in failed.drain(..) {
                seen.remove(&path);
            }
        }
        let (store, folder) = (store.clone(), folder.clone());
        let looked = tokio::task::spawn_blocking(move || look(&store, &folder, seen));
        let (found, again) = looked.await.unwrap_or_default();
        known = found;
        if !again.is_empty() {
            failed.extend(again);
            retry_at = Instant::now() + RETRY_INTERVAL;
        }
    }
}

type Files = BTreeMap<PathBuf, FileState>;

/// Takes the notes that changed since the last look. Returns the files, and those whose documents the disk did not keep.
fn look(store: &DocumentStore, folder: &Path, seen: Files) -> (Files, Vec<PathBuf>) {
    let found = match files::notes(folder) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the folder of documents cannot be read");
            return (seen, Vec::new());
        }
    };
    let mut again = Vec::new();
    for (path, _) in found.iter().filter(|(path, state)| seen.get(*path) != Some(state)) {
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
                    again.push(path.clone());
                }
            }
        }
    }
    (found, again)
}
