//! Systir's own HTTP API, besides LiveKit's: residency of rooms, and queries of operators. Each request,
//! except one for a guest token, needs a token and sees only rooms of the token's institution. A node that the
//! institution's policy does not approve as gateway refuses every request.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{
    ConnectInfo, DefaultBodyLimit, FromRequest as _, FromRequestParts, Path, Request, State,
};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use livekit_token::{AccessToken, VideoGrants};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use systir_admission::{Admission, may_join};
use systir_gateway::{JoinLimits, respond};
use systir_journal::DecidedAt;
use systir_livekit::token::{self, GUEST_ATTRIBUTE, Grants, KeyRing, Redacted, Verified};
use systir_policy::{Action, Authority, DecidedAction, Decision};
use systir_reason::Refusal;
use systir_registry::Assignments;
use systir_room::Residency;
use systir_room_runtime::Rooms;

use crate::api_keys::ApiKeys;

/// How long a guest's token is valid.
const GUEST_TOKEN_LIFE: Duration = Duration::from_secs(6 * 3600);

/// Longest body of a request for a guest's token, bytes: anyone may send one.
const GUEST_BODY: usize = 4 * 1024;

/// `/systir/v1/…`
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/systir/v1/rooms/{room}/where", get(residency))
        .route("/systir/v1/rooms/{room}/explain", get(explain))
        .route("/systir/v1/rooms", get(rooms))
        .route("/systir/v1/nodes", get(nodes))
        .route("/systir/v1/guest-token", post(guest_token).layer(DefaultBodyLimit::max(GUEST_BODY)))
        .with_state(api)
}

/// State of these routes.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) assignments: Arc<Assignments>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) limits: Arc<JoinLimits>,
}

impl Api {
    /// Are this node's copies of the leases and of the institution's rooms up to date?
    fn registry_state(&self, institution: &str) -> String {
        match self.assignments.registry().view().rooms_unavailable_since(institution) {
            None => "connected".to_owned(),
            Some(since) => {
                format!("unavailable for {} s; reads are from the last known copy", since.elapsed().as_secs())
            }
        }
    }
}

/// An error response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A refusal with a reason code.
    Refused(Refusal),
    /// A status with a text, without a reason code.
    Status(StatusCode, String),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => respond(&refusal),
            Self::Status(status, text) => (status, text).into_response(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who asks: an address, and perhaps a token. It is read before the body.
#[derive(Debug)]
pub(crate) struct Caller {
    from: Option<IpAddr>,
    token: Option<Redacted<String>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        Ok(Self { from, token: token.map(|token| Redacted::new(token.to_owned())) })
    }
}

impl Caller {
    /// Verifies the token. Without a valid one it is an attempt of the address, as at joins.
    pub(crate) fn verify(&self, keys: &KeyRing, limits: &JoinLimits) -> Result<Verified, Failure> {
        let now = Instant::now();
        let Some(token) = &self.token else {
            limits.address(self.from, now)?;
            let why = "a token is needed: Authorization: Bearer …".to_owned();
            return Err(Failure::Status(StatusCode::UNAUTHORIZED, why));
        };
        let verified = token::verify(keys, token.expose(), SystemTime::now());
        Ok(limits.checked(self.from, now, verified)?)
    }
}

fn verified(api: &Api, caller: &Caller) -> Result<Verified, Failure> {
    let verified = caller.verify(&api.keys.ring(), &api.limits)?;
    let answer = api.admission.may_serve(&verified.institution);
    if answer.is_err() {
        let decided = DecidedAction::of_node(DecidedAt::Gateway, Action::RelaySignal, api.authority.own_id());
        api.authority.journal_institution(&decided, &verified.institution, &answer);
    }
    answer?;
    Ok(verified)
}

async fn residency(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    caller: Caller,
) -> Result<Response, Failure> {
    let verified = self::verified(&api, &caller)?;
    let video = &verified.claims.video;
    // A token without a room is valid for no room, not for all.
    if !(video.room_join || video.room_admin) || video.room != room {
        return Err(Failure::Status(StatusCode::FORBIDDEN, "the token is for another room".to_owned()));
    }
    let id = api.admission.room(&verified.institution, &room)?;
    api.admission.may_signal(&id)?;
    match api.rooms.residency(&id).await {
        Some(residency) => Ok(Json(Residency { room, ..residency }).into_response()),
        None => Err(Failure::Status(
            StatusCode::NOT_FOUND,
            "the room is not assigned: no participant is in it".to_owned(),
        )),
    }
}

/// Verifies the token of an administrator of the institution (`roomList`) or of this room (`roomAdmin`).
pub(crate) fn administrator(api: &Api, caller: &Caller, room: Option<&str>) -> Result<Verified, Failure> {
    let verified = self::verified(api, caller)?;
    let video = &verified.claims.video;
    let room_admin = room.is_some_and(|room| video.room_admin && video.room == room);
    if !(video.room_list || room_admin) {
        let why = "the token has neither roomList nor roomAdmin for this room";
        return Err(Failure::Status(StatusCode::FORBIDDEN, why.to_owned()));
    }
    let institution = &verified.institution;
    let decided = DecidedAction::of_participant(DecidedAt::Api, Action::Administer, institution);
    let answer = |decision: Decision| if decision.allowed { Ok(()) } else { Err(decision.refusal()) };
    match room {
        Some(room) => {
            let room = api.admission.room(institution, room)?;
            let answer = answer(api.authority.participant(Action::Administer, &room, institution));
            api.authority.journal(&decided, &room, &answer);
            answer?;
        }
        None => {
            let decision =
                api.authority.institution_participant(Action::Administer, institution, institution);
            let answer = answer(decision);
            api.authority.journal_institution(&decided, institution, &answer);
            answer?;
        }
    }
    Ok(verified)
}

async fn nodes(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<Value>, Failure> {
    let verified = administrator(&api, &caller, None)?;
    let view = api.assignments.registry().view();
    let nodes: Vec<Value> = api
        .authority
        .nodes()
        .iter()
        .map(|facts| {
            let (lease, unsupported) = (view.node(&facts.id), view.unsupported_lease(&facts.id));
            json!({
                "node": facts.id,
                "site": facts.site,
                "region": facts.region,
                "country": facts.country,
                "operator": facts.operator,
                "operator_controlled_from": facts.operator_controlled_from,
                "host": facts.host,
                "host_controlled_from": facts.host_controlled_from,
                "own_machine": facts.own_machine(),
                "declared_by": facts.declared_by,
                "directory_version": facts.directory.version,
                "directory_signers": facts.directory.signers,
                "alive": lease.is_some(),
                "draining": lease.is_some_and(|lease| lease.draining),
                "participants": lease.map(|lease| lease.load.participants),
                "capacity": lease.map(|lease| lease.load.capacity),
                "version": lease.map(|lease| &lease.version).or(unsupported.map(|lease| &lease.version)),
                "versions": lease.map(|lease| lease.versions).or(unsupported.map(|lease| lease.versions)),
                "supported": unsupported.is_none(),
            })
        })
        .collect();
    Ok(Json(json!({ "nodes": nodes, "registry": api.registry_state(&verified.institution) })))
}

async fn rooms(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<Value>, Failure> {
    let verified = administrator(&api, &caller, None)?;
    let (view, keys) = (api.assignments.registry().view(), api.authority.room_keys());
    let rooms: Vec<Value> = view
        .rooms()
        .filter(|assignment| assignment.room.institution == verified.institution)
        // A gateway may be approved for rooms of one class only.
        .filter(|assignment| api.admission.may_signal(&assignment.room).is_ok())
        // What this node follows, if it holds the room's grant; else what the record says.
        .map(|record| api.assignments.get(&record.room).unwrap_or_else(|| record.clone()))
        .map(|assignment| {
            let name = keys.name(&assignment.room);
            let under = match &name {
                // Its tag is of a room key that this node does not hold any more.
                None => "unknown",
                Some(name) if keys.room(&verified.institution, name).as_ref() == Some(&assignment.room) => {
                    "current"
                }
                Some(_) => "other",
            };
            json!({
                "room": name,
                "tag": assignment.room.tag,
                "room_key": under,
                "sid": assignment.sid,
                "home": assignment.home,
                "spill": assignment.spill,
                "epoch": assignment.epoch,
                "policy_version": assignment.policy_version,
                "created_ms": assignment.created_ms,
            })
        })
        .collect();
    Ok(Json(json!({ "rooms": rooms, "registry": api.registry_state(&verified.institution) })))
}

async fn explain(
    State(api): State<Arc<Api>>,
    Path(room): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, Failure> {
    let verified = administrator(&api, &caller, Some(&room))?;
    Ok(Json(api.admission.explain(&api.admission.room(&verified.institution, &room)?)))
}

#[derive(Deserialize)]
struct Guest {
    room: String,
    name: String,
}

/// Issues a token for a guest of the meeting page, if the operator serves guests and the institution's policy permits
/// them in the room. Policy is asked again when the guest joins.
async fn guest_token(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    api.limits.address(caller.from, Instant::now())?;
    let (ring, signer) = api.keys.ring_and_guest();
    let Some((key, secret)) = signer else {
        let why = "this gateway admits only participants whose link holds a token";
        return Err(Failure::Status(StatusCode::FORBIDDEN, why.to_owned()));
    };
    // The institution whose rooms guests may join.
    let institution = ring.institution(&key).unwrap_or_default();
    api.admission.may_serve(institution)?;
    let guest = match Json::<Guest>::from_request(request, &()).await {
        Ok(Json(guest)) => guest,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let (room, name) = (guest.room.trim(), guest.name.trim());
    if room.is_empty() || room.len() > 128 || name.is_empty() || name.len() > 256 {
        let why = "room (1 to 128 bytes) and name (1 to 256 bytes) are required";
        return Err(Failure::Status(StatusCode::BAD_REQUEST, why.to_owned()));
    }
    let identity = format!("guest-{:08x}", rand::rng().next_u32());
    let asked = Grants { guest: true, ..Grants::new(institution, room, &identity) };
    let id = api.admission.room(institution, room)?;
    let answer = may_join(&api.authority, &id, &asked);
    let decided = DecidedAction::of_participant(DecidedAt::Api, Action::JoinGuest, institution);
    api.authority.journal(&decided, &id, &answer);
    answer?;
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
    let token = AccessToken::with_api_key(&key, secret.expose())
        .with_identity(&identity)
        .with_name(name)
        .with_attributes([(GUEST_ATTRIBUTE, "true")])
        .with_grants(grants)
        .with_ttl(GUEST_TOKEN_LIFE.min(ring.max_life()))
        .to_jwt()
        .map_err(|error| {
            Failure::Status(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the token cannot be created: {error}"),
            )
        })?;
    Ok(Json(json!({ "token": token, "identity": identity })).into_response())
}

/// Entry point for the fuzz target: the body of a guest's request.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(body: &[u8]) {
    if let Ok(Json(guest)) = Json::<Guest>::from_bytes(body) {
        assert!(guest.room.len() + guest.name.len() <= 3 * body.len());
    }
}
