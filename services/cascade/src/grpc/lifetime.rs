//! Ends each connection when the first of its two certificates expires. The node that dialled it extends it before:
//! it makes a new connection, on which both nodes prove their identities with the certificates that they have by
//! then, and calls `Renew` on it. The old connection and its streams continue, so that no participant notices.

use super::client;
use super::connection::NodeConnection;
use super::dialler::NodeDialler;
use crate::authenticator::OwnIdentity;
use crate::event::DownReason;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use systir_proto::cluster::v1::RenewRequest;
use tracing::{debug, info, warn};

/// A wait is divided into pieces of this length: the wall clock may be set, and the computer suspended.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Between two attempts to renew, at least.
const MIN_RENEW_INTERVAL: Duration = Duration::from_millis(500);
/// How often a connection looks whether one of its nodes may have another node key or certificate.
const IDENTITY_INTERVAL: Duration = Duration::from_secs(5);
/// When so little time is left, each failure to renew is a warning.
const SOON: Duration = Duration::from_secs(60);
const RENEW_TIMEOUT: Duration = Duration::from_secs(3);

/// Ends an accepted connection at its end. Returns when it has ended.
pub(super) async fn expire(connection: Arc<NodeConnection>) {
    let mut changed = connection.watch_until();
    loop {
        let left = left_until(connection.until());
        if left.is_zero() {
            return connection.end(DownReason::CertificateExpired);
        }
        tokio::select! {
            () = connection.ended() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(left.min(MAX_WAIT)) => {}
        }
    }
}

/// Renews a dialled connection, on which this node proved `proved`, until it ends.
pub(super) async fn renew(
    dialler: Arc<NodeDialler>,
    connection: Arc<NodeConnection>,
    to: SocketAddr,
    mut proved: OwnIdentity,
) {
    let renewals = async {
        let mut changed = connection.watch_until();
        loop {
            // Half of the time that is left: early enough for several attempts, and each end may have got its new
            // certificate since the last one.
            let next = SystemTime::now() + (left_until(connection.until()) / 2).max(MIN_RENEW_INTERVAL);
            tokio::select! {
                () = wait_until(next) => {}
                () = identity_may_have_changed(&dialler, &connection, &proved) => {}
                _ = changed.changed() => continue,
            }
            let own = dialler.authenticator.own_identity();
            let own_changed = !own.is_same(&proved);
            let renewal = renew_once(&dialler, &connection, to, own_changed);
            let renewed = tokio::time::timeout(RENEW_TIMEOUT, renewal).await;
            let peer = connection.peer();
            let reason = match renewed.unwrap_or_else(|_| Err("no answer within 3 s".to_owned())) {
                Ok(true) => {
                    proved = own;
                    dialler.authenticator.counters.renewed();
                    info!(peer = %peer.id(), "a connection continues with renewed certificates or node keys");
                    continue;
                }
                Ok(false) => "the certificate of one of the nodes has not been renewed yet".to_owned(),
                Err(reason) => reason,
            };
            let left = left_until(connection.until());
            if left < SOON {
                warn!(peer = %peer.id(), ?left, reason, "a connection to a node ends soon");
            } else {
                debug!(peer = %peer.id(), reason, "a connection was not renewed");
            }
        }
    };
    tokio::select! {
        () = dialler.cancel.cancelled() => {}
        () = expire(connection.clone()) => {}
        () = renewals => {}
    }
}

/// Returns after a while, if this node has another node key or certificate than it proved, or the peer may have.
async fn identity_may_have_changed(dialler: &NodeDialler, connection: &NodeConnection, proved: &OwnIdentity) {
    loop {
        tokio::time::sleep(IDENTITY_INTERVAL).await;
        let authenticator = &dialler.authenticator;
        let own_changed = !authenticator.own_identity().is_same(proved);
        if own_changed || authenticator.may_change_identity(connection.peer().id()) {
            return;
        }
    }
}

/// Moves a connection, at both ends, to other certificates or node keys: both nodes have proved the present ones, which the
/// directory lists, on a connection of the same node. False when certificates and keys are still the old ones.
async fn renew_once(
    dialler: &NodeDialler,
    connection: &NodeConnection,
    to: SocketAddr,
    own_changed: bool,
) -> Result<bool, String> {
    let before = connection.peer();
    let stream = dialler.connect_once(before.id(), to).await.map_err(|error| client::causes(&error))?;
    let newer = stream.connection().clone();
    let peer = newer.peer();
    // The certificates too: a new one of another CA may end earlier.
    let peer_changed = peer != before;
    if newer.until() <= connection.until() && !own_changed && !peer_changed {
        return Ok(false);
    }
    let mut client = client::on_stream(stream).await?;
    let request = RenewRequest { connection: connection.secret.to_vec().into() };
    client.renew(request).await.map_err(|status| client::causes(&status))?;
    connection.renew(peer, newer.until());
    Ok(true)
}

fn left_until(end: SystemTime) -> Duration {
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn wait_until(end: SystemTime) {
    loop {
        let left = left_until(end);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(MAX_WAIT)).await;
    }
}
