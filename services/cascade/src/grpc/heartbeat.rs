//! Is a node still there that carries people whose signalling is relayed to it? It is asked several
//! times a second while there are such people, so that they hear of its end within a second: a
//! connection that is merely silent would not tell.

use super::client::Clients;
use crate::link::table::Inner;
use crate::peer_address::PeerAddress;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use systir_proto::cluster::v1::PulseRequest;
use tokio_util::sync::CancellationToken;
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

/// The nodes whose pulse is felt.
#[derive(Debug, Default)]
pub(crate) struct Pulses(Mutex<HashMap<PeerAddress, Weak<Pulse>>>);

/// Feels the pulse of a node until nobody holds it any more.
pub(crate) fn feel(inner: &Arc<Inner>, peer: &PeerAddress) -> Arc<Pulse> {
    let mut felt = inner.pulses.0.lock().unwrap_or_else(PoisonError::into_inner);
    felt.retain(|_, pulse| pulse.strong_count() > 0);
    let known = felt.get(peer).and_then(Weak::upgrade).filter(|pulse| !pulse.lost.is_cancelled());
    known.unwrap_or_else(|| {
        let pulse = Arc::new(Pulse::default());
        felt.insert(peer.clone(), Arc::downgrade(&pulse));
        inner.tasks.spawn(watch_over(inner.clone(), peer.clone(), Arc::downgrade(&pulse)));
        pulse
    })
}

async fn watch_over(inner: Arc<Inner>, peer: PeerAddress, pulse: Weak<Pulse>) {
    let mut silence = Duration::ZERO;
    while pulse.strong_count() > 0 {
        if answers(&inner.clients, &peer, &mut silence, || limit(&inner, &peer)).await {
            silence = Duration::ZERO;
        }
        if silence >= limit(&inner, &peer) {
            break;
        }
        let pause = if silence.is_zero() { BEAT } else { LOOK };
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !silence.is_zero() {
            silence += pause;
        }
    }
    if let Some(pulse) = pulse.upgrade() {
        warn!(peer = %peer.id, "a node does not answer; people whose signalling is relayed to it are told");
        // Whoever asks it again shall not wait for the connection that is dead.
        inner.clients.forget(&peer);
        pulse.lost.cancel();
    }
}

fn limit(inner: &Inner, peer: &PeerAddress) -> Duration {
    if inner.is_up(&peer.id) { PATIENCE } else { SILENCE }
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
