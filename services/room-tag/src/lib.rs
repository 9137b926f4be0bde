//! Tags of rooms: a room's name, sealed under a room key of its institution. etcd and links carry tags; only a node
//! that holds a room key of the institution can make a tag or read the name in it. This crate has no I/O; it does not
//! decide which node may hold a key.
//!
//! [`RoomKey`] is the secret, and [`RoomKeys`] are those that one node holds. See the module [`seal`] for the format.
//!
//! # Example
//!
//! ```
//! use systir_room_tag::{RoomKey, RoomKeys};
//!
//! let keys = RoomKeys::default().with("ku.dk", RoomKey::from_bytes([7; 32]));
//! let room = keys.room("ku.dk", "lecture").unwrap();
//! assert!(!room.key().contains("lecture"));
//! assert_eq!(keys.name(&room).as_deref(), Some("lecture"));
//! assert_eq!(RoomKeys::default().name(&room), None, "a node without the key cannot read the name");
//! ```

mod room_key;
mod room_keys;
pub mod seal;
#[cfg(any(test, feature = "test-keys"))]
pub mod test_keys;

pub use room_key::{NotARoomKey, RoomKey};
pub use room_keys::RoomKeys;
