//! What the node implements for its links: the decisions that peers ask for. `peer` is always the
//! SPIFFE id that TLS proved.

use crate::signal::SignalStream;
use std::pin::Pin;
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::{OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest, SignalStart};
use systir_reason::Refusal;

/// A decision that takes longer counts as a refusal.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(2);

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The decisions of this node. An answer that takes longer than 2 s counts as a refusal.
pub trait Handler: Send + Sync + 'static {
    /// Whether the peer is a known node. Asked first at every call: a valid certificate proves an
    /// identity, not membership.
    ///
    /// # Errors
    /// The reason why the peer is not admitted.
    fn admit(&self, peer: &SpiffeId) -> Result<(), Refusal>;

    /// Whether this node's own policy lets it exchange the room's media and messages with the peer.
    /// Asked each time the peer requests a room on a link, also for a room that is open already.
    fn open_room<'a>(&'a self, peer: &'a SpiffeId, room: &'a OpenRoom) -> BoxFuture<'a, Result<(), Refusal>>;

    /// The peer asks to reserve a seat for a participant. The implementation asks policy too.
    fn reserve<'a>(&'a self, peer: &'a SpiffeId, request: ReserveRequest) -> BoxFuture<'a, ReserveReply>;

    /// The peer releases a reservation. A seat whose participant has joined is not affected.
    fn release<'a>(&'a self, peer: &'a SpiffeId, request: ReleaseRequest) -> BoxFuture<'a, ()>;

    /// The peer, as a participant's gateway, relays its signalling to this node. To accept, keep the
    /// stream and return `Ok`; handle its messages in another task.
    fn signal<'a>(
        &'a self,
        peer: &'a SpiffeId,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>>;
}
