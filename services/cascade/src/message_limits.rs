//! Limits of message sizes in one gRPC service: sessions carry the state of rooms, signalling what a client sends, and
//! calls are short.

use std::convert::Infallible;
use std::task::{Context, Poll};
use systir_proto::cluster::v1::cluster_server::SERVICE_NAME;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// One service with three limits.
#[derive(Clone)]
pub(crate) struct MessageLimits<T, S> {
    /// For sessions.
    pub(crate) sessions: T,
    /// For signalling.
    pub(crate) signalling: S,
    /// For all other methods.
    pub(crate) calls: S,
}

impl<T, S> NamedService for MessageLimits<T, S> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<T, S> Service<http::Request<Body>> for MessageLimits<T, S>
where
    T: Service<http::Request<Body>, Response = S::Response, Error = Infallible, Future = S::Future>,
    S: Service<http::Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The generated server is always ready.
        self.sessions
            .poll_ready(cx)
            .is_ready()
            .then_some(())
            .map_or(Poll::Pending, |()| self.signalling.poll_ready(cx))
            .is_ready()
            .then_some(())
            .map_or(Poll::Pending, |()| self.calls.poll_ready(cx))
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        match method {
            "Session" => self.sessions.call(request),
            "Signal" => self.signalling.call(request),
            _ => self.calls.call(request),
        }
    }
}
