//! Newer documents from other nodes. Nodes state which versions they have, over links and by calls; a node fetches
//! what is newer and verifies it as it verifies a file. So a document that one node took reaches all nodes, and
//! a publisher that withholds it from one of them has to cut that node off from all others. A peer that does not answer, or
//! offers what does not exist, delays no other peer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use rand::RngExt as _;
use systir_cascade::{CallError, HeldDocument};
use systir_documents::{Acceptance, DocumentId, NotAccepted};
use systir_identity::SpiffeId;
use systir_registry::{Registry, View};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::store::{DocumentStore, NotTaken};
use crate::node_directory::NodeDirectory;

/// Refused offers that are remembered of each peer, so that a peer that repeats them causes no work.
const REFUSED: usize = 256;
/// Without any change, nodes compare their versions this often.
const INTERVAL: Duration = Duration::from_secs(15);
/// How long a peer from which a document could not be fetched is not asked: at first, and at most. It doubles.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What peers have and this node may lack: of each peer, what it stated last.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    by_peer: Mutex<BTreeMap<SpiffeId, Vec<HeldDocument>>>,
    new: Notify,
}

impl Offers {
    fn by_peer(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, Vec<HeldDocument>>> {
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a peer has. The peer is one that an institution approves: no other gets a packet from here.
    pub(crate) fn offered(&self, store: &DocumentStore, peer: &SpiffeId, mut offered: Vec<HeldDocument>) {
        offered.retain(|document| is_wanted(store, document));
        if offered.is_empty() {
            return;
        }
        self.by_peer().insert(peer.clone(), offered);
        self.new.notify_one();
    }
}

/// Is it newer than what this node has, or another text of the same version? Of two texts the first stays; that there are two
/// is known only once the signature of the other is verified.
fn is_wanted(store: &DocumentStore, document: &HeldDocument) -> bool {
    let HeldDocument { id, version, hash } = document;
    if !store.is_pinned(id) {
        return false;
    }
    store.newest(id).is_none_or(|newest| {
        *version > newest.version() || (*version == newest.version() && *hash != newest.hash())
    })
}

/// Fetches a version of a document from a peer.
pub(crate) type Fetcher =
    Arc<dyn Fn(SpiffeId, DocumentId, u64) -> BoxFuture<'static, Result<String, CallError>> + Send + Sync>;

/// Fetches from other nodes by calls.
pub(crate) fn fetcher(directory: Arc<NodeDirectory>) -> Fetcher {
    Arc::new(move |peer, id, version| {
        let directory = directory.clone();
        Box::pin(async move { directory.fetch_document(&peer, &id, version).await })
    })
}

/// One peer, as it was when documents were last fetched from it.
#[derive(Debug, Default)]
struct Peer {
    /// What it offered and what was not taken, while documents and pins were as at `changes`.
    refused: HashSet<HeldDocument>,
    changes: u64,
    /// How often in a row it did not give a document.
    failures: u32,
    /// It is not asked before.
    not_before: Option<Instant>,
}

impl Peer {
    fn refuse(&mut self, document: HeldDocument) {
        if self.refused.len() >= REFUSED {
            self.refused.clear();
        }
        self.refused.insert(document);
    }

    fn failed(&mut self, now: Instant) {
        let [first, longest] = PAUSE;
        let pause = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures += 1;
        self.not_before = Some(now + pause);
    }
}

/// Fetches the offered documents until the node stops: of each peer one at a time, from all peers at once.
pub(crate) async fn fetch(store: Arc<DocumentStore>, fetcher: Fetcher, offers: Arc<Offers>) {
    let mut idle: HashMap<SpiffeId, Peer> = HashMap::new();
    let mut busy: BTreeSet<SpiffeId> = BTreeSet::new();
    let mut fetching = JoinSet::new();
    loop {
        let (now, mut next) = (Instant::now(), None::<Instant>);
        offers.by_peer().retain(|id, offered| {
            if busy.contains(id) {
                return true;
            }
            if let Some(later) = idle.get(id).and_then(|peer| peer.not_before).filter(|at| *at > now) {
                next = Some(next.map_or(later, |next| next.min(later)));
                return true;
            }
            busy.insert(id.clone());
            let peer = idle.remove(id).unwrap_or_default();
            let from = fetch_from(store.clone(), fetcher.clone(), id.clone(), peer, std::mem::take(offered));
            fetching.spawn(from);
            false
        });
        tokio::select! {
            () = offers.new.notified() => {}
            () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            Some(ended) = fetching.join_next() => match ended {
                Ok((id, peer)) => {
                    busy.remove(&id);
                    idle.insert(id, peer);
                }
                Err(error) => tracing::error!(%error, "fetching documents failed"),
            },
        }
    }
}

/// Fetches what one peer offered, one document after the other, until it does not give one.
async fn fetch_from(
    store: Arc<DocumentStore>,
    fetcher: Fetcher,
    id: SpiffeId,
    mut peer: Peer,
    offered: Vec<HeldDocument>,
) -> (SpiffeId, Peer) {
    let changes = *store.changes().borrow();
    if peer.changes != changes {
        // Other pins may take what these did not.
        peer.refused.clear();
        peer.changes = changes;
    }
    for document in offered {
        // Another peer may have given it meanwhile.
        if peer.refused.contains(&document) || !is_wanted(&store, &document) {
            continue;
        }
        let note = match fetcher(id.clone(), document.id.clone(), document.version).await {
            Ok(note) => note,
            Err(error) => {
                tracing::warn!(peer = %id, document = %document.id, %error, "a newer document cannot be fetched");
                peer.failed(Instant::now());
                return (id, peer);
            }
        };
        (peer.failures, peer.not_before) = (0, None);
        let taker = store.clone();
        match tokio::task::spawn_blocking(move || taker.take(&note)).await {
            Ok(Ok((taken, Acceptance::New))) => {
                tracing::info!(peer = %id, document = %taken, "took a document from another node");
            }
            // Not what was offered: it is not asked for it again.
            Ok(Ok((_, Acceptance::Known))) => peer.refuse(document),
            Ok(Err(error @ NotTaken::NotNewer(NotAccepted::Conflict { .. }))) => {
                tracing::error!(peer = %id, document = %document.id, %error, "another node has another text");
                peer.refuse(document);
            }
            // Offered again, it may be kept.
            Ok(Err(error @ NotTaken::NotKept(_))) => {
                tracing::error!(peer = %id, document = %document.id, %error, "a document of another node is not taken");
            }
            Ok(Err(error)) => {
                tracing::warn!(peer = %id, document = %document.id, %error, "a document of another node is not taken");
                peer.refuse(document);
            }
            Err(error) => tracing::error!(%error, "taking a document failed"),
        }
    }
    (id, peer)
}

/// Compares documents with all living nodes that are approved for something after each change here, with those that
/// appear, and now and then with all, until the node stops.
pub(crate) async fn compare(
    store: Arc<DocumentStore>,
    directory: Arc<NodeDirectory>,
    registry: Arc<dyn Registry>,
    own: String,
    offers: Arc<Offers>,
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
