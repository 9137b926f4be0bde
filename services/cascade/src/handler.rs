//! What the node implements for its links: the decisions that peers ask for.

use crate::documents::HeldDocument;
use crate::signal::SignalStream;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use systir_documents::DocumentId;
use systir_identity::ProvenIdentity;
use systir_proto::cluster::v1::{
    GrantReply, GrantRequest, OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest, SignalStart,
};
use systir_reason::Refusal;

/// A decision that takes longer counts as a refusal.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(2);

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The decisions of this node. `peer` has proven its identity, and a directory lists it. An answer that takes
/// longer than 2 s counts as a refusal.
pub trait Handler: Send + Sync + 'static {
    /// Whether this node's own policy lets it exchange the room's media and messages with the peer.
    /// Asked each time the peer requests a room on a link, also for a room that is open already.
    fn open_room<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        room: &'a OpenRoom,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// The peer opened a room that this node requested on their link, perhaps before it knew who would answer: does this
    /// node's own policy let it exchange the room's media and messages with the identity that the peer proved? Asked each
    /// time, before the room is open; it is closed at both nodes when not. It must answer at once.
    ///
    /// # Errors
    /// Why not.
    fn may_open(&self, peer: &ProvenIdentity, room: &str) -> Result<(), Refusal>;

    /// The grant that this node holds of the room, as a signed note: it is sent with each request to open the room on a
    /// link. Empty when this node holds none. It must answer at once.
    fn grant(&self, room: &str) -> String;

    /// May the room be on links? Asked before each request for it, and once a second while it is open on a link; it is
    /// closed at once when not. So a room whose grant has ended closes whatever its own task does. It must answer at once.
    fn may_be_open(&self, room: &str) -> bool;

    /// The peer asks for the grant of a room.
    fn ask_grant<'a>(&'a self, peer: &'a ProvenIdentity, request: GrantRequest) -> BoxFuture<'a, GrantReply>;

    /// The peer asks to reserve a seat for a participant. The implementation asks policy too.
    fn reserve<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        request: ReserveRequest,
    ) -> BoxFuture<'a, ReserveReply>;

    /// The peer releases a reservation. A seat whose participant has joined is not affected.
    fn release<'a>(&'a self, peer: &'a ProvenIdentity, request: ReleaseRequest) -> BoxFuture<'a, ()>;

    /// The peer, as a participant's gateway, relays its signalling to this node. To accept, keep the
    /// stream and return `Ok`; handle its messages in another task.
    fn signal<'a>(
        &'a self,
        peer: &'a ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// The newest version of each signed document that this node holds. It must answer at once.
    fn document_versions(&self) -> Vec<HeldDocument>;

    /// The peer holds these documents. Called when a link is up, after a change at the peer, and when the peer
    /// calls [`crate::Links::exchange_documents`]; at most once a second for each link. It must return at once,
    /// and fetch what it misses in a task, with [`crate::Links::fetch_document`].
    fn documents_offered(&self, peer: &ProvenIdentity, offered: Vec<HeldDocument>);

    /// The signed note of a document, which the peer fetches. None when this node does not hold that version. It
    /// must answer at once.
    fn document(&self, peer: &ProvenIdentity, id: &DocumentId, version: u64) -> Option<Arc<str>>;
}
