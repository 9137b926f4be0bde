//! Is a node still there that carries people whose signalling is relayed to it? It is asked several
//! times a second while there are such people, so that they hear of its end within a second: a
//! connection that is merely silent would not tell.

use super::client::Clients;
use crate::peer_address::PeerAddress;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::HeartbeatRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::warn;

/// Between an answer and the next question.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often a question without an answer is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// A node that does not answer for so long is lost.
const TIMEOUT: Duration = Duration::from_millis(600);
/// The same while the link with it stands: it lives then, and only gRPC has a bad time.
const TIMEOUT_WITH_LINK: Duration = Duration::from_millis(2500);

/// The life of one node, felt while somebody holds this.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    lost: CancellationToken,
}

impl Heartbeat {
    /// Ends when the node is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Whether a link with a node stands.
type LinkIsUp = dyn Fn(&SpiffeId) -> bool + Send + Sync;

/// The nodes whose pulse is felt.
pub(crate) struct Heartbeats {
    clients: Arc<Clients>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    link_is_up: Box<LinkIsUp>,
    running: Mutex<HashMap<PeerAddress, Weak<Heartbeat>>>,
}

impl Heartbeats {
    pub(crate) fn new(
        clients: Arc<Clients>,
        tasks: TaskTracker,
        cancel: CancellationToken,
        link_is_up: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { clients, tasks, cancel, link_is_up: Box::new(link_is_up), running: Mutex::default() }
    }

    /// Feels the pulse of a node until nobody holds it any more.
    pub(crate) fn start(self: &Arc<Self>, peer: &PeerAddress) -> Arc<Heartbeat> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, heartbeat| heartbeat.strong_count() > 0);
        let known =
            running.get(peer).and_then(Weak::upgrade).filter(|heartbeat| !heartbeat.lost.is_cancelled());
        known.unwrap_or_else(|| {
            let heartbeat = Arc::new(Heartbeat::default());
            running.insert(peer.clone(), Arc::downgrade(&heartbeat));
            self.tasks.spawn(monitor(self.clone(), peer.clone(), Arc::downgrade(&heartbeat)));
            heartbeat
        })
    }

    fn timeout(&self, peer: &PeerAddress) -> Duration {
        if (self.link_is_up)(&peer.id) { TIMEOUT_WITH_LINK } else { TIMEOUT }
    }
}

async fn monitor(heartbeats: Arc<Heartbeats>, peer: PeerAddress, heartbeat: Weak<Heartbeat>) {
    let mut silence = Duration::ZERO;
    while heartbeat.strong_count() > 0 {
        if send_heartbeat(&heartbeats.clients, &peer, &mut silence, || heartbeats.timeout(&peer)).await {
            silence = Duration::ZERO;
        }
        if silence >= heartbeats.timeout(&peer) {
            break;
        }
        let pause = if silence.is_zero() { INTERVAL } else { CHECK_INTERVAL };
        tokio::select! {
            () = heartbeats.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !silence.is_zero() {
            silence += pause;
        }
    }
    if let Some(heartbeat) = heartbeat.upgrade() {
        warn!(peer = %peer.id, "a node does not answer; people whose signalling is relayed to it are told");
        // Whoever asks it again shall not wait for the connection that is dead.
        heartbeats.clients.remove(&peer);
        heartbeat.lost.cancel();
    }
}

/// Asks once; false after an error, and when the silence has become too long.
async fn send_heartbeat(
    clients: &Clients,
    peer: &PeerAddress,
    silence: &mut Duration,
    timeout: impl Fn() -> Duration,
) -> bool {
    let mut client = clients.shared(peer);
    let mut answer = std::pin::pin!(client.heartbeat(HeartbeatRequest {}));
    let mut last_check = Instant::now();
    loop {
        tokio::select! {
            answer = &mut answer => {
                // One of an older version answers too.
                let alive = answer.is_ok() || answer.is_err_and(|status| status.code() == Code::Unimplemented);
                if !alive {
                    *silence += CHECK_INTERVAL;
                }
                return alive;
            }
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        // A process that stood still has not listened: one look is worth two at most.
        let passed = last_check.elapsed();
        last_check = Instant::now();
        *silence += passed.min(2 * CHECK_INTERVAL);
        if *silence >= timeout() {
            return false;
        }
    }
}
