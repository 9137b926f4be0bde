//! Newer documents from other nodes. Nodes state which versions they have, over links and by calls; a node fetches
//! what is newer and verifies it as it verifies a file. So a document that one node took reaches all nodes, and
//! a publisher that withholds it from one of them has to cut that node off from all others.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::RngExt as _;
use systir_cascade::HeldDocument;
use systir_documents::Acceptance;
use systir_identity::SpiffeId;
use systir_registry::{Registry, View};
use tokio::sync::mpsc;

use super::store::DocumentStore;
use crate::node_directory::NodeDirectory;

/// Offers that wait to be fetched; further ones are dropped, and peers state their versions again.
const QUEUE: usize = 64;
/// Refused offers that are remembered, so that a peer that repeats them causes no work.
const REFUSED: usize = 1024;
/// Without any change, nodes compare their versions this often.
const INTERVAL: Duration = Duration::from_secs(15);

/// A document that a peer says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    peer: SpiffeId,
    document: HeldDocument,
}

/// Collects the offers of peers.
#[derive(Debug, Clone)]
pub(crate) struct Offers {
    queue: mpsc::Sender<Offer>,
}

/// A queue of offers.
pub(crate) fn queue() -> (Offers, mpsc::Receiver<Offer>) {
    let (queue, offers) = mpsc::channel(QUEUE);
    (Offers { queue }, offers)
}

impl Offers {
    /// Takes note of what a peer has. What is newer than what this node has is fetched.
    pub(crate) fn offered(&self, store: &DocumentStore, peer: &SpiffeId, offered: Vec<HeldDocument>) {
        for document in offered {
            if self.is_newer(store, peer, &document) {
                let _ = self.queue.try_send(Offer { peer: peer.clone(), document });
            }
        }
    }

    fn is_newer(&self, store: &DocumentStore, peer: &SpiffeId, document: &HeldDocument) -> bool {
        if !store.is_pinned(&document.id) {
            return false;
        }
        let Some(newest) = store.newest(&document.id) else { return true };
        let (own, other) = (newest.hash(), document.hash);
        if newest.version() == document.version && own != other {
            store.refused("conflict");
            tracing::error!(
                %peer,
                document = %document.id,
                version = document.version,
                own = own.short(),
                other = other.short(),
                "a node has another text of the same version; this node keeps its own: the owner must sign a higher version"
            );
        }
        document.version > newest.version()
    }
}

/// Fetches the offered documents, one at a time, until the node stops.
pub(crate) async fn fetch(
    store: Arc<DocumentStore>,
    directory: Arc<NodeDirectory>,
    mut offers: mpsc::Receiver<Offer>,
) {
    let mut refused = HashSet::new();
    while let Some(Offer { peer, document }) = offers.recv().await {
        let HeldDocument { id, version, hash } = document;
        let known = store.newest(&id).is_some_and(|known| known.version() >= version);
        if known || refused.contains(&(peer.clone(), id.clone(), version, hash)) {
            continue;
        }
        let note = match directory.fetch_document(&peer, &id, version).await {
            Ok(note) => note,
            Err(error) => {
                tracing::warn!(%peer, document = %id, %error, "a newer document cannot be fetched");
                continue;
            }
        };
        let taker = store.clone();
        match tokio::task::spawn_blocking(move || taker.take(&note)).await {
            Ok(Ok((id, Acceptance::New))) => {
                tracing::info!(%peer, document = %id, "took a document from another node");
            }
            Ok(Ok((_, Acceptance::Known))) => {}
            Ok(Err(error)) => {
                tracing::warn!(%peer, document = %id, %error, "a document of another node is not taken");
                if refused.len() >= REFUSED {
                    refused.clear();
                }
                refused.insert((peer, id, version, hash));
            }
            Err(error) => tracing::error!(%error, "taking a document failed"),
        }
    }
}

/// Compares documents with all living nodes that are approved for something after each change here, with those that
/// appear, and now and then with all, until the node stops.
pub(crate) async fn compare(
    store: Arc<DocumentStore>,
    directory: Arc<NodeDirectory>,
    registry: Arc<dyn Registry>,
    own: String,
    offers: Offers,
) {
    let mut changes = store.changes();
    let mut view = registry.watch();
    let mut met = BTreeSet::new();
    loop {
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            Ok(()) = changes.changed() => met.clear(),
            Ok(()) = view.changed() => {}
            () = tokio::time::sleep(INTERVAL.mul_f64(jitter)) => met.clear(),
        }
        let living = living(&view.borrow_and_update(), &directory, &own);
        // A node that no institution approves gets no packet from here; it asks by itself.
        let new: Vec<&String> =
            living.difference(&met).filter(|node| directory.is_approved_anywhere(node)).collect();
        let answers = join_all(new.iter().map(|node| directory.exchange_documents(node))).await;
        for (node, answer) in new.iter().zip(answers) {
            match answer {
                Ok(held) => {
                    if let Some(id) = directory.id(node) {
                        offers.offered(&store, &id, held);
                    }
                }
                // It is asked again at the next change or interval.
                Err(error) => tracing::debug!(node, %error, "documents were not compared"),
            }
        }
        met = living;
    }
}

/// The other nodes that a directory lists and that have a lease.
fn living(view: &View, directory: &NodeDirectory, own: &str) -> BTreeSet<String> {
    let names = directory.names().into_iter();
    names.filter(|name| name != own && view.node(name).is_some()).collect()
}
