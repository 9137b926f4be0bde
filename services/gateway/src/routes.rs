//! Routes of LiveKit's signalling protocol, version 0 (two peer connections).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Query, Request, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode, Uri, header};
use livekit_protocol::{
    DisconnectReason, LeaveRequest, SignalResponse, leave_request::Action, signal_response,
};
use tower_http::cors::{Any, CorsLayer};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::params::Params;
use super::{JoinHandler, JoinLimits, JoinRequest, SocketLimits, respond, socket};
use systir_livekit::token::{TokenError, verify_join};
use systir_reason::{Reason, Refusal};

#[derive(Clone)]
struct GatewayState {
    handler: Arc<dyn JoinHandler>,
    limits: SocketLimits,
    join_limits: Arc<JoinLimits>,
}

/// Serves `/rtc` and `/rtc/validate`. `/rtc/v1` is 404, so that clients fall back to version 0.
pub fn router(handler: Arc<dyn JoinHandler>, limits: SocketLimits, join_limits: Arc<JoinLimits>) -> Router {
    Router::new()
        .route("/rtc", get(signal))
        .route("/rtc/validate", get(validate))
        .route("/rtc/v1", any(not_found))
        .route("/rtc/v1/validate", any(not_found))
        .layer(cors())
        .with_state(GatewayState { handler, limits, join_limits })
}

/// Allows pages of any origin, which must be able to read why they were refused. This is safe because the
/// token is in a header or in the URL, never in a cookie.
pub fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .max_age(std::time::Duration::from_secs(86_400))
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found: this server supports version 0 of the protocol, at /rtc")
        .into_response()
}

/// The root span of a join's trace: from the request until a seat is found. Like all spans it contains no
/// URL, no name of a room or participant and no token.
fn gateway_span(what: &'static str) -> Span {
    tracing::error_span!("gateway", what, trace_id = Empty, outcome = Empty, reason = Empty)
}

/// Checks the query and the token, and records the result on spans.
fn authenticate(
    state: &GatewayState,
    request: &Request,
    request_span: &Span,
) -> Result<(JoinRequest, Params), Refusal> {
    let span = tracing::error_span!(parent: request_span, "token", outcome = Empty);
    let joined = span.in_scope(|| join_request(state, request.uri(), request.headers(), peer(request)));
    span.record("outcome", joined.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "valid"));
    joined.inspect_err(|refusal| {
        request_span.record("outcome", "refused");
        request_span.record("reason", refusal.reason.as_str());
    })
}

/// Reads the query and verifies the token.
fn join_request(
    state: &GatewayState,
    uri: &Uri,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Result<(JoinRequest, Params), Refusal> {
    let (from, now) = (peer.map(|peer| peer.ip()), Instant::now());
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let pairs = pairs.map_err(|_| Refusal::new(Reason::BadQuery, "the query cannot be read"));
    let Query(pairs) = state.join_limits.checked(from, now, pairs)?;
    let token = bearer(headers)
        .or_else(|| pairs.iter().find(|(key, _)| key == "access_token").map(|(_, value)| value.as_str()));
    let verified = token
        .ok_or(TokenError::Missing)
        .and_then(|token| verify_join(&state.handler.keys(), token, SystemTime::now()));
    let mut grants = state.join_limits.checked(from, now, verified)?;
    state.join_limits.token(&grants.institution, &grants.identity, grants.guest, now)?;

    let params = Params::read(&pairs);
    if let Some(suffix) = &params.publish {
        grants.identity = format!("{}#{suffix}", grants.identity);
        grants.can_subscribe = false;
    }
    if grants.can_update_own_metadata {
        let own = params.attributes.iter().filter(|(key, _)| !key.starts_with("systir."));
        grants.attributes.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    }
    // Without its address, which no other node needs.
    let client = params.client.clone();
    let request = JoinRequest { grants, client, auto_subscribe: params.auto_subscribe };
    Ok((request, params))
}

/// The token of the `Authorization` header, which is preferred to the query, as in LiveKit's server.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address)
}

async fn validate(State(state): State<GatewayState>, request: Request) -> Response {
    let span = gateway_span("validate");
    let answer = match authenticate(&state, &request, &span) {
        Ok((request, _)) => state.handler.validate(request).instrument(span.clone()).await,
        Err(refusal) => Err(refusal),
    };
    span.record("outcome", if answer.is_ok() { "admitted" } else { "refused" });
    match answer {
        Ok(()) => ([(header::CACHE_CONTROL, "no-store")], "success").into_response(),
        Err(refusal) => respond(&refusal),
    }
}

async fn signal(
    State(state): State<GatewayState>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    // A plain HTTP request is 404, as in LiveKit's server.
    let Ok(upgrade) = upgrade else {
        return (StatusCode::NOT_FOUND, "not found: this route needs a WebSocket upgrade").into_response();
    };
    let limits = state.limits;
    let upgrade = upgrade
        .max_message_size(limits.message_bytes)
        .max_frame_size(limits.message_bytes)
        .read_buffer_size(limits.read_buffer)
        // Each message is written at once: the send queue is the only one.
        .write_buffer_size(0)
        .max_write_buffer_size(limits.queue_bytes.saturating_add(limits.read_buffer));
    let span = gateway_span("join");
    let (request, params) = match authenticate(&state, &request, &span) {
        Ok(joined) => joined,
        Err(refusal) => {
            state.handler.rejected(&refusal);
            return respond(&refusal);
        }
    };
    let counters = state.handler.counters();
    if params.reconnect {
        // Policy first: a node that may not see the institution's signalling answers nothing else.
        if let Err(refusal) = span.in_scope(|| state.handler.may_signal(&request.grants.institution)) {
            span.record("outcome", "refused");
            return respond(&refusal);
        }
        span.record("outcome", "rejoin");
        // Resuming is not supported: the client must join again, at once.
        return upgrade.on_upgrade(move |websocket| async move {
            let _open = counters.opened();
            counters.sent();
            socket::send_last(websocket, leave_and_rejoin(), limits.close_timeout).await;
        });
    }
    let room_name = request.grants.room.clone();
    let admitted = state.handler.admit(request).instrument(span.clone()).await;
    span.record("outcome", if admitted.is_ok() { "admitted" } else { "refused" });
    match admitted {
        Ok(pipe) => upgrade.on_upgrade(move |websocket| async move {
            let reason = socket::run(websocket, pipe, &room_name, limits, &counters).await;
            tracing::debug!(?reason, "signalling connection closed");
        }),
        Err(refusal) => respond(&refusal),
    }
}

fn leave_and_rejoin() -> SignalResponse {
    let leave = LeaveRequest {
        can_reconnect: true,
        reason: DisconnectReason::StateMismatch as i32,
        action: Action::Reconnect as i32,
        regions: None,
    };
    SignalResponse { message: Some(signal_response::Message::Leave(leave)) }
}
