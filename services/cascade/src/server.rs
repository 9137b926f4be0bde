//! The gRPC service that other nodes call. The connection proved who calls; the handler decides.

use crate::documents::{self, DocumentParts, FetchLimits};
use crate::grpc::client::{MAX_MESSAGE, MAX_SIGNAL_MESSAGE, MAX_STREAM_MESSAGE};
use crate::grpc::connection::NodeConnection;
use crate::grpc::listener::NodeListener;
use crate::grpc::open_connections::OpenConnections;
use crate::grpc::sessions::Sessions;
use crate::handler::HANDLER_TIMEOUT;
use crate::link::accept::accept;
use crate::link::runtime::LinkRuntime;
use crate::message_limits::MessageLimits;
use crate::signal::{self, Outgoing, SignalReceiver, SignalSender, SignalStream};
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use systir_identity::{ProvenIdentity, SpiffeId};
use systir_limits::AttemptLimiter;
use systir_proto::cluster::v1::cluster_server::{Cluster, ClusterServer};
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{
    DocumentList, FetchDocumentRequest, GrantReply, GrantRequest, HeartbeatReply, HeartbeatRequest,
    RefusalCode, ReleaseReply, ReleaseRequest, RenewReply, RenewRequest, ReserveRefused, ReserveReply,
    ReserveRequest, SessionMessage, SignalMessage, grant_reply, reserve_reply,
};
use systir_reason::Refusal;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// Until a call must be answered, or a stream accepted: longer than anything that answers has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls and streams of one connection that are not answered or accepted yet, at most; others wait.
const UNANSWERED: usize = 512;

/// Implements the `Cluster` service.
struct PeerService {
    runtime: Arc<LinkRuntime>,
    open: Arc<OpenConnections>,
    fetches: Arc<FetchLimits>,
    join_calls: AttemptLimiter<SpiffeId>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl PeerService {
    /// The caller's connection.
    fn connection<T>(request: &Request<T>) -> Result<Arc<NodeConnection>, Status> {
        let connection = request.extensions().get::<Arc<NodeConnection>>();
        connection.cloned().ok_or_else(|| Status::unauthenticated("the caller proved no identity"))
    }

    /// The caller. Asked again at each call, because a new directory may not list it any more.
    fn authorize<T>(&self, request: &Request<T>) -> Result<ProvenIdentity, Status> {
        let peer = Self::connection(request)?.peer();
        if self.runtime.authenticator.is_listed(&peer) {
            Ok(peer)
        } else {
            Err(Status::permission_denied(format!("no directory lists {peer} with its node key any more")))
        }
    }

    /// The caller, unless it has made too many calls that may have signatures.
    fn authorize_join_call<T>(&self, request: &Request<T>) -> Result<ProvenIdentity, Status> {
        let peer = self.authorize(request)?;
        if self.join_calls.take(peer.id().clone(), Instant::now()) {
            Ok(peer)
        } else {
            Err(Status::resource_exhausted(
                "too many calls about grants, seats and signalling; try again later",
            ))
        }
    }
}

fn to_status(refusal: Refusal) -> Status {
    let Refusal { sentence: mut reason, rules, .. } = refusal;
    if !rules.is_empty() {
        reason = format!("{reason} (rules: {})", rules.join(", "));
    }
    Status::permission_denied(reason)
}

fn undecided() -> ReserveRefused {
    ReserveRefused {
        code: RefusalCode::Internal.into(),
        reason: "the node did not decide within 2 s".to_owned(),
        ..ReserveRefused::default()
    }
}

fn too_many_fetches() -> Status {
    Status::resource_exhausted("one call about documents at a time, and not too many; try again later")
}

#[tonic::async_trait]
impl Cluster for PeerService {
    type SessionStream = Messages<SessionMessage>;
    type SignalStream = Messages<SignalMessage>;
    type FetchDocumentStream = DocumentParts;

    async fn session(
        &self,
        request: Request<Streaming<SessionMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.authorize(&request)?;
        let connection = Self::connection(&request)?;
        let out = accept(&self.runtime, connection, request.into_inner()).await?;
        Ok(Response::new(Box::pin(out)))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Result<Response<ReserveReply>, Status> {
        let peer = self.authorize_join_call(&request)?;
        let answer = self.runtime.handler.reserve(&peer, request.into_inner());
        let reply = tokio::time::timeout(HANDLER_TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| ReserveReply { result: Some(reserve_reply::Result::Refused(undecided())) });
        Ok(Response::new(reply))
    }

    async fn ask_grant(&self, request: Request<GrantRequest>) -> Result<Response<GrantReply>, Status> {
        let peer = self.authorize_join_call(&request)?;
        let answer = self.runtime.handler.ask_grant(&peer, request.into_inner());
        let reply = tokio::time::timeout(HANDLER_TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| GrantReply { result: Some(grant_reply::Result::Refused(undecided())) });
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
        let peer = self.authorize_join_call(&request)?;
        let connection = Self::connection(&request)?;
        let mut stream = request.into_inner();
        let first = async {
            // An honest gateway sends the message with the request.
            let _reading = connection.unstarted_signalling.acquire().await.ok();
            stream.message().await
        };
        let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, first)
            .await
            .map_err(|_| Status::deadline_exceeded("no Start message within 3 s"))??;
        let Some(SignalMessage { seq: 0, body: Some(Body::Start(start)) }) = first else {
            return Err(Status::invalid_argument("the first message must be Start, with number 0"));
        };
        let (tx, rx) = mpsc::channel(signal::QUEUE);
        let signalling = SignalStream {
            tx: SignalSender { out: Outgoing::Response(tx), next: 1 },
            rx: SignalReceiver::new(stream, None),
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
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        self.authorize(&request)?;
        let by = Self::connection(&request)?;
        if self.open.renew(&by, &request.into_inner().connection) {
            Ok(Response::new(RenewReply {}))
        } else {
            Err(Status::not_found("you have no such connection to this node"))
        }
    }

    async fn exchange_documents(
        &self,
        request: Request<DocumentList>,
    ) -> Result<Response<DocumentList>, Status> {
        let peer = self.authorize(&request)?;
        let _permit = self.fetches.begin(peer.id(), Instant::now()).ok_or_else(too_many_fetches)?;
        let offered = documents::decode(request.into_inner()).map_err(Status::invalid_argument)?;
        let handler = &self.runtime.handler;
        handler.documents_offered(&peer, offered);
        Ok(Response::new(documents::encode(&handler.document_versions())))
    }

    async fn fetch_document(
        &self,
        request: Request<FetchDocumentRequest>,
    ) -> Result<Response<Self::FetchDocumentStream>, Status> {
        let peer = self.authorize(&request)?;
        let permit = self.fetches.begin(peer.id(), Instant::now()).ok_or_else(too_many_fetches)?;
        let FetchDocumentRequest { kind, owner, version } = request.into_inner();
        let id = documents::id_of(kind, owner).map_err(Status::invalid_argument)?;
        let note = id.and_then(|id| self.runtime.handler.document(&peer, &id, version));
        let note =
            note.ok_or_else(|| Status::not_found("this node does not hold that version of the document"))?;
        Ok(Response::new(DocumentParts::new(note, permit)))
    }
}

/// Serves until cancelled.
pub(crate) async fn serve(
    runtime: Arc<LinkRuntime>,
    open: Arc<OpenConnections>,
    tcp: TcpListener,
    listener: Arc<NodeListener>,
    join_calls: AttemptLimiter<SpiffeId>,
) {
    let (accepted, incoming) = mpsc::channel(64);
    let cancel = runtime.cancel.clone();
    let acceptor = tokio::spawn(listener.run(tcp, accepted));
    let service = Arc::new(PeerService { runtime, open, fetches: Arc::default(), join_calls });
    // What this node sends is limited by what the other one accepts.
    let limited = |bytes| {
        ClusterServer::from_arc(service.clone())
            .max_decoding_message_size(bytes)
            .max_encoding_message_size(MAX_STREAM_MESSAGE)
    };
    let limits = MessageLimits {
        sessions: Sessions(service.clone()),
        signalling: limited(MAX_SIGNAL_MESSAGE),
        calls: limited(MAX_MESSAGE),
    };
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(1)))
        .http2_keepalive_timeout(Some(Duration::from_secs(2)))
        .max_concurrent_streams(8192)
        .concurrency_limit_per_connection(UNANSWERED)
        .timeout(ANSWER_TIMEOUT)
        .add_service(limits)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), cancel.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(%error, "the gRPC server failed; other nodes cannot reach this node");
    }
    acceptor.abort();
}
