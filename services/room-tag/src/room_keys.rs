//! The room keys of one node.

use std::collections::BTreeMap;

use systir_assignment::RoomId;

use crate::room_key::RoomKey;

/// The room keys that a node holds, by institution. While an institution changes its key, a node holds two of it: new
/// rooms get a tag of the first one, and rooms are found under all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomKeys(BTreeMap<String, Vec<RoomKey>>);

impl RoomKeys {
    /// These keys and a further one of that institution, after those that it has.
    #[must_use]
    pub fn with(mut self, institution: &str, key: RoomKey) -> Self {
        self.0.entry(institution.to_owned()).or_default().push(key);
        self
    }

    /// Has the institution a key here?
    #[must_use]
    pub fn has(&self, institution: &str) -> bool {
        self.0.contains_key(institution)
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Is there no key?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, institution: &str) -> &[RoomKey] {
        self.0.get(institution).map_or(&[], Vec::as_slice)
    }

    /// The id that a new room of this name gets; none when the institution has no key here, or the name is longer than
    /// [`crate::seal::MAX_NAME_BYTES`].
    #[must_use]
    pub fn room(&self, institution: &str, name: &str) -> Option<RoomId> {
        self.rooms(institution, name).next()
    }

    /// The ids that a room of this name may have, one for each key; first that of a new room.
    pub fn rooms<'a>(&'a self, institution: &'a str, name: &'a str) -> impl Iterator<Item = RoomId> + 'a {
        let tags = self.of(institution).iter().filter_map(move |key| key.seal(institution, name));
        tags.map(move |tag| RoomId::new(institution, &tag))
    }

    /// The name of a room; none when its tag was not made with a key that is held here.
    #[must_use]
    pub fn name(&self, room: &RoomId) -> Option<String> {
        self.of(&room.institution).iter().find_map(|key| key.open(&room.institution, &room.tag))
    }

    /// The other ids that a room of the same name may have.
    #[must_use]
    pub fn others(&self, room: &RoomId) -> Vec<RoomId> {
        if self.of(&room.institution).len() < 2 {
            return Vec::new();
        }
        let name = self.name(room);
        let ids = name.iter().flat_map(|name| self.rooms(&room.institution, name));
        ids.filter(|other| other != room).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> RoomKey {
        RoomKey::from_bytes([seed; 32])
    }

    #[test]
    fn a_tag_has_the_documented_form() {
        let keys = RoomKeys::default().with("ku.dk", key(2));
        let room = keys.room("ku.dk", "lecture").unwrap();
        // Computed with another implementation of RFC 8452 (Python's `cryptography`, AESGCMSIV).
        assert_eq!(room.tag, "j6gwhyDwsDUJUnADU15S8jPoTfTd75S4yFsDhIlUIKb8sTWt8KaCOR-dZ4sacZgN");
        assert_eq!(room.tag.len(), 64, "48 bytes");
        assert_eq!(keys.room("ku.dk", &"x".repeat(513)), None);
    }

    #[test]
    fn in_rotation_rooms_are_found_under_both_keys_and_new_ones_get_the_first() {
        let (old, new) =
            (RoomKeys::default().with("ku.dk", key(1)), RoomKeys::default().with("ku.dk", key(2)));
        let both = new.clone().with("ku.dk", key(1));
        let (under_old, under_new) = (old.room("ku.dk", "a").unwrap(), new.room("ku.dk", "a").unwrap());
        assert_ne!(under_old, under_new);
        assert_eq!(both.room("ku.dk", "a"), Some(under_new.clone()));
        assert_eq!(both.rooms("ku.dk", "a").collect::<Vec<_>>(), [under_new.clone(), under_old.clone()]);
        assert_eq!(both.name(&under_old).as_deref(), Some("a"));
        assert_eq!(both.others(&under_old), std::slice::from_ref(&under_new));
        assert_eq!(new.name(&under_old), None);
        assert!(new.others(&under_new).is_empty());
        assert_eq!((both.len(), both.has("ku.dk"), both.has("dtu.dk")), (2, true, false));
    }

    #[test]
    fn a_tag_is_of_one_institution() {
        let keys = RoomKeys::default().with("ku.dk", key(1)).with("dtu.dk", key(1));
        let room = keys.room("ku.dk", "a").unwrap();
        assert_eq!(keys.name(&RoomId::new("dtu.dk", &room.tag)), None);
        assert_ne!(room.tag, keys.room("dtu.dk", "a").unwrap().tag);
    }

    proptest! {
        #[test]
        fn the_name_comes_back_and_its_length_is_hidden(name in ".{0,60}", other in ".{0,60}") {
            let keys = RoomKeys::default().with("ku.dk", key(1));
            let room = keys.room("ku.dk", &name).unwrap();
            let second = keys.room("ku.dk", &other).unwrap();
            prop_assert_eq!(room == second, name == other);
            if name.len().div_ceil(32) == other.len().div_ceil(32) && name.len() % 32 <= 30 && other.len() % 32 <= 30
                && name.len() % 32 > 0 && other.len() % 32 > 0
            {
                prop_assert_eq!(room.tag.len(), second.tag.len());
            }
            prop_assert_eq!(keys.name(&room), Some(name));
        }

        #[test]
        fn no_text_makes_opening_panic(tag in "[A-Za-z0-9_-]{0,80}") {
            prop_assert_eq!(RoomKeys::default().with("ku.dk", key(1)).name(&RoomId::new("ku.dk", &tag)), None);
        }
    }
}
