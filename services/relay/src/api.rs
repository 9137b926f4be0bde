//! The relay's own HTTP interface, beside LiveKit's: where a room's media goes, and what operators
//! ask. A token is needed for all of it; the answer never goes beyond the token's institution, and a
//! node that the institution's policy does not approve as front door answers none of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use livekit_token::{AccessToken, VideoGrants};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use systir_assignment::RoomId;
use systir_gateway::{Refusal, TurnedAway};
use systir_livekit::token::{self, Verified};
use systir_policy::Action;

use crate::admit::{self, NotAdmitted};
use crate::ladder;
use crate::node::Shared;

/// `/systir/v1/…`
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/systir/v1/rooms/{room}/where", get(where_is))
        .route("/systir/v1/rooms/{room}/explain", get(explain))
        .route("/systir/v1/rooms", get(rooms))
        .route("/systir/v1/nodes", get(nodes))
        .route("/systir/v1/guest-token", post(guest_token))
        .with_state(shared)
}

/// A refusal with its reason as text.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<NotAdmitted> for Refused {
    fn from(refused: NotAdmitted) -> Self {
        let refusal = Refusal::from(refused);
        Self(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN), refusal.words())
    }
}

fn verified(shared: &Shared, headers: &HeaderMap) -> Result<Verified, Refused> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| {
            Refused(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer …".to_owned())
        })?;
    let who = token::verify(&shared.keys, token, SystemTime::now()).map_err(|error| {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        Refused(status, Refusal::from(TurnedAway::Token(error)).words())
    })?;
    admit::may_signal(shared, &who.institution)?;
    Ok(who)
}

async fn where_is(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let who = verified(&shared, &headers)?;
    let video = &who.claims.video;
    // A token without a room is for none, not for all.
    if !(video.room_join || video.room_admin) || video.room != room {
        return Err(Refused(StatusCode::FORBIDDEN, "the token is for another room".to_owned()));
    }
    let id = RoomId::new(&who.institution, &room);
    match shared.whereabouts(&id).await {
        Some(whereabouts) => Ok(Json(whereabouts).into_response()),
        None => Err(Refused(StatusCode::NOT_FOUND, "the room is not assigned: nobody is in it".to_owned())),
    }
}

/// An administrator of the institution (`roomList`), or of one room (`roomAdmin` for that room).
fn administrator(shared: &Shared, headers: &HeaderMap, room: Option<&str>) -> Result<Verified, Refused> {
    let who = verified(shared, headers)?;
    let video = &who.claims.video;
    let of_room = room.is_some_and(|room| video.room_admin && video.room == room);
    if !(video.room_list || of_room) {
        let why = "the token has neither roomList nor roomAdmin for this room";
        return Err(Refused(StatusCode::FORBIDDEN, why.to_owned()));
    }
    let decision = shared.authority.person(Action::Administer, &who.institution, &who.institution);
    if !decision.allowed {
        return Err(NotAdmitted::denied(&decision).into());
    }
    Ok(who)
}

async fn nodes(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, Refused> {
    administrator(&shared, &headers, None)?;
    let view = shared.registry.view();
    let nodes: Vec<Value> = shared
        .authority
        .nodes()
        .map(|facts| {
            let lease = view.node(&facts.id);
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
                "alive": lease.is_some(),
                "draining": lease.is_some_and(|lease| lease.draining),
                "participants": lease.map(|lease| lease.load.participants),
                "capacity": lease.map(|lease| lease.load.capacity),
                "version": lease.map(|lease| lease.version.clone()),
            })
        })
        .collect();
    Ok(Json(json!({ "nodes": nodes, "registry": shared.registry_state() })))
}

async fn rooms(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, Refused> {
    let who = administrator(&shared, &headers, None)?;
    let view = shared.registry.view();
    let rooms: Vec<Value> = view
        .rooms()
        .filter(|assignment| assignment.room.institution == who.institution)
        .map(|assignment| {
            json!({
                "room": assignment.room.name,
                "sid": assignment.sid,
                "home": assignment.home,
                "spill": assignment.spill,
                "epoch": assignment.epoch,
                "policy_version": assignment.policy_version,
                "created_ms": assignment.created_ms,
            })
        })
        .collect();
    Ok(Json(json!({ "rooms": rooms, "registry": shared.registry_state() })))
}

async fn explain(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    let who = administrator(&shared, &headers, Some(&room))?;
    Ok(Json(ladder::explain(&shared, &RoomId::new(&who.institution, &room))))
}

#[derive(Deserialize)]
struct Guest {
    room: String,
    name: String,
}

/// Lets in whoever opens the meeting page, where the operator said so.
async fn guest_token(
    State(shared): State<Arc<Shared>>,
    Json(guest): Json<Guest>,
) -> Result<Json<Value>, Refused> {
    let Some((key, secret)) = &shared.guest else {
        let why = "this front door lets in nobody without a link that holds a token";
        return Err(Refused(StatusCode::FORBIDDEN, why.to_owned()));
    };
    // Whose rooms the visitors of the page may enter.
    let institution = shared.keys.institution(key).unwrap_or_default();
    admit::may_signal(&shared, institution)?;
    let (room, name) = (guest.room.trim(), guest.name.trim());
    if room.is_empty() || room.len() > 128 || name.is_empty() || name.len() > 256 {
        let why = "room (1 to 128 bytes) and name (1 to 256 bytes) are needed";
        return Err(Refused(StatusCode::BAD_REQUEST, why.to_owned()));
    }
    let identity = format!("guest-{:08x}", rand::rng().next_u32());
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
    let token = AccessToken::with_api_key(key, secret.expose())
        .with_identity(&identity)
        .with_name(name)
        .with_grants(grants)
        .with_ttl(Duration::from_secs(6 * 3600))
        .to_jwt()
        .map_err(|error| {
            Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("no token can be made: {error}"))
        })?;
    Ok(Json(json!({ "token": token, "identity": identity })))
}
