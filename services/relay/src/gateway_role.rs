//! A node that policy approves as gateway of no institution answers no request: it may see neither names nor
//! tokens, so it must not ask for them. Policy can change while the node runs, so each request is decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use systir_admission::Admission;
use systir_journal::DecidedAt;
use systir_policy::{Action, Authority, DecidedAction};
use systir_reason::{Reason, Refusal};

/// Decides whether this node is a gateway.
#[derive(Debug)]
pub(crate) struct GatewayRole {
    pub(crate) admission: Arc<Admission>,
    pub(crate) authority: Arc<Authority>,
    /// The institutions of the configuration.
    pub(crate) institutions: Vec<String>,
    /// Was the last request refused? Anyone can ask, so only a change is journaled.
    pub(crate) refuses: AtomicBool,
}

impl GatewayRole {
    /// The reason why no institution approves this node as gateway; none when one does.
    fn refusal(&self) -> Option<Refusal> {
        let mut last = None;
        for institution in &self.institutions {
            match self.admission.may_serve(institution) {
                Ok(()) => {
                    self.refuses.store(false, Ordering::Relaxed);
                    return None;
                }
                Err(refusal) => last = Some(refusal),
            }
        }
        if !self.refuses.swap(true, Ordering::Relaxed) {
            self.journal();
        }
        let none = || Refusal::new(Reason::UnknownInstitution, "no institution is configured on this node");
        Some(last.unwrap_or_else(none))
    }
}

impl GatewayRole {
    fn journal(&self) {
        let node = self.authority.own_id();
        let decided = DecidedAction::of_node(DecidedAt::Gateway, Action::RelaySignal, node);
        for institution in &self.institutions {
            let answer = self.admission.may_serve(institution);
            self.authority.journal_institution(&decided, institution, &answer);
        }
    }
}

/// Middleware: refuses the request with the reason, or shows it as a page.
pub(crate) async fn require(State(role): State<Arc<GatewayRole>>, request: Request, next: Next) -> Response {
    let Some(refusal) = role.refusal() else { return next.run(request).await };
    let path = request.uri().path();
    match (request.method(), path) {
        // LiveKit clients use it to check that the server is reachable.
        (&Method::HEAD, "/") => StatusCode::OK.into_response(),
        (&Method::GET, "/") => systir_console::not_a_gateway(&refusal.to_string()),
        (&Method::OPTIONS, _) | (_, "/app.css" | "/icon.svg") => next.run(request).await,
        _ => {
            if path.starts_with("/rtc") {
                role.admission.metrics().join_refused(refusal.reason);
            }
            let mut response = systir_gateway::respond(&refusal);
            // Clients of other origins read the reason too.
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            response
        }
    }
}
