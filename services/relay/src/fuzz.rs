//! Entry points for fuzzing; not part of the public API.

use std::sync::LazyLock;

use prost::Message as _;
use systir_proto::cluster::v1 as wire;
use systir_reason::Reason;
use systir_room::RoomState;

use crate::config::RelayConfig;

/// Any fixed time; updates from the future are refused.
const NOW_MS: u64 = 1_800_000_000_000;

/// Applies updates from another node to a room with a local participant: the sender may change only its own
/// participants.
pub fn room_updates<'a>(updates: impl Iterator<Item = &'a [u8]>) {
    let mut state = RoomState::new("cph-1", 1);
    let _ = state.local_join("PA_ada", "ada", 1, bytes::Bytes::new(), bytes::Bytes::new());
    for update in updates {
        if let Some(update) = systir_room::wire::decode(update) {
            let _ = state.apply("sto-1", update, NOW_MS);
        }
    }
    assert!(state.participants().all(|one| one.owner == "cph-1" || one.owner == "sto-1"));
}

static FOLDER: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| tempfile::tempdir().ok());

/// Loads a configuration file with this text.
///
/// # Errors
/// The message for the operator.
pub fn config(text: &str) -> Result<(), String> {
    let folder = FOLDER.as_ref().ok_or("no folder for temporary files")?;
    // One file per thread: tests run in parallel.
    let file = folder.path().join(format!("{:?}.toml", std::thread::current().id()));
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    RelayConfig::load(&file).map(drop).map_err(|error| error.to_string())
}

/// What a proxy sends before the client's bytes.
pub fn proxy_header(sent: &[u8]) {
    crate::serve::proxy_protocol::fuzz(sent);
}

/// The body of a request to drain or undrain, and of a guest's request for a token.
pub fn api_bodies(body: &[u8]) {
    if let Ok(text) = std::str::from_utf8(body) {
        crate::drain_api::fuzz(text);
    }
    crate::api::fuzz(body);
}

/// Calls between nodes and the answers to them. A refusal that is passed on keeps its reason, apart from those that other
/// nodes are told as one.
pub fn calls(bytes: &[u8]) {
    if let Ok(request) = wire::ReserveRequest::decode(bytes) {
        room(&request.room);
    }
    if let Ok(request) = wire::GrantRequest::decode(bytes) {
        room(&request.room);
        let _ = request.purpose();
        systir_admission::trace::adopt(&tracing::Span::none(), &request.traceparent);
    }
    if let Ok(reply) = wire::ReserveReply::decode(bytes)
        && let Some(wire::reserve_reply::Result::Refused(refused)) = reply.result
    {
        refusal(refused);
    }
    if let Ok(reply) = wire::GrantReply::decode(bytes) {
        match reply.result {
            Some(wire::grant_reply::Result::Assignment(told)) => assignment(told),
            Some(wire::grant_reply::Result::Refused(refused)) => refusal(refused),
            None => {}
        }
    }
}

fn room(key: &str) {
    if let Ok(room) = crate::cluster_service::room_of(key) {
        assert_eq!(crate::cluster_service::room_of(&room.key()), Ok(room));
    }
}

fn assignment(told: wire::RoomAssignment) {
    let spill = told.spill.len();
    let told = systir_room_runtime::told_assignment(told);
    assert_eq!(systir_room_runtime::telling(told).spill.len(), spill.min(64));
}

fn refusal(mut refused: wire::ReserveRefused) {
    if let Some(told) = refused.assignment.take() {
        assignment(told);
    }
    let refusal = crate::refusal_wire::decode(refused);
    let told = refusal.clone();
    let again = crate::refusal_wire::decode(crate::refusal_wire::encode(refusal));
    assert_eq!((again.sentence, again.rules), (told.sentence, told.rules));
    assert!(again.reason == told.reason || told.reason == Reason::Unspecified);
}
