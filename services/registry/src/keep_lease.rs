//! The task that keeps the own lease in etcd.

use std::sync::Arc;

use etcd_client::{Client, PutOptions};

use crate::etcd::{Shared, in_time, pauses};
use crate::lease::Lease;
use crate::registry::RegistryError;

/// Keeps this node's lease, with what the node last said of itself.
pub(crate) async fn keep_lease(shared: Arc<Shared>) {
    let mut pauses = pauses();
    let mut wanted = shared.lease.subscribe();
    loop {
        if wanted.borrow_and_update().is_none() {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Err(error) = hold(&shared, &mut wanted, &mut pauses).await {
            tracing::debug!(%error, "the lease is not held; trying again");
        }
        pauses.pause().await;
    }
}

async fn hold(
    shared: &Shared,
    wanted: &mut tokio::sync::watch::Receiver<Option<Lease>>,
    pauses: &mut crate::backoff::Backoff,
) -> Result<(), RegistryError> {
    let mut client = shared.connect().await?;
    let seconds = shared.config.lease.as_secs().max(2) as i64;
    let id = in_time(client.lease_grant(seconds, None)).await?.id();
    let (mut keeper, mut answers) = in_time(client.lease_keep_alive(id)).await?;
    let mut beat = tokio::time::interval(shared.config.lease / 3);
    loop {
        let Some(lease) = wanted.borrow_and_update().clone() else {
            let _ = in_time(client.lease_revoke(id)).await;
            return Ok(());
        };
        write(&mut client, &shared.node_key(&lease), &lease, id).await?;
        pauses.reset();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return Ok(()) },
            _ = beat.tick() => {
                in_time(keeper.keep_alive()).await?;
                let alive = in_time(answers.message()).await?;
                if alive.is_none_or(|alive| alive.ttl() <= 0) {
                    return Err(RegistryError::Refused("the lease has ended".into()));
                }
            }
        }
    }
}

async fn write(client: &mut Client, key: &str, lease: &Lease, id: i64) -> Result<(), RegistryError> {
    let value = serde_json::to_vec(lease).map_err(|error| RegistryError::Refused(error.to_string()))?;
    in_time(client.put(key, value, Some(PutOptions::new().with_lease(id)))).await.map(|_| ())
}
