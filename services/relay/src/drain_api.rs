//! Drains this node over HTTP, for its operator. The token must be signed with the key of `[drain]`: a node belongs to its
//! operator, and serves several institutions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use systir_gateway::JoinLimits;
use systir_livekit::token::KeyRing;

use crate::api::{Caller, Failure};
use crate::drain::NodeDrain;

/// Longest body, bytes.
const MAX_BODY: usize = 4 * 1024;

/// State of these routes.
#[derive(Debug)]
pub(crate) struct DrainApi {
    pub(crate) drain: Arc<NodeDrain>,
    pub(crate) keys: KeyRing,
    pub(crate) limits: Arc<JoinLimits>,
}

/// `/systir/v1/drain`, `/systir/v1/undrain`
pub(crate) fn router(api: DrainApi) -> Router {
    Router::new()
        .route("/systir/v1/drain", get(show).merge(post(begin)))
        .route("/systir/v1/undrain", post(undo))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(api))
}

/// Names the node, so that nobody drains another one by a wrong URL.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    node: String,
    #[serde(default)]
    deadline_seconds: Option<u64>,
}

impl DrainApi {
    fn allow(&self, caller: &Caller) -> Result<(), Failure> {
        if self.keys.is_empty() {
            let why =
                "this node has no key of its operator ([drain] api_key); send SIGTERM to its process instead";
            return Err(Failure::Status(StatusCode::FORBIDDEN, why.to_owned()));
        }
        let verified = caller.verify(&self.keys, &self.limits)?;
        if verified.claims.video.room_list {
            return Ok(());
        }
        Err(Failure::Status(StatusCode::FORBIDDEN, "the token has no roomList".to_owned()))
    }

    async fn read(&self, request: Request) -> Result<Wanted, Failure> {
        let body = String::from_request(request, &()).await;
        let body = body.map_err(|rejection| Failure::Status(rejection.status(), rejection.body_text()))?;
        let wanted: Wanted = serde_json::from_str(&body).map_err(|error| {
            Failure::Status(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
        })?;
        if wanted.node == self.drain.node() {
            return Ok(wanted);
        }
        let why =
            format!("this is {}, not {}; give the URL of {}", self.drain.node(), wanted.node, wanted.node);
        Err(Failure::Status(StatusCode::MISDIRECTED_REQUEST, why))
    }

    fn state(&self) -> Json<Value> {
        let (node, progress) = (self.drain.node(), self.drain.progress());
        let stops = progress.is_some_and(|(_, stops)| stops);
        Json(json!({ "node": node, "drain": progress.map(|(progress, _)| progress), "stops": stops }))
    }
}

async fn show(State(api): State<Arc<DrainApi>>, caller: Caller) -> Result<Json<Value>, Failure> {
    api.allow(&caller)?;
    Ok(api.state())
}

async fn begin(
    State(api): State<Arc<DrainApi>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, Failure> {
    api.allow(&caller)?;
    let wanted = api.read(request).await?;
    if wanted.deadline_seconds.is_some_and(|seconds| seconds > 86_400) {
        let why = "the deadline is at most 86400 seconds (24 h) away".to_owned();
        return Err(Failure::Status(StatusCode::BAD_REQUEST, why));
    }
    api.drain.begin(wanted.deadline_seconds.map(Duration::from_secs), false);
    Ok(api.state())
}

async fn undo(
    State(api): State<Arc<DrainApi>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, Failure> {
    api.allow(&caller)?;
    api.read(request).await?;
    api.drain.undo().map_err(|stops| Failure::Status(StatusCode::CONFLICT, stops.to_string()))?;
    Ok(api.state())
}

/// Entry point for the fuzz target: the body of a request.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(body: &str) {
    if let Ok(wanted) = serde_json::from_str::<Wanted>(body) {
        assert!(wanted.node.len() <= body.len());
    }
}
