//! Heartbeats of media nodes. While this node relays signalling to a media node, it calls it every
//! 200 ms, so that a dead node is detected in 0.6 s. A silent connection alone reveals nothing.

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

/// Between a reply and the next heartbeat.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often a heartbeat without reply is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// A node without reply for this long is lost.
const TIMEOUT: Duration = Duration::from_millis(600);
/// The same while the link with it is up: then the node is alive, and only gRPC is slow.
const TIMEOUT_WITH_LINK: Duration = Duration::from_millis(2500);

/// Liveness of one media node. Heartbeats go on while this is held.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    lost: CancellationToken,
}

impl Heartbeat {
    /// Returns when the node is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Whether the link with a node is up.
type LinkIsUp = dyn Fn(&SpiffeId) -> bool + Send + Sync;

/// The heartbeats of all media nodes that this node relays signalling to.
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

    /// Starts the heartbeat of a node, or shares the running one.
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
        warn!(peer = %peer.id, "a media node does not answer heartbeats; the signalling streams to it end");
        // The next call must not wait on the dead connection.
        heartbeats.clients.remove(&peer);
        heartbeat.lost.cancel();
    }
}

/// Sends one heartbeat and adds the time without reply to `silence`. False after an error, or when
/// `silence` reaches the timeout.
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
                // A node without this method answers too.
                let alive = answer.is_ok() || answer.is_err_and(|status| status.code() == Code::Unimplemented);
                if !alive {
                    *silence += CHECK_INTERVAL;
                }
                return alive;
            }
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        // If this process was paused, the node was not silent: count two check intervals at most.
        let elapsed = last_check.elapsed();
        last_check = Instant::now();
        *silence += elapsed.min(2 * CHECK_INTERVAL);
        if *silence >= timeout() {
            return false;
        }
    }
}
