//! What all link tasks share.

use super::state_pace::StatePaces;
use super::table::LinkTable;
use crate::authenticator::Authenticator;
use crate::event::LinkEvent;
use crate::grpc::client::Clients;
use crate::handler::Handler;
use crate::quic::QuicHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all link tasks share.
pub(crate) struct LinkRuntime {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) quic: QuicHandle,
    pub(crate) clients: Arc<Clients>,
    pub(crate) connections: u8,
    pub(crate) linger: Duration,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) table: LinkTable,
    /// How fast messages of each peer are read.
    pub(crate) paces: StatePaces,
}
