//! Maps node names to SPIFFE ids, addresses and links. The SPIFFE id of a name comes from the operators'
//! signed directories and from no other source; addresses come from leases.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use systir_admission::{PeerNodes, RefusedReservation, ReservationRequest, trace};
use systir_assignment::RoomId;
use systir_cascade::{
    CallError, FlowNumbers, HeldDocument, IdentityCounts, LinkInfo, Links, ListedNodes, NamedLinks, Parity,
    PeerAddress, RoomSendError, SignalStream,
};
use systir_documents::{DocumentId, PublicKey};
use systir_identity::SpiffeId;
use systir_policy::{Action, Authority};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::grant_reply::Result as Asked;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::room_message::Body;
use systir_proto::cluster::v1::{GrantRequest, ReleaseRequest, ReserveRequest, SignalStart};
use systir_reason::{Reason, Refusal};
use systir_registry::{GrantPeers, GrantPurpose, Registry, ToldAssignment};
use systir_room::{FlowAllocator, NodeAddress};
use systir_room_runtime::{PeerLinks, told_assignment};
use systir_rtp::packet::Layer;

use crate::refusal_wire;

/// The other nodes and this node's links to them.
pub(crate) struct NodeDirectory {
    links: OnceLock<Links>,
    authority: Arc<Authority>,
    registry: Arc<dyn Registry>,
    /// Flow numbers of the link to each node.
    flows: Mutex<HashMap<String, FlowNumbers>>,
}

impl std::fmt::Debug for NodeDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeDirectory")
    }
}

impl NodeDirectory {
    /// Creates the directory without links; [`connect`](Self::connect) sets them.
    pub(crate) fn new(authority: Arc<Authority>, registry: Arc<dyn Registry>) -> Self {
        Self { links: OnceLock::new(), authority, registry, flows: Mutex::default() }
    }

    /// Sets the links once they have started.
    pub(crate) fn connect(&self, links: Links) {
        let _ = self.links.set(links);
    }

    pub(crate) fn links(&self) -> Option<&Links> {
        self.links.get()
    }

    /// The SPIFFE id of the node with this name.
    pub(crate) fn id(&self, node: &str) -> Option<SpiffeId> {
        self.authority.facts(node)?.spiffe_id.parse().ok()
    }

    /// The name of the node with this id; none when it is not in a directory.
    pub(crate) fn name(&self, id: &SpiffeId) -> Option<String> {
        self.authority.node_of(id.as_str()).map(|node| node.id.clone())
    }

    /// The names of all nodes of all directories.
    pub(crate) fn names(&self) -> Vec<String> {
        self.authority.nodes().iter().map(|facts| facts.id.clone()).collect()
    }

    /// Does any institution approve the node as home, spill node or gateway?
    pub(crate) fn is_approved_anywhere(&self, node: &str) -> bool {
        let roles = [Action::Home, Action::Spill, Action::RelaySignal];
        self.authority.institutions().iter().any(|institution| {
            roles.iter().any(|role| self.authority.institution_node(*role, institution, node).allowed)
        })
    }

    /// Follows the rooms of the institutions whose policy approves this node, and remembers the nodes that directories list;
    /// no others.
    pub(crate) fn follow_rooms(&self) {
        self.registry.follow(self.authority.approving());
        let listed = self.authority.nodes();
        self.registry.remember(listed.iter().map(|node| node.id.as_str().into()).collect());
    }

    /// Tells another node which documents this node holds, and asks which it holds.
    pub(crate) async fn exchange_documents(&self, node: &str) -> Result<Vec<HeldDocument>, CallError> {
        let address = self.peer_address(node).ok_or_else(no_address)?;
        self.started()?.exchange_documents(&address).await
    }

    /// Fetches a signed document from another node.
    pub(crate) async fn fetch_document(
        &self,
        node: &SpiffeId,
        id: &DocumentId,
        version: u64,
    ) -> Result<String, CallError> {
        let address = self.name(node).and_then(|name| self.peer_address(&name)).ok_or_else(no_address)?;
        self.started()?.fetch_document(&address, id, version).await
    }

    /// A node's address, and the id that must answer there.
    fn peer_address(&self, node: &str) -> Option<PeerAddress> {
        let NodeAddress { grpc, quic } = self.address(node)?;
        Some(PeerAddress { id: self.id(node)?, grpc, quic })
    }

    /// Opens the stream that relays a participant's signalling to its media node.
    pub(crate) async fn signal(&self, node: &str, start: SignalStart) -> Result<SignalStream, CallError> {
        let address = self.peer_address(node).ok_or_else(no_address)?;
        self.started()?.signal(&address, start).await
    }

    fn started(&self) -> Result<&Links, CallError> {
        self.links().ok_or_else(|| CallError::Failed("this node's links have not started yet".to_owned()))
    }
}

fn no_address() -> CallError {
    CallError::Failed("the node never had a lease, so its address is unknown".to_owned())
}

impl ListedNodes for NodeDirectory {
    fn node_keys(&self, node: &SpiffeId) -> Vec<PublicKey> {
        self.authority.node_of(node.as_str()).map(|facts| facts.keys.clone()).unwrap_or_default()
    }

    fn may_dial(&self, node: &SpiffeId, address: IpAddr) -> bool {
        let facts = self.authority.node_of(node.as_str());
        facts.is_some_and(|facts| facts.prefixes.iter().any(|prefix| prefix.contains(address)))
    }

    fn is_node_address(&self, address: IpAddr) -> bool {
        self.authority.nodes().iter().any(|facts| facts.may_be_dialled_at(address))
    }
}

impl PeerLinks for NodeDirectory {
    fn open_room(&self, room: &str, node: &str, address: NodeAddress, epoch: u64, policy_version: u64) {
        if let (Some(links), Some(id)) = (self.links(), self.id(node)) {
            let NodeAddress { grpc, quic } = address;
            links.open_room(room, PeerAddress { id, grpc, quic }, epoch, policy_version);
        }
    }

    fn close_room(&self, room: &str, node: &str) {
        if let (Some(links), Some(id)) = (self.links(), self.id(node)) {
            links.close_room(room, &id);
        }
    }

    fn send(&self, room: &str, node: &str, body: Body) -> Result<(), Box<Body>> {
        let (Some(links), Some(id)) = (self.links(), self.id(node)) else { return Ok(()) };
        match links.send(&id, room, body) {
            Err(RoomSendError::Full(Some(body))) => Err(body),
            // Nothing to retry: the room is notified of the link's end and sends a snapshot when it is open
            // again.
            Ok(()) | Err(RoomSendError::NoLink | RoomSendError::RoomNotOpen | RoomSendError::Full(None)) => {
                Ok(())
            }
        }
    }

    fn has_link(&self, node: &str) -> bool {
        self.is_up(node)
    }

    fn address(&self, node: &str) -> Option<NodeAddress> {
        self.authority.facts(node)?;
        let view = self.registry.view();
        let lease = view.last_lease(node)?;
        let (grpc, quic): (SocketAddr, SocketAddr) = (lease.grpc.parse().ok()?, lease.quic.parse().ok()?);
        Some(NodeAddress { grpc, quic })
    }
}

impl FlowAllocator for NodeDirectory {
    fn flows(&self, node: &str, worker: u8) -> Option<[u32; Layer::MAX]> {
        let parity = Parity::of(self.links()?.me(), &self.id(node)?);
        let mut all = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = all.entry(node.to_owned()).or_insert_with(|| FlowNumbers::new(parity));
        let mut flows = [0; Layer::MAX];
        for flow in &mut flows {
            *flow = numbers.allocate(worker)?.raw();
        }
        Some(flows)
    }
}

impl PeerNodes for NodeDirectory {
    fn is_up(&self, node: &str) -> bool {
        let (Some(links), Some(id)) = (self.links(), self.id(node)) else { return false };
        links.is_up(&id)
    }

    fn reserve<'a>(
        &'a self,
        node: &'a str,
        request: ReservationRequest,
    ) -> BoxFuture<'a, Result<u64, RefusedReservation>> {
        async move {
            let address = self.peer_address(node).ok_or_else(|| refusal_wire::of_call(&no_address()))?;
            let request = ReserveRequest {
                room: request.room.key(),
                probe: request.join_id.is_none(),
                join_id: request.join_id.unwrap_or_default(),
                traceparent: trace::traceparent(),
                identity: request.identity,
                grant: request.grant,
            };
            let links = self.started().map_err(|error| refusal_wire::of_call(&error))?;
            let reply = links.reserve(&address, request).await;
            match reply.map_err(|error| refusal_wire::of_call(&error))?.result {
                Some(Reserved::Admitted(admitted)) => Ok(admitted.last_join),
                Some(Reserved::Refused(mut refused)) => {
                    let told = refused.assignment.take().map(told_assignment);
                    Err(RefusedReservation { refusal: refusal_wire::decode(refused), told })
                }
                None => Err(Refusal::new(Reason::Unspecified, "the node's reply has no result").into()),
            }
        }
        .boxed()
    }

    fn release<'a>(&'a self, node: &'a str, room: &'a RoomId, join_id: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let Some(address) = self.peer_address(node) else { return };
            let request = ReleaseRequest { room: room.key(), join_id: join_id.to_owned() };
            let released = match self.started() {
                Ok(links) => links.release(&address, request).await,
                Err(error) => Err(error),
            };
            if let Err(error) = released {
                tracing::debug!(node, %error, "a reservation was not released; it expires by itself");
            }
        }
        .boxed()
    }
}

impl GrantPeers for NodeDirectory {
    fn link_since(&self, node: &str) -> Option<Instant> {
        self.links()?.up_since(&self.id(node)?)
    }

    fn ask_grant<'a>(
        &'a self,
        node: &'a str,
        room: &'a RoomId,
        grant: String,
        purpose: GrantPurpose,
        limit: Duration,
    ) -> BoxFuture<'a, Result<ToldAssignment, Refusal>> {
        async move {
            let address = self.peer_address(node).ok_or_else(|| refusal_wire::of_call(&no_address()))?;
            let purpose = match purpose {
                GrantPurpose::Held => wire::GrantPurpose::Held,
                GrantPurpose::Create => wire::GrantPurpose::Create,
                // The asked node sees by the proven identity of this one that it is the home.
                GrantPurpose::TakeOver | GrantPurpose::HandOver => wire::GrantPurpose::TakeOver,
            };
            let request = GrantRequest {
                room: room.key(),
                grant,
                purpose: purpose.into(),
                traceparent: trace::traceparent(),
            };
            let links = self.started().map_err(|error| refusal_wire::of_call(&error))?;
            let reply = links.ask_grant(&address, request, limit).await;
            match reply.map_err(|error| refusal_wire::of_call(&error))?.result {
                Some(Asked::Assignment(told)) => Ok(told_assignment(told)),
                Some(Asked::Refused(refused)) => Err(refusal_wire::decode(refused)),
                None => Err(Refusal::new(Reason::Unspecified, "the node's reply has no result")),
            }
        }
        .boxed()
    }
}

impl NamedLinks for NodeDirectory {
    // A node that is not in a directory is "unknown": the name that it gives itself is not trusted.
    fn links_by_name(&self) -> Vec<(String, LinkInfo)> {
        let name = |link: &LinkInfo| self.name(&link.peer).unwrap_or_else(|| "unknown".to_owned());
        let links = self.links().map(Links::list).unwrap_or_default();
        links.into_iter().map(|link| (name(&link), link)).collect()
    }

    fn connection_ends(&self) -> Vec<(String, SystemTime)> {
        let ends = self.links().map(Links::connection_ends).unwrap_or_default();
        ends.into_iter().filter_map(|(peer, end)| Some((self.name(&peer)?, end))).collect()
    }

    fn identity_counts(&self) -> IdentityCounts {
        self.links().map(Links::identity_counts).unwrap_or_default()
    }

    fn lost_between_threads(&self) -> (u64, u64) {
        self.links().map(Links::lost_between_threads).unwrap_or_default()
    }
}
