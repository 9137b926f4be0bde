//! Clients of other nodes' gRPC servers.

use super::call_error::CallError;
use super::connection::NodeConnection;
use super::dialler::{DialledStream, NodeDialler};
use crate::authenticator::IdentityRefused;
use crate::peer_address::PeerAddress;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection without an HTTP/2 PING reply for `KEEP_ALIVE_TIMEOUT` is closed with all its streams.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Shared connections, at most.
const MAX_CHANNELS: usize = 256;
/// Bytes of a message in a stream, at most. The state of a whole room must fit.
pub(crate) const MAX_STREAM_MESSAGE: usize = 16 << 20;
/// Bytes of any other message, at most.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;
/// Longest message of a participant's signalling that a gateway sends, in bytes; clients send 2 MiB at most.
pub(crate) const MAX_SIGNAL_MESSAGE: usize = 3 << 20;

/// Clients of other nodes. Calls to one peer share a connection.
pub(crate) struct Clients {
    dialler: Arc<NodeDialler>,
    channels: Mutex<HashMap<(SpiffeId, SocketAddr), Channel>>,
}

impl Clients {
    pub(crate) fn new(dialler: Arc<NodeDialler>) -> Self {
        Self { dialler, channels: Mutex::default() }
    }

    /// A client on the shared connection to the peer.
    pub(crate) fn shared(&self, peer: &PeerAddress) -> ClusterClient<Channel> {
        client(self.channel(peer), MAX_MESSAGE)
    }

    /// The same, for streams.
    pub(crate) fn shared_for_streams(&self, peer: &PeerAddress) -> ClusterClient<Channel> {
        client(self.channel(peer), MAX_STREAM_MESSAGE)
    }

    fn channel(&self, peer: &PeerAddress) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.id.clone(), peer.grpc);
        if channels.len() >= MAX_CHANNELS && !channels.contains_key(&key) {
            channels.clear();
        }
        let channel = channels.entry(key).or_insert_with(|| {
            let (dialler, id, address) = (self.dialler.clone(), peer.id.clone(), peer.grpc);
            let connect = move |_| {
                let (dialler, id) = (dialler.clone(), id.clone());
                async move { dialler.connect(&id, address).await.map(TokioIo::new) }
            };
            endpoint().connect_with_connector_lazy(tower::service_fn(connect))
        });
        channel.clone()
    }

    /// Drops a dead shared connection. The next call opens a new one.
    pub(crate) fn remove(&self, peer: &PeerAddress) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(&(peer.id.clone(), peer.grpc));
    }

    /// A new connection of its own, which is never dialled again.
    pub(crate) async fn own(&self, peer: &PeerAddress) -> Result<(Channel, Arc<NodeConnection>), String> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.dialler.connect(&peer.id, peer.grpc)).await;
        let stream = stream.map_err(|_| "no gRPC connection within 2 s".to_owned())?;
        let stream = stream.map_err(|error| causes(&error))?;
        let connection = stream.connection().clone();
        Ok((channel_on(stream).await?, connection))
    }
}

/// A client for streams on a connection that is open.
pub(super) async fn on_stream(stream: DialledStream) -> Result<ClusterClient<Channel>, String> {
    channel_on(stream).await.map(|channel| client(channel, MAX_STREAM_MESSAGE))
}

async fn channel_on(stream: DialledStream) -> Result<Channel, String> {
    let mut stream = Some(TokioIo::new(stream));
    let connect = move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::other("the connection has ended"));
        std::future::ready(stream)
    };
    let channel = endpoint().connect_with_connector(tower::service_fn(connect)).await;
    channel.map_err(|error| causes(&error))
}

fn endpoint() -> Endpoint {
    // The connector knows the address. This name is only the `:authority` of requests.
    Endpoint::from_static("http://relay.systir")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(false)
}

fn client(channel: Channel, limit: usize) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit)
}

/// Ends a call with `Timeout` after `limit`.
pub(crate) async fn with_timeout<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    within(limit, call).await.map(tonic::Response::into_inner)
}

/// Ends calls with `Timeout` after `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    calls: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, calls).await {
        Ok(outcome) => outcome.map_err(|status| error_of(&status)),
        Err(_) => Err(CallError::Timeout(limit)),
    }
}

fn error_of(status: &Status) -> CallError {
    if let Some(sentence) = unsupported_version(status) {
        return CallError::UnsupportedVersion(sentence);
    }
    match status.code() {
        Code::PermissionDenied => CallError::Refused(status.message().to_owned()),
        Code::ResourceExhausted => CallError::Busy(status.message().to_owned()),
        Code::Unavailable if is_refusal(status) => CallError::Refused(causes(status)),
        Code::Unavailable => CallError::Unreachable(causes(status)),
        code => CallError::Failed(format!("{code:?}: {}", causes(status))),
    }
}

/// Did the node refuse the connection because of this node's identity?
fn is_refusal(status: &Status) -> bool {
    io_errors(status).any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The sentence, if the connection was refused because the nodes have no version in common.
fn unsupported_version(status: &Status) -> Option<String> {
    io_errors(status).find_map(|error| match error.get_ref()?.downcast_ref() {
        Some(IdentityRefused::Version(unsupported)) => Some(unsupported.to_string()),
        _ => None,
    })
}

/// The I/O errors among the sources of a status.
fn io_errors(status: &Status) -> impl Iterator<Item = &io::Error> {
    let first = std::error::Error::source(status);
    let causes = std::iter::successors(first, |cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref())
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
