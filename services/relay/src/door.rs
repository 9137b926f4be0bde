//! This node as a front door for LiveKit clients.

use std::sync::Arc;

use axum::Router;
use futures::future::BoxFuture;
use systir_access::door::{Door, JoinRequest, Limits, Refusal, SignalPipe};
use systir_access::token::KeyRing;
use systir_placement::Demand;
use systir_registry::RoomId;
use tracing::Span;

use crate::admit::{self, NotAdmitted};
use crate::join::{Joiner, join};
use crate::node::Shared;
use crate::trace;

struct FrontDoor(Arc<Shared>);

/// `/rtc` and what belongs to it.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    systir_access::door::router(Arc::new(FrontDoor(shared)), Limits::default())
}

impl From<NotAdmitted> for Refusal {
    fn from(refused: NotAdmitted) -> Self {
        Self::new(refused.status, refused.sentence)
    }
}

impl Door for FrontDoor {
    fn keys(&self) -> Arc<KeyRing> {
        self.0.keys.clone()
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

    fn turned_away(&self, code: &'static str) {
        self.0.metrics.join("refused", code);
    }
}
