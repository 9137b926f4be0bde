//! The keys under which a cluster's store holds its records.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::RoomId;

/// The keys of one cluster: `/systir/v1/CLUSTER/nodes/NODE` and `/systir/v1/CLUSTER/rooms/INSTITUTION/TAG`,
/// with the institution in URL-safe base64. The rooms of one institution have a prefix of their own, so
/// that a node can have access to them and to no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreKeys(String);

impl StoreKeys {
    /// The keys of the cluster with this name.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self(format!("/systir/v1/{cluster}/"))
    }

    /// The prefix of all keys; it ends with `/`, as each prefix does.
    #[must_use]
    pub fn all(&self) -> &str {
        &self.0
    }

    /// The prefix of the nodes' leases.
    #[must_use]
    pub fn nodes(&self) -> String {
        format!("{}nodes/", self.0)
    }

    /// The key of a node's lease.
    #[must_use]
    pub fn node(&self, node: &str) -> String {
        format!("{}nodes/{node}", self.0)
    }

    /// The prefix of an institution's rooms.
    #[must_use]
    pub fn rooms(&self, institution: &str) -> String {
        format!("{}rooms/{}/", self.0, Self::institution(institution))
    }

    /// The key of a room's record.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> String {
        format!("{}rooms/{}", self.0, room.key())
    }

    /// An institution's name as part of a key.
    #[must_use]
    pub fn institution(name: &str) -> String {
        URL_SAFE_NO_PAD.encode(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_as_the_documentation_describes_them() {
        let keys = StoreKeys::new("nordunet");
        assert_eq!(keys.node("cph-1"), "/systir/v1/nordunet/nodes/cph-1");
        assert_eq!(keys.rooms("ku.dk"), "/systir/v1/nordunet/rooms/a3UuZGs/");
        assert_eq!(keys.room(&RoomId::new("ku.dk", "YS9i")), "/systir/v1/nordunet/rooms/a3UuZGs/YS9i");
        assert!(keys.nodes().starts_with(keys.all()) && keys.rooms("").starts_with(keys.all()));
    }

    proptest! {
        #[test]
        fn a_room_is_below_the_prefix_of_its_institution_and_of_no_other(
            institution in ".{0,12}", other in ".{0,12}", tag in "[A-Za-z0-9_-]{1,12}"
        ) {
            let keys = StoreKeys::new("nordunet");
            let room = keys.room(&RoomId::new(&institution, &tag));
            prop_assert!(room.starts_with(&keys.rooms(&institution)));
            prop_assert_eq!(room.starts_with(&keys.rooms(&other)), institution == other);
        }
    }
}
