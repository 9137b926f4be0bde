//! The task that keeps this node's lease in etcd.

use std::sync::Arc;

use etcd_client::{Client, PutOptions};

use crate::backoff::Backoff;
use crate::connection::with_timeout;
use crate::lease::Lease;
use crate::registry::RegistryError;
use crate::shared::Shared;

/// Keeps this node's lease, with the node's latest report.
pub(crate) async fn keep_lease(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut wanted = shared.lease.subscribe();
    loop {
        if wanted.borrow_and_update().is_none() {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Err(error) = hold_lease(&shared, &mut wanted, &mut backoff).await {
            tracing::debug!(%error, "the lease is lost; will try again");
        }
        backoff.pause().await;
    }
}

async fn hold_lease(
    shared: &Shared,
    wanted: &mut tokio::sync::watch::Receiver<Option<Lease>>,
    backoff: &mut Backoff,
) -> Result<(), RegistryError> {
    let mut renewals = shared.connector.renewals();
    let mut client = shared.connector.connect().await?;
    let seconds = shared.config.lease.as_secs().max(2) as i64;
    let id = with_timeout(client.lease_grant(seconds, None)).await?.id();
    let (mut keeper, mut responses) = with_timeout(client.lease_keep_alive(id)).await?;
    let mut keep_alive = tokio::time::interval(shared.config.lease / 3);
    loop {
        let Some(lease) = wanted.borrow_and_update().clone() else {
            let _ = with_timeout(client.lease_revoke(id)).await;
            return Ok(());
        };
        write(&mut client, &shared.keys.node(lease.node.as_str()), &lease, id).await?;
        backoff.reset();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return Ok(()) },
            // With another certificate: the next connection writes the record again, under a lease of its own.
            _ = renewals.changed() => return Ok(()),
            _ = keep_alive.tick() => {
                with_timeout(keeper.keep_alive()).await?;
                let response = with_timeout(responses.message()).await?;
                if response.is_none_or(|response| response.ttl() <= 0) {
                    return Err(RegistryError::Refused("the lease has ended".into()));
                }
            }
        }
    }
}

async fn write(client: &mut Client, key: &str, lease: &Lease, id: i64) -> Result<(), RegistryError> {
    let value = serde_json::to_vec(lease).map_err(|error| RegistryError::Refused(error.to_string()))?;
    with_timeout(client.put(key, value, Some(PutOptions::new().with_lease(id)))).await.map(|_| ())
}
