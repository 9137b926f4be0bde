//! After a change of documents: followed rooms, CA roots, links, and the other nodes.

use std::sync::Arc;

use systir_identity::Credentials;

use super::store::DocumentStore;
use crate::node_directory::NodeDirectory;

/// Follows the documents until the node stops. Rooms follow the same changes themselves.
pub(crate) async fn run(store: Arc<DocumentStore>, credentials: Credentials, directory: Arc<NodeDirectory>) {
    let mut changes = store.changes();
    directory.follow_rooms();
    while changes.changed().await.is_ok() {
        directory.follow_rooms();
        match store.trust() {
            Ok(roots) => credentials.trust(roots),
            Err(error) => {
                tracing::error!(%error, "the CA roots of the directories cannot be used; the old ones stay")
            }
        }
        if let Some(links) = directory.links() {
            links.end_unaccepted();
            links.announce_documents();
        }
    }
}
