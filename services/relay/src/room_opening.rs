//! Opens rooms on links: only if the room's grant lists this node and the peer in their roles, and this node's own policy
//! allows each of them its role, asked on the identity that the peer proved.

use systir_assignment::{MediaRole, RoomId};
use systir_grants::{GrantRefusal, GrantRole};
use systir_identity::ProvenIdentity;
use systir_journal::DecidedAt;
use systir_policy::DecidedAction;
use systir_proto::cluster::v1::OpenRoom;
use systir_reason::{Reason, Refusal};
use systir_registry::Occupied as _;

use crate::cluster_service::{ClusterService, room_of};

/// The two ends of a link, in a room.
struct Ends {
    own_role: MediaRole,
    peer: String,
    peer_role: MediaRole,
    /// Does this node carry the room, and the peer too, as far as this node knows?
    standing: bool,
}

fn not_assigned() -> Refusal {
    Refusal::new(Reason::NotAssigned, "this node is not assigned to the room")
}

impl ClusterService {
    /// The peer asks to open the room.
    pub(crate) async fn open_asked(&self, peer: &ProvenIdentity, asked: &OpenRoom) -> Result<(), Refusal> {
        let opened = self.try_open_asked(peer, asked).await;
        self.journal_opening(peer, &asked.room, &opened);
        opened
    }

    async fn try_open_asked(&self, peer: &ProvenIdentity, asked: &OpenRoom) -> Result<(), Refusal> {
        let room = room_of(&asked.room)?;
        self.learn_room(peer, &room, &asked.grant).await?;
        // A peer that may not carry the room in any role learns nothing about it, at once.
        self.peer_may_carry_at_all(peer, &room)?;
        let peer_name = self.directory.name(peer.id()).unwrap_or_default();
        self.assignments.offered(&room, &asked.grant, &peer_name).await?;
        let ends = self.ends(peer, &room)?;
        // A spill node opens a room only if it has participants of it.
        if ends.own_role == MediaRole::Spill && !self.rooms.is_occupied(&room) {
            return Err(not_assigned());
        }
        self.policy_allows(peer, &ends, &room)?;
        self.renew_as_home(ends.own_role, &room)?;
        self.assignments.check(&room, &self.granted_roles(&ends), ends.standing)?;
        if ends.peer_role == MediaRole::Spill {
            self.assignments.peer_carries(&room, &ends.peer);
        }
        let assignment = self.assignments.get(&room).ok_or(GrantRefusal::None)?;
        self.rooms.open(&assignment);
        Ok(())
    }

    /// The peer opened the room, as this node asked: policy, the grant, or the peer's identity may be other ones by now.
    pub(crate) fn may_open_with(&self, peer: &ProvenIdentity, room: &str) -> Result<(), Refusal> {
        let opened = self.try_open_with(peer, room);
        // What is let in was journaled when the peer asked: both ends ask.
        if opened.is_err() {
            self.journal_opening(peer, room, &opened);
        }
        opened
    }

    fn try_open_with(&self, peer: &ProvenIdentity, room: &str) -> Result<(), Refusal> {
        let room = room_of(room)?;
        self.peer_may_carry_at_all(peer, &room)?;
        let ends = self.ends(peer, &room)?;
        self.policy_allows(peer, &ends, &room)?;
        let roles = self.granted_roles(&ends);
        if ends.standing {
            // Its home, which has just come back, had no time to renew the grant.
            self.assignments.check_standing(&room, &roles)?;
        } else {
            self.assignments.check(&room, &roles, false)?;
        }
        Ok(())
    }

    /// Journals whether the room was opened to the peer.
    fn journal_opening(&self, peer: &ProvenIdentity, room: &str, opened: &Result<(), Refusal>) {
        let Some(room) = RoomId::from_key(room) else { return };
        let peer = self.directory.name(peer.id()).unwrap_or_default();
        let role = self.assignments.role(&room, &peer).unwrap_or(MediaRole::Spill);
        let decided = DecidedAction::of_node(DecidedAt::RoomOpening, role.into(), &peer);
        self.authority.journal(&decided.asked_by(&peer), &room, opened);
    }

    /// May the peer carry the room as a spill node or as its home?
    fn peer_may_carry_at_all(&self, peer: &ProvenIdentity, room: &RoomId) -> Result<(), Refusal> {
        let as_spill = self.peer_may_carry(peer, MediaRole::Spill, room);
        as_spill.or_else(|_| self.peer_may_carry(peer, MediaRole::Home, room))
    }

    /// The roles by the grant that this node holds.
    fn ends(&self, peer: &ProvenIdentity, room: &RoomId) -> Result<Ends, Refusal> {
        let peer = self.directory.name(peer.id()).unwrap_or_default();
        let not_listed =
            |node: &str| GrantRefusal::NotListed { node: node.to_owned(), role: GrantRole::Spill };
        let role_of = |node: &str| self.assignments.role(room, node).ok_or_else(|| not_listed(node));
        let (own_role, peer_role) = (role_of(&self.node)?, role_of(&peer)?);
        let standing = self.rooms.get(room).is_some()
            && self.assignments.get(room).is_some_and(|known| known.has(&peer));
        Ok(Ends { own_role, peer, peer_role, standing })
    }

    /// Does this node's own policy allow both ends their roles?
    fn policy_allows(&self, peer: &ProvenIdentity, ends: &Ends, room: &RoomId) -> Result<(), Refusal> {
        self.peer_may_carry(peer, ends.peer_role, room)?;
        self.may_carry(ends.own_role, room)
    }

    fn granted_roles<'a>(&'a self, ends: &'a Ends) -> [(GrantRole, &'a str); 2] {
        [(ends.own_role.into(), &self.node), (ends.peer_role.into(), &ends.peer)]
    }
}
