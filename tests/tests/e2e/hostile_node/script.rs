//! What a hostile node answers to honest nodes: it accepts everything, and tells what the test says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use systir_proto::cluster::v1::cluster_server::Cluster;
use systir_proto::cluster::v1::grant_reply::Result as Granted;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::signal_message::Body;
use systir_proto::cluster::v1::{
    Admitted, DocumentList, DocumentPart, FetchDocumentRequest, GrantReply, GrantRequest, HeartbeatReply,
    HeartbeatRequest, RefusalCode, ReleaseReply, ReleaseRequest, RenewReply, RenewRequest, ReserveRefused,
    ReserveReply, ReserveRequest, SessionMessage, SignalMessage, SignalStart,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{LIMIT, told};

/// A participant's signalling: to the gateway, and from it.
type KeptStream = (mpsc::Sender<Result<SignalMessage, Status>>, Streaming<SignalMessage>);

/// What the hostile node tells, and what it was asked.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// What it tells as the grant of each room.
    grant: Mutex<String>,
    /// Does it refuse seats, as a full node does?
    full: AtomicBool,
    /// Does it answer nothing?
    silent: AtomicBool,
    /// The participants that gateways gave it.
    started: watch::Sender<Vec<SignalStart>>,
    /// How often it was asked for a grant or for a seat.
    asked: watch::Sender<u32>,
    /// Signalling that it keeps open.
    streams: Mutex<Vec<KeptStream>>,
}

impl Script {
    /// From now on it tells this grant, and refuses seats with it.
    pub(super) fn lie(&self, grant: &str) {
        self.full.store(true, Ordering::Relaxed);
        if let Ok(mut told) = self.grant.lock() {
            grant.clone_into(&mut told);
        }
    }

    /// From now on it answers nothing.
    pub(super) fn be_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Returns unless it is silent.
    async fn answers(&self) {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a gateway has given it a participant.
    pub(super) async fn participant(&self) -> Result<SignalStart> {
        let mut started = self.started.subscribe();
        let given = timeout(LIMIT, started.wait_for(|all| !all.is_empty())).await;
        let given = given.context("no participant is given to the hostile node")??;
        given.first().cloned().context("no participant")
    }

    /// How often it was asked for a grant or for a seat.
    pub(super) fn asked(&self) -> u32 {
        *self.asked.borrow()
    }

    fn grant(&self) -> String {
        self.grant.lock().map(|grant| grant.clone()).unwrap_or_default()
    }
}

type Messages<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Cluster for Script {
    type SessionStream = Messages<SessionMessage>;
    type SignalStream = Messages<SignalMessage>;
    type FetchDocumentStream = Messages<DocumentPart>;

    async fn session(
        &self,
        _: Request<Streaming<SessionMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("the hostile node dials itself"))
    }

    async fn ask_grant(&self, _: Request<GrantRequest>) -> Result<Response<GrantReply>, Status> {
        self.asked.send_modify(|count| *count += 1);
        self.answers().await;
        let told = told(&self.grant());
        Ok(Response::new(GrantReply { result: Some(Granted::Assignment(told)) }))
    }

    async fn reserve(&self, _: Request<ReserveRequest>) -> Result<Response<ReserveReply>, Status> {
        self.asked.send_modify(|count| *count += 1);
        self.answers().await;
        let result = if self.full.load(Ordering::Relaxed) {
            Reserved::Refused(ReserveRefused {
                code: RefusalCode::Full.into(),
                assignment: Some(told(&self.grant())),
                ..ReserveRefused::default()
            })
        } else {
            Reserved::Admitted(Admitted { ttl_seconds: 10, last_join: 0 })
        };
        Ok(Response::new(ReserveReply { result: Some(result) }))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        Ok(Response::new(ReleaseReply {}))
    }

    async fn signal(
        &self,
        request: Request<Streaming<SignalMessage>>,
    ) -> Result<Response<Self::SignalStream>, Status> {
        let mut from_gateway = request.into_inner();
        let first = from_gateway.message().await?.and_then(|first| first.body);
        let Some(Body::Start(start)) = first else { return Err(Status::invalid_argument("no Start")) };
        let (to_gateway, messages) = mpsc::channel(1);
        if let Ok(mut streams) = self.streams.lock() {
            streams.push((to_gateway, from_gateway));
        }
        self.started.send_modify(|all| all.push(start));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        self.answers().await;
        Ok(Response::new(HeartbeatReply {}))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Ok(Response::new(RenewReply {}))
    }

    async fn exchange_documents(&self, _: Request<DocumentList>) -> Result<Response<DocumentList>, Status> {
        self.answers().await;
        Ok(Response::new(DocumentList::default()))
    }

    async fn fetch_document(
        &self,
        _: Request<FetchDocumentRequest>,
    ) -> Result<Response<Self::FetchDocumentStream>, Status> {
        Err(Status::not_found("no documents"))
    }
}
