//! Connections to etcd, each with the credentials that are in use when it is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, GetOptions};
use tokio::sync::watch;

use crate::registry::RegistryError;

/// Timeout of one request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What this node and etcd prove to each other with. All of it can be replaced while the node runs
/// ([`crate::EtcdRegistry::renew`]).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdCredentials {
    /// CA that signed etcd's certificate (PEM).
    pub ca: Option<String>,
    /// This node's client certificate and key (PEM).
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for EtcdCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdCredentials").finish_non_exhaustive()
    }
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    endpoints: Vec<String>,
    credentials: watch::Sender<Arc<EtcdCredentials>>,
}

impl Connector {
    pub(crate) fn new(endpoints: Vec<String>, credentials: EtcdCredentials) -> Self {
        Self { endpoints, credentials: watch::Sender::new(Arc::new(credentials)) }
    }

    /// etcd's URLs, for logs.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The credentials that are in use.
    pub(crate) fn credentials(&self) -> Arc<EtcdCredentials> {
        self.credentials.borrow().clone()
    }

    /// Changes when other credentials are in use than at this call: connect anew then.
    pub(crate) fn renewals(&self) -> watch::Receiver<Arc<EtcdCredentials>> {
        self.credentials.subscribe()
    }

    /// Uses these credentials for all connections from now on.
    pub(crate) fn use_credentials(&self, credentials: EtcdCredentials) {
        self.credentials.send_replace(Arc::new(credentials));
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Client, RegistryError> {
        with_timeout(self.dial(&self.credentials())).await
    }

    /// Does etcd accept these credentials, and may their user read this key?
    pub(crate) async fn check(
        &self,
        credentials: &EtcdCredentials,
        key: String,
    ) -> Result<(), RegistryError> {
        let mut client = with_timeout(self.dial(credentials)).await?;
        with_timeout(client.get(key, Some(GetOptions::new().with_serializable()))).await.map(drop)
    }

    pub(crate) async fn dial(&self, credentials: &EtcdCredentials) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(REQUEST_TIMEOUT)
            .with_keep_alive(Duration::from_secs(2), Duration::from_secs(2))
            .with_keep_alive_while_idle(true);
        let EtcdCredentials { ca, identity } = credentials;
        let https = self.endpoints.iter().any(|address| address.starts_with("https://"));
        if https || ca.is_some() || identity.is_some() {
            let mut tls = etcd_client::TlsOptions::new();
            if let Some(ca) = ca {
                tls = tls.ca_certificate(etcd_client::Certificate::from_pem(ca));
            }
            if let Some((certificate, key)) = identity {
                tls = tls.identity(etcd_client::Identity::from_pem(certificate, key));
            }
            options = options.with_tls(tls);
        }
        Client::connect(&self.endpoints, Some(options)).await
    }
}

/// Runs one request with [`REQUEST_TIMEOUT`]; any failure becomes a [`RegistryError`].
pub(crate) async fn with_timeout<T>(
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(etcd_client::Error::GRpcStatus(status)))
            if ["PermissionDenied", "Unauthenticated"].contains(&format!("{:?}", status.code()).as_str()) =>
        {
            Err(RegistryError::Refused(status.message().to_owned()))
        }
        Ok(Err(error)) => Err(RegistryError::Unavailable(causes(&error))),
        Err(_) => {
            Err(RegistryError::Unavailable(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))
        }
    }
}

/// The error with its causes. etcd_client prints the inner structure of a connection's error instead.
fn causes(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = if text.is_empty() { cause_text } else { format!("{text}: {cause_text}") };
        }
        source = cause.source();
    }
    text
}
