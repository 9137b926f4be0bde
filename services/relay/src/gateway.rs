//! This node as a front door for LiveKit clients.

use std::sync::Arc;

use axum::Router;
use futures::future::BoxFuture;
use systir_assignment::RoomId;
use systir_gateway::{Door, JoinRequest, Limits, Refusal, SignalPipe, Tally, TurnedAway};
use systir_livekit::token::KeyRing;
use systir_placement::Demand;
use tracing::Span;

use crate::admit::{self, NotAdmitted};
use crate::join::{Joiner, join};
use crate::node::Shared;
use crate::reason::Reason;
use crate::trace;

struct FrontDoor(Arc<Shared>);

/// `/rtc` and what belongs to it.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    systir_gateway::router(Arc::new(FrontDoor(shared)), Limits::default())
}

impl From<NotAdmitted> for Refusal {
    fn from(refused: NotAdmitted) -> Self {
        Self::new(refused.status, refused.sentence, with_rules(refused.code, &refused.rules))
    }
}

fn with_rules(code: Reason, rules: &str) -> String {
    if rules.is_empty() { code.to_string() } else { format!("{code}: {rules}") }
}

/// The meeting page, where this node may be front door of at least one institution; elsewhere a page
/// that says why there is none. A machine that may not see names and tokens asks nobody for them.
pub(crate) fn page<'a>(shared: &Shared, institutions: impl Iterator<Item = &'a str>) -> Router {
    let mut away = None;
    for institution in institutions {
        match admit::may_signal(shared, institution) {
            Ok(()) => return systir_console::router(),
            Err(refused) => away = Some(Refusal::from(refused).words()),
        }
    }
    systir_console::closed(&away.unwrap_or_else(|| "no institution has a policy here".to_owned()))
}

impl Door for FrontDoor {
    fn keys(&self) -> Arc<KeyRing> {
        self.0.keys.clone()
    }

    fn may_signal(&self, institution: &str) -> Result<(), Refusal> {
        trace::tell_id(&Span::current());
        let answer = admit::may_signal(&self.0, institution).inspect_err(|refused| {
            Span::current().record("reason", refused.code.as_str());
            self.0.metrics.join("refused", refused.code);
        });
        answer.map_err(Into::into)
    }

    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>> {
        Box::pin(async move {
            trace::tell_id(&Span::current());
            let joiner = Joiner {
                grants: request.grants,
                client: request.client,
                auto_subscribe: request.auto_subscribe,
            };
            let pipe = join(&self.0, joiner).await?;
            Ok(SignalPipe { to_media: pipe.to_room, from_media: pipe.from_room })
        })
    }

    fn validate(&self, request: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            trace::tell_id(&Span::current());
            let room = RoomId::new(&request.grants.institution, &request.grants.room);
            let demand = Demand { view_only: !request.grants.can_publish };
            let answer = admit::would_admit(&self.0, &room, &request.grants.identity, &demand);
            admit::within(admit::WAIT, answer)
                .await
                .inspect_err(|refused| {
                    Span::current().record("reason", refused.code.as_str());
                })
                .map_err(Into::into)
        })
    }

    fn turned_away(&self, why: TurnedAway) {
        self.0.metrics.join("refused", why.into());
    }

    fn tally(&self) -> Arc<Tally> {
        self.0.metrics.sockets.clone()
    }
}
