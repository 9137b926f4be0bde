//! This node as a front door for LiveKit clients.

use std::sync::Arc;

use axum::Router;
use futures::future::BoxFuture;
use systir_access::door::{Door, JoinRequest, Limits, Refusal, SignalPipe};
use systir_access::token::KeyRing;
use systir_placement::Demand;
use systir_registry::RoomId;

use crate::admit::{self, NotAdmitted};
use crate::join::{Joiner, join};
use crate::node::Shared;

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
            let room = RoomId::new(&request.grants.institution, &request.grants.room);
            let demand = Demand { view_only: !request.grants.can_publish };
            admit::would_admit(&self.0, &room, &demand).await.map_err(Into::into)
        })
    }
}
