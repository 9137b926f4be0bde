//! What this node decides when another asks. Every peer given here is what TLS proved.

use crate::signal::SignalStream;
use std::pin::Pin;
use std::time::Duration;
use systir_identity::SpiffeId;
use systir_proto::cluster::v1::{OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest, SignalStart};
use systir_reason::Refusal;

/// The node behind the links answers within this time.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(2);

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The node behind the links. Answers that take longer than 2 s count as refusals.
pub trait Handler: Send + Sync + 'static {
    /// Is the peer a node that this one deals with at all? Asked before anything else, at each call:
    /// a certificate of a known CA says who somebody is, not that they belong here.
    ///
    /// # Errors
    /// When it does not.
    fn admit(&self, peer: &SpiffeId) -> Result<(), Refusal>;

    /// The gate: may `peer` and this node exchange anything of the room? Asked of this node's own
    /// policy whenever the peer opens a room on a link, again for rooms that are open already.
    fn open_room<'a>(&'a self, peer: &'a SpiffeId, room: &'a OpenRoom) -> BoxFuture<'a, Result<(), Refusal>>;

    /// The peer asks for a participant's place. The answer decides; policy is asked here too.
    fn reserve<'a>(&'a self, peer: &'a SpiffeId, request: ReserveRequest) -> BoxFuture<'a, ReserveReply>;

    /// The peer gives a place back.
    fn release<'a>(&'a self, peer: &'a SpiffeId, request: ReleaseRequest) -> BoxFuture<'a, ()>;

    /// The peer is the front door of a participant. To accept, keep the stream and return; the
    /// messages are handled elsewhere.
    fn signal<'a>(
        &'a self,
        peer: &'a SpiffeId,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>>;
}
