//! What a node knows of the class of a room: by its name, if the node holds a room key of the institution, and by what the
//! room's home stated in its grant.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use systir_assignment::RoomId;
use systir_room_tag::RoomKeys;

use crate::engine::PolicyEngine;
use crate::request::RoomAttributes;

/// Rooms, as far as this node knows them.
#[derive(Debug, Default)]
pub(crate) struct KnownRooms {
    keys: ArcSwap<RoomKeys>,
    granted: RwLock<HashMap<RoomId, RoomAttributes>>,
}

impl KnownRooms {
    pub(crate) fn keys(&self) -> Arc<RoomKeys> {
        self.keys.load_full()
    }

    pub(crate) fn use_keys(&self, keys: RoomKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Notes what the grant states that this node follows; none when it follows none.
    pub(crate) fn note_granted(&self, room: &RoomId, stated: Option<RoomAttributes>) {
        // A poisoned lock is safe to use: each entry is written as a whole.
        let mut granted = self.granted.write().unwrap_or_else(PoisonError::into_inner);
        match stated {
            Some(stated) => granted.insert(room.clone(), stated),
            None => granted.remove(room),
        };
    }

    /// What the bundle says of the room's name; none when this node cannot read the name.
    pub(crate) fn by_name(&self, engine: &PolicyEngine, room: &RoomId) -> Option<RoomAttributes> {
        let name = self.keys.load().name(room)?;
        Some(engine.room(&room.institution, &name))
    }

    /// What a decision about the room must be asked for: it is allowed if it is allowed for each of these. After a new
    /// bundle the name may say another thing than the grant; then both count, until the home signs anew. A node that cannot
    /// read the name goes by the grant that it follows and by the one that is offered. If nothing is known, the room may be
    /// any.
    pub(crate) fn attributes(
        &self,
        engine: &PolicyEngine,
        room: &RoomId,
        offered: Option<RoomAttributes>,
    ) -> Vec<RoomAttributes> {
        let held = self.granted.read().unwrap_or_else(PoisonError::into_inner).get(room).copied();
        let mut known: Vec<RoomAttributes> = match self.by_name(engine, room) {
            Some(named) => [Some(named), offered.or(held)].into_iter().flatten().collect(),
            None => [held, offered].into_iter().flatten().collect(),
        };
        known.dedup();
        if known.is_empty() { RoomAttributes::all().collect() } else { known }
    }
}
