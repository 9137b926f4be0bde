//! Which rooms are open on a link, sans-IO. A room is open once the other side's gate has agreed to
//! what we asked, or our gate to what it asked; whoever asked has asked its own gate before. It is
//! closed by either side at once. Nothing of a room passes while it is not open.

use crate::event::RoomKey;
use rustc_hash::FxHashMap;

/// Rooms on one link, at most.
const MAX_ROOMS: usize = 1 << 14;
/// Bytes in a room's key, at most.
const MAX_KEY_BYTES: usize = 1024;

/// All rooms of one link.
#[derive(Debug, Default)]
pub(crate) struct LinkRooms {
    rooms: FxHashMap<RoomKey, RoomEntry>,
    last_decision: u64,
}

/// What a room is asked under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoomVersion {
    pub(crate) epoch: u64,
    pub(crate) policy_version: u64,
}

#[derive(Debug, Default)]
struct RoomEntry {
    /// What we asked the peer under, the last time.
    requested: Option<RoomVersion>,
    /// The question that our gate has not answered yet.
    decision: Option<u64>,
    open: bool,
}

/// What became of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomChange {
    /// It opened now.
    Opened,
    /// It was open or asked for, and is not any more.
    Closed,
    /// Nothing changed.
    Unchanged,
    /// The peer speaks of a room that we did not ask for; it is to close it.
    NotRequested,
}

impl LinkRooms {
    /// We need the room; must the peer be asked?
    pub(crate) fn request(&mut self, key: &RoomKey, version: RoomVersion) -> bool {
        let room = self.rooms.entry(key.clone()).or_default();
        room.requested.replace(version) != Some(version)
    }

    /// The peer agreed to what we asked.
    pub(crate) fn peer_opened(&mut self, key: &str) -> RoomChange {
        match self.rooms.get_mut(key) {
            Some(room) if room.requested.is_some() => {
                if std::mem::replace(&mut room.open, true) {
                    RoomChange::Unchanged
                } else {
                    RoomChange::Opened
                }
            }
            _ => RoomChange::NotRequested,
        }
    }

    /// The room ends here: refused, or closed by either side. A question about it that our gate has
    /// not answered is void.
    pub(crate) fn close(&mut self, key: &str) -> RoomChange {
        match self.rooms.remove(key) {
            Some(room) if room.open || room.requested.is_some() => RoomChange::Closed,
            _ => RoomChange::Unchanged,
        }
    }

    /// The peer asks; the number of the question for our gate. None when it asks for too much.
    pub(crate) fn begin_decision(&mut self, key: &str) -> Option<(RoomKey, u64)> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return None;
        }
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(key) {
            return None;
        }
        self.last_decision += 1;
        let key: RoomKey = key.into();
        let room = self.rooms.entry(key.clone()).or_default();
        room.decision = Some(self.last_decision);
        Some((key, self.last_decision))
    }

    /// Our gate agreed. None when the question is void: the room was closed or asked for anew.
    pub(crate) fn allow(&mut self, key: &str, decision: u64) -> Option<RoomChange> {
        let room = self.rooms.get_mut(key).filter(|room| room.decision == Some(decision))?;
        room.decision = None;
        Some(if std::mem::replace(&mut room.open, true) { RoomChange::Unchanged } else { RoomChange::Opened })
    }

    /// Our gate refused; is the question still the last one about the room?
    pub(crate) fn is_current(&self, key: &str, decision: u64) -> bool {
        self.rooms.get(key).is_some_and(|room| room.decision == Some(decision))
    }

    /// Is it open?
    pub(crate) fn is_open(&self, key: &str) -> bool {
        self.rooms.get(key).is_some_and(|room| room.open)
    }

    /// The key as it is shared, of an open room.
    pub(crate) fn open_key(&self, key: &str) -> Option<RoomKey> {
        self.rooms.get_key_value(key).filter(|(_, room)| room.open).map(|(key, _)| key.clone())
    }

    /// Open rooms.
    pub(crate) fn open(&self) -> Vec<RoomKey> {
        self.rooms.iter().filter(|(_, room)| room.open).map(|(key, _)| key.clone()).collect()
    }

    /// Is there no room, open or on its way?
    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> RoomKey {
        "ku.dk/lecture".into()
    }

    fn epoch(epoch: u64) -> RoomVersion {
        RoomVersion { epoch, policy_version: 1 }
    }

    #[test]
    fn a_room_opens_when_the_peer_agrees() {
        let mut rooms = LinkRooms::default();
        assert!(rooms.request(&key(), epoch(1)));
        assert!(!rooms.request(&key(), epoch(1)), "once is enough");
        assert!(!rooms.is_open(&key()));
        assert_eq!(rooms.peer_opened(&key()), RoomChange::Opened);
        assert_eq!(rooms.peer_opened(&key()), RoomChange::Unchanged);
        assert!(rooms.is_open(&key()));
        assert!(rooms.request(&key(), epoch(2)), "another epoch is asked for");
    }

    #[test]
    fn a_peer_cannot_open_what_nobody_asked_for() {
        let mut rooms = LinkRooms::default();
        assert_eq!(rooms.peer_opened(&key()), RoomChange::NotRequested);
        assert!(!rooms.is_open(&key()));
    }

    #[test]
    fn an_answer_about_a_room_that_was_closed_meanwhile_is_void() {
        let mut rooms = LinkRooms::default();
        let (_, decision) = rooms.begin_decision(&key()).unwrap();
        assert_eq!(rooms.close(&key()), RoomChange::Unchanged);
        assert_eq!(rooms.allow(&key(), decision), None);
        let (_, newer) = rooms.begin_decision(&key()).unwrap();
        assert_eq!(rooms.allow(&key(), decision), None, "an old answer to a new decision");
        assert_eq!(rooms.allow(&key(), newer), Some(RoomChange::Opened));
    }

    #[test]
    fn a_peer_cannot_fill_the_table() {
        let mut rooms = LinkRooms::default();
        for number in 0..MAX_ROOMS {
            assert!(rooms.begin_decision(&number.to_string()).is_some());
        }
        assert!(rooms.begin_decision("one more").is_none());
        assert!(rooms.begin_decision(&"x".repeat(MAX_KEY_BYTES + 1)).is_none());
        assert!(rooms.begin_decision("").is_none());
    }

    proptest! {
        /// Whatever the peer says in whatever order, a room is open only after a yes to the newest
        /// question of one side, and never after a close.
        #[test]
        fn open_needs_a_yes(steps in proptest::collection::vec(0u8..6, 0..60)) {
            let mut rooms = LinkRooms::default();
            let (mut asked, mut decisions, mut open) = (false, Vec::new(), false);
            let mut current = None;
            for step in steps {
                match step {
                    0 => { rooms.request(&key(), epoch(1)); asked = true; }
                    1 => { rooms.peer_opened(&key()); open |= asked; }
                    2 => { rooms.close(&key()); asked = false; open = false; current = None; }
                    3 => {
                        let (_, decision) = rooms.begin_decision(&key()).unwrap();
                        decisions.push(decision);
                        current = Some(decision);
                    }
                    4 => {
                        if let Some(decision) = decisions.last().copied() {
                            let valid = current == Some(decision);
                            prop_assert_eq!(rooms.allow(&key(), decision).is_some(), valid);
                            open |= valid;
                            if valid { current = None; }
                        }
                    }
                    _ => {
                        if let Some(decision) = decisions.first().copied() {
                            let valid = current == Some(decision);
                            prop_assert_eq!(rooms.allow(&key(), decision).is_some(), valid);
                            open |= valid;
                            if valid { current = None; }
                        }
                    }
                }
                prop_assert_eq!(rooms.is_open(&key()), open);
            }
        }
    }
}
