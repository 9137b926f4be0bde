//! Clients of other nodes' gRPC servers.

use super::call_error::CallError;
use super::tls;
use crate::peer_address::PeerAddress;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use systir_identity::{Credentials, SpiffeId};
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection without an HTTP/2 PING reply for `KEEP_ALIVE_TIMEOUT` is closed with all its streams.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Shared connections, at most.
const MAX_CHANNELS: usize = 256;
/// Bytes of a message, at most. The state of a whole room must fit.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// Clients of other nodes. Calls to one peer share a connection.
pub(crate) struct Clients {
    credentials: Credentials,
    channels: Mutex<HashMap<(SpiffeId, SocketAddr), Channel>>,
}

impl Clients {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, channels: Mutex::default() }
    }

    /// A client on the shared connection to the peer.
    pub(crate) fn shared(&self, peer: &PeerAddress) -> ClusterClient<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.id.clone(), peer.grpc);
        if channels.len() >= MAX_CHANNELS && !channels.contains_key(&key) {
            channels.clear();
        }
        let channel = channels.entry(key).or_insert_with(|| {
            let (credentials, id, address) = (self.credentials.clone(), peer.id.clone(), peer.grpc);
            let connect = move |_| tls::connect(credentials.clone(), id.clone(), address);
            endpoint().connect_with_connector_lazy(tower::service_fn(connect))
        });
        client(channel.clone())
    }

    /// Drops a dead shared connection. The next call opens a new one.
    pub(crate) fn remove(&self, peer: &PeerAddress) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(&(peer.id.clone(), peer.grpc));
    }

    /// A client on a new connection of its own.
    pub(crate) async fn own(&self, peer: &PeerAddress) -> Result<ClusterClient<Channel>, String> {
        let (credentials, id, address) = (self.credentials.clone(), peer.id.clone(), peer.grpc);
        let connect = move |_| tls::connect(credentials.clone(), id.clone(), address);
        let channel = endpoint().connect_with_connector(tower::service_fn(connect)).await;
        channel.map(client).map_err(|error| causes(&error))
    }
}

fn endpoint() -> Endpoint {
    // The connector knows the address. This name is only the `:authority` of requests.
    Endpoint::from_static("http://relay.systir")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(false)
}

fn client(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// Ends a call with `Timeout` after `limit`.
pub(crate) async fn with_timeout<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(error_of(&status)),
        Err(_) => Err(CallError::Timeout(limit)),
    }
}

fn error_of(status: &Status) -> CallError {
    match status.code() {
        Code::PermissionDenied => CallError::Refused(status.message().to_owned()),
        Code::Unavailable => CallError::Unreachable(causes(status)),
        code => CallError::Failed(format!("{code:?}: {}", causes(status))),
    }
}

/// An error with all its sources; the outermost text alone rarely names the cause.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
