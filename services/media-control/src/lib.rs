//! What a media worker and the rest of a node say to each other: commands to the worker, events from
//! it, and the keys that both use. Control only: packets never take this way. It knows no sockets, no
//! rooms' state and no protocol of clients.
//!
//! [`Command`] goes to a worker, [`Event`] comes back; [`KeyMint`] makes the keys.

mod command;
mod keys;

pub use command::{
    Command, DataChannel, Downtrack, Event, IceCredentials, ParticipantKey, ReceiveCodec, ReceiveExtensions,
    ReceiveSection, ReceiveSsrc, Remote, RoomKey, Side, Speaker, TrackKey, TrackSource, TrackSpec,
};
pub use keys::KeyMint;
