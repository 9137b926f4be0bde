//! The method `Session`, in both directions: as the generated code, with a codec that counts entries, and a short first message.

use super::first_message::FirstMessageLimit;
use super::session_codec::SessionCodec;
use crate::grpc::client::MAX_STREAM_MESSAGE;
use futures::Stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use systir_proto::cluster::v1::SessionMessage;
use systir_proto::cluster::v1::cluster_server::Cluster;
use tonic::body::Body;
use tonic::client;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{self, StreamingService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of `Hello`, at most.
const MAX_HELLO: u32 = 64 << 10;
const PATH: &str = "/systir.cluster.v1.Cluster/Session";

/// Opens a session.
pub(crate) async fn open(
    channel: Channel,
    messages: impl Stream<Item = SessionMessage> + Send + 'static,
) -> Result<Streaming<SessionMessage>, Status> {
    let mut grpc = client::Grpc::new(channel)
        .max_decoding_message_size(MAX_STREAM_MESSAGE)
        .max_encoding_message_size(MAX_STREAM_MESSAGE);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(PATH);
    Ok(grpc.streaming(Request::new(messages), path, SessionCodec).await?.into_inner())
}

/// Answers requests for sessions.
pub(crate) struct Sessions<C>(pub(crate) Arc<C>);

impl<C> Clone for Sessions<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Cluster> Service<http::Request<Body>> for Sessions<C> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let request = request.map(|body| Body::new(FirstMessageLimit::new(body, MAX_HELLO)));
        let method = self.clone();
        Box::pin(async move {
            let limit = Some(MAX_STREAM_MESSAGE);
            let mut grpc = server::Grpc::new(SessionCodec).apply_max_message_size_config(limit, limit);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

impl<C: Cluster> StreamingService<SessionMessage> for Sessions<C> {
    type Response = SessionMessage;
    type ResponseStream = C::SessionStream;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<SessionMessage>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.session(request).await })
    }
}

/// Entry point for the fuzz target: what a peer sends first.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(stream: &[u8]) {
    super::first_message::fuzz(stream, MAX_HELLO);
}
