//! Signed documents over HTTP: which ones this node uses, and new ones. A document is believed for its
//! signatures, not for the token of the one who sends it; the token only limits who can make the node work.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use systir_documents::{
    Acceptance, DocumentId, DocumentKind, MAX_NOTE_BYTES, NotAccepted, PublicKey, Validity, VerifiedDocument,
    rfc3339,
};

use crate::api::{Api, Caller, Failure, administrator};
use crate::documents::store::{DocumentStore, NotTaken};

/// State of these routes.
pub(crate) struct DocumentsApi {
    pub(crate) api: Arc<Api>,
    pub(crate) store: Arc<DocumentStore>,
}

/// `/systir/v1/documents…`
pub(crate) fn router(state: DocumentsApi) -> Router {
    Router::new()
        .route("/systir/v1/documents", get(list).merge(post(publish)))
        .route("/systir/v1/documents/{kind}/{owner}", get(note))
        .layer(DefaultBodyLimit::max(MAX_NOTE_BYTES))
        .with_state(Arc::new(state))
}

fn validity(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "valid",
        Validity::RenewalOverdue => "renewal-overdue",
        Validity::Expired => "expired",
    }
}

/// Bundles of other institutions are not shown.
fn is_shown(id: &DocumentId, institution: &str) -> bool {
    id.kind != DocumentKind::Bundle || id.owner == institution
}

fn description(store: &DocumentStore, document: &VerifiedDocument) -> Value {
    let (id, lifetime) = (document.id(), document.lifetime());
    let signer = |key: &PublicKey| json!({ "name": key.name(), "fingerprint": key.fingerprint() });
    json!({
        "kind": id.kind.as_str(),
        "owner": id.owner,
        "version": document.version(),
        "hash": document.hash().to_string(),
        "issued": rfc3339(lifetime.issued),
        "renew_by": rfc3339(lifetime.renew_by),
        "not_after": rfc3339(lifetime.not_after),
        "state": validity(store.validity(&id)),
        "signers": document.signers().iter().map(signer).collect::<Vec<_>>(),
    })
}

async fn list(State(state): State<Arc<DocumentsApi>>, caller: Caller) -> Result<Json<Value>, Failure> {
    let verified = administrator(&state.api, &caller, None)?;
    let shown = state.store.all();
    let shown = shown.iter().filter(|document| is_shown(&document.id(), &verified.institution));
    let documents: Vec<Value> = shown.map(|document| description(&state.store, document)).collect();
    Ok(Json(json!({ "documents": documents })))
}

async fn note(
    State(state): State<Arc<DocumentsApi>>,
    Path((kind, owner)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response, Failure> {
    let verified = administrator(&state.api, &caller, None)?;
    let missing = || Failure::Status(StatusCode::NOT_FOUND, "there is no such document".to_owned());
    let kind = DocumentKind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(missing)?;
    let id = DocumentId { kind, owner };
    let document = Some(id).filter(|id| is_shown(id, &verified.institution));
    let document = document.and_then(|id| state.store.newest(&id)).ok_or_else(missing)?;
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((plain, document.note().to_string()).into_response())
}

async fn publish(
    State(state): State<Arc<DocumentsApi>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    administrator(&state.api, &caller, None)?;
    let body = match String::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let store = state.store.clone();
    let taken = tokio::task::spawn_blocking(move || store.take(&body)).await;
    let taken = taken.map_err(|error| {
        Failure::Status(StatusCode::INTERNAL_SERVER_ERROR, format!("the document was not taken: {error}"))
    })?;
    let (id, acceptance) = taken.map_err(|error| {
        let status = match &error {
            NotTaken::Refused(_) => StatusCode::FORBIDDEN,
            NotTaken::NotNewer(
                NotAccepted::Older { .. } | NotAccepted::Conflict { .. } | NotAccepted::IssuedEarlier { .. },
            ) => StatusCode::CONFLICT,
            NotTaken::Policy(_) | NotTaken::Roots(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotTaken::NotKept(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::Status(status, format!("the document was not taken: {error}"))
    })?;
    let newest = state.store.newest(&id);
    let document = newest.map(|document| description(&state.store, &document));
    Ok(Json(json!({ "new": acceptance == Acceptance::New, "document": document })).into_response())
}
