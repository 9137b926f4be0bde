//! The task that uses new credentials for etcd.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::connection::EtcdCredentials;
use crate::shared::Shared;

/// Uses each offered credentials once etcd has accepted them. Until then the connections with the earlier ones
/// stay, so that a wrong certificate, or an etcd that does not answer, interrupts nothing.
pub(crate) async fn renew(shared: Arc<Shared>, mut offered: watch::Receiver<EtcdCredentials>) {
    while offered.changed().await.is_ok() {
        let (mut backoff, mut logged) = (Backoff::default(), false);
        loop {
            let credentials = offered.borrow_and_update().clone();
            match shared.connector.check(&credentials, shared.keys.nodes()).await {
                Ok(()) => {
                    shared.connector.use_credentials(credentials);
                    tracing::info!("etcd accepts the new certificate; connections are made anew with it");
                    break;
                }
                Err(error) if !logged => {
                    logged = true;
                    tracing::error!(
                        %error,
                        "etcd does not accept the new certificate; the old one stays in use, will try again"
                    );
                }
                Err(_) => {}
            }
            backoff.pause().await;
        }
    }
}
