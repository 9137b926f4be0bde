//! This node as a gateway for LiveKit clients.

use std::sync::Arc;

use axum::Router;
use futures::future::BoxFuture;
use systir_admission::{JOIN_TIMEOUT, trace, with_time_limit};
use systir_gateway::{JoinHandler, JoinLimits, JoinRequest, SignalCounters, SignalPipe, SocketLimits};
use systir_journal::DecidedAt;
use systir_livekit::token::KeyRing;
use systir_placement::Demand;
use systir_policy::{Action, DecidedAction};
use systir_reason::Refusal;
use tracing::Span;

use crate::api_keys::ApiKeys;
use crate::join::{Joiner, Joins};

struct GatewayNode {
    keys: Arc<ApiKeys>,
    joins: Joins,
    /// Counters of the clients' WebSockets.
    sockets: Arc<SignalCounters>,
}

/// LiveKit's routes: `/rtc`, `/rtc/validate`.
pub(crate) fn router(
    keys: Arc<ApiKeys>,
    joins: Joins,
    sockets: Arc<SignalCounters>,
    limits: Arc<JoinLimits>,
) -> Router {
    systir_gateway::router(Arc::new(GatewayNode { keys, joins, sockets }), SocketLimits::default(), limits)
}

fn record_reason(refusal: &Refusal) {
    Span::current().record("reason", refusal.reason.as_str());
}

impl JoinHandler for GatewayNode {
    fn keys(&self) -> Arc<KeyRing> {
        self.keys.ring()
    }

    fn may_signal(&self, institution: &str) -> Result<(), Refusal> {
        trace::record_id(&Span::current());
        let answer = self.joins.admission.may_serve(institution);
        if let Err(refusal) = &answer {
            record_reason(refusal);
            self.joins.admission.metrics().join_refused(refusal.reason);
            let decided = DecidedAction::of_node(DecidedAt::Gateway, Action::RelaySignal, &self.joins.node);
            self.joins.authority.journal_institution(&decided, institution, &answer);
        }
        answer
    }

    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>> {
        Box::pin(async move {
            trace::record_id(&Span::current());
            let JoinRequest { grants, client, auto_subscribe } = request;
            self.joins.join(Joiner { grants, client, auto_subscribe }).await
        })
    }

    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            trace::record_id(&Span::current());
            let admission = &self.joins.admission;
            let room = admission.room(&request.grants.institution, &request.grants.room);
            let room = room.inspect_err(record_reason)?;
            let demand = Demand { view_only: !request.grants.can_publish };
            let answer = async {
                let elsewhere = self.joins.known(&room, &request.grants.identity).await.elsewhere;
                admission.would_admit(&room, &request.grants, &demand, elsewhere).await
            };
            with_time_limit(JOIN_TIMEOUT, answer).await.inspect_err(record_reason)
        })
    }

    fn rejected(&self, refusal: &Refusal) {
        self.joins.admission.metrics().join_refused(refusal.reason);
    }

    fn counters(&self) -> Arc<SignalCounters> {
        self.sockets.clone()
    }
}
