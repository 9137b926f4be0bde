//! The gRPC service that other nodes call. TLS proves who calls; the handler decides.

use crate::grpc::client::MAX_MESSAGE;
use crate::grpc::tls::{self, ProvenPeer};
use crate::handler::HANDLER_TIMEOUT;
use crate::link::accept::accept;
use crate::link::runtime::LinkRuntime;
use crate::signal::{self, Outgoing, SignalReceiver, SignalSender, SignalStream};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::cluster_server::{Cluster, ClusterServer};
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{
    HeartbeatReply, HeartbeatRequest, RefusalCode, ReleaseReply, ReleaseRequest, ReserveRefused,
    ReserveReply, ReserveRequest, SessionMessage, SignalMessage, reserve_reply,
};
use systir_reason::Refusal;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// Implements the `Cluster` service.
struct PeerService {
    runtime: Arc<LinkRuntime>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl PeerService {
    /// The caller's id. Only nodes that the handler admits may call; operators' tools use other
    /// services on the same port.
    fn authorize<T>(&self, request: &Request<T>) -> Result<SpiffeId, Status> {
        let peer = request
            .extensions()
            .get::<ProvenPeer>()
            .ok_or_else(|| Status::unauthenticated("the caller proved no identity"))?;
        if peer.id.relay_name().is_none() {
            return Err(Status::permission_denied(format!("{} is not a node", peer.id)));
        }
        self.runtime.handler.admit(&peer.id).map_err(to_status)?;
        Ok(peer.id.clone())
    }
}

fn to_status(refusal: Refusal) -> Status {
    let Refusal { sentence: mut reason, rules, .. } = refusal;
    if !rules.is_empty() {
        reason = format!("{reason} (rules: {})", rules.join(", "));
    }
    Status::permission_denied(reason)
}

#[tonic::async_trait]
impl Cluster for PeerService {
    type SessionStream = Messages<SessionMessage>;
    type SignalStream = Messages<SignalMessage>;

    async fn session(
        &self,
        request: Request<Streaming<SessionMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = self.authorize(&request)?;
        let out = accept(&self.runtime, peer, request.into_inner()).await?;
        Ok(Response::new(Box::pin(out)))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveReply>, Status> {
        let peer = self.authorize(&request)?;
        let answer = self.runtime.handler.reserve(&peer, request.into_inner());
        let reply = tokio::time::timeout(HANDLER_TIMEOUT, answer).await.unwrap_or_else(|_| {
            let refused = ReserveRefused {
                code: RefusalCode::Internal.into(),
                reason: "the node did not decide within 2 s".to_owned(),
                rules: Vec::new(),
            };
            ReserveReply { result: Some(reserve_reply::Result::Refused(refused)) }
        });
        Ok(Response::new(reply))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        let peer = self.authorize(&request)?;
        let done = self.runtime.handler.release(&peer, request.into_inner());
        tokio::time::timeout(HANDLER_TIMEOUT, done)
            .await
            .map_err(|_| Status::deadline_exceeded("the node did not release within 2 s"))?;
        Ok(Response::new(ReleaseReply {}))
    }

    async fn signal(
        &self,
        request: Request<Streaming<SignalMessage>>,
    ) -> Result<Response<Self::SignalStream>, Status> {
        let peer = self.authorize(&request)?;
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, stream.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Start message within 3 s"))??;
        let Some(SignalMessage { seq: 0, body: Some(Body::Start(start)) }) = first else {
            return Err(Status::invalid_argument("the first message must be Start, with number 0"));
        };
        let (tx, rx) = mpsc::channel(signal::QUEUE);
        let signalling = SignalStream {
            tx: SignalSender { out: Outgoing::Response(tx), next: 1 },
            rx: SignalReceiver { stream, next: 1, ended: false, heartbeat: None },
        };
        tokio::time::timeout(HANDLER_TIMEOUT, self.runtime.handler.signal(&peer, start, signalling))
            .await
            .map_err(|_| Status::deadline_exceeded("the node did not decide within 2 s"))?
            .map_err(to_status)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatReply>, Status> {
        self.authorize(&request)?;
        Ok(Response::new(HeartbeatReply {}))
    }
}

/// Serves until cancelled.
pub(crate) async fn serve(
    runtime: Arc<LinkRuntime>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    routes: Routes,
) {
    let (accepted, incoming) = mpsc::channel(64);
    let cancel = runtime.cancel.clone();
    let acceptor = tokio::spawn(tls::accept(listener, TlsAcceptor::from(tls), accepted, cancel.clone()));
    let cluster = ClusterServer::new(PeerService { runtime })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(1)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .max_concurrent_streams(8192)
        .add_routes(routes)
        .add_service(cluster)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), cancel.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(%error, "the gRPC server failed; other nodes cannot reach this node");
    }
    acceptor.abort();
}
