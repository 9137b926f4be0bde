//! Is a node still there that carries people whose signalling is relayed to it? It is asked several
//! times a second while there are such people, so that they hear of its end within a second: a
//! connection that is merely silent would not tell.

use super::client::Clients;
use crate::peer_address::PeerAddress;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::PulseRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::warn;

/// Between an answer and the next question.
const BEAT: Duration = Duration::from_millis(200);
/// How often a question without an answer is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A node that does not answer for so long is lost.
const SILENCE: Duration = Duration::from_millis(600);
/// The same while the link with it stands: it lives then, and only gRPC has a bad time.
const PATIENCE: Duration = Duration::from_millis(2500);

/// The life of one node, felt while somebody holds this.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    lost: CancellationToken,
}

impl Pulse {
    /// Ends when the node is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// Whether a link with a node stands.
type LinkIsUp = dyn Fn(&SpiffeId) -> bool + Send + Sync;

/// The nodes whose pulse is felt.
pub(crate) struct Pulses {
    clients: Arc<Clients>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    link_is_up: Box<LinkIsUp>,
    felt: Mutex<HashMap<PeerAddress, Weak<Pulse>>>,
}

impl Pulses {
    pub(crate) fn new(
        clients: Arc<Clients>,
        tasks: TaskTracker,
        cancel: CancellationToken,
        link_is_up: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { clients, tasks, cancel, link_is_up: Box::new(link_is_up), felt: Mutex::default() }
    }

    /// Feels the pulse of a node until nobody holds it any more.
    pub(crate) fn feel(self: &Arc<Self>, peer: &PeerAddress) -> Arc<Pulse> {
        let mut felt = self.felt.lock().unwrap_or_else(PoisonError::into_inner);
        felt.retain(|_, pulse| pulse.strong_count() > 0);
        let known = felt.get(peer).and_then(Weak::upgrade).filter(|pulse| !pulse.lost.is_cancelled());
        known.unwrap_or_else(|| {
            let pulse = Arc::new(Pulse::default());
            felt.insert(peer.clone(), Arc::downgrade(&pulse));
            self.tasks.spawn(watch_over(self.clone(), peer.clone(), Arc::downgrade(&pulse)));
            pulse
        })
    }

    fn limit(&self, peer: &PeerAddress) -> Duration {
        if (self.link_is_up)(&peer.id) { PATIENCE } else { SILENCE }
    }
}

async fn watch_over(pulses: Arc<Pulses>, peer: PeerAddress, pulse: Weak<Pulse>) {
    let mut silence = Duration::ZERO;
    while pulse.strong_count() > 0 {
        if answers(&pulses.clients, &peer, &mut silence, || pulses.limit(&peer)).await {
            silence = Duration::ZERO;
        }
        if silence >= pulses.limit(&peer) {
            break;
        }
        let pause = if silence.is_zero() { BEAT } else { LOOK };
        tokio::select! {
            () = pulses.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !silence.is_zero() {
            silence += pause;
        }
    }
    if let Some(pulse) = pulse.upgrade() {
        warn!(peer = %peer.id, "a node does not answer; people whose signalling is relayed to it are told");
        // Whoever asks it again shall not wait for the connection that is dead.
        pulses.clients.forget(&peer);
        pulse.lost.cancel();
    }
}

/// Asks once; false after an error, and when the silence has become too long.
async fn answers(
    clients: &Clients,
    peer: &PeerAddress,
    silence: &mut Duration,
    limit: impl Fn() -> Duration,
) -> bool {
    let mut client = clients.shared(peer);
    let mut answer = std::pin::pin!(client.pulse(PulseRequest {}));
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            answer = &mut answer => {
                // One of an older version answers too.
                let there = answer.is_ok() || answer.is_err_and(|status| status.code() == Code::Unimplemented);
                if !there {
                    *silence += LOOK;
                }
                return there;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        // A process that stood still has not listened: one look is worth two at most.
        let passed = looked.elapsed();
        looked = Instant::now();
        *silence += passed.min(2 * LOOK);
        if *silence >= limit() {
            return false;
        }
    }
}
