//! What a media worker and the rest of a node say to each other: commands to the worker, events from
//! it, and the keys that both use. Plain data without a runtime. Control
//! only: packets never take this way. It knows no sockets, no room state and no protocol of clients.
//!
//! [`Command`] goes to a worker, [`Event`] comes back; [`KeyMint`] makes the keys; [`ice`] makes ICE
//! credentials that name their worker.

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod command;
mod event;
pub mod ice;
mod keys;
mod receive;
mod track;

pub use command::{Command, DataChannel, Side};
pub use event::{Event, Speaker};
pub use keys::{KeyMint, ParticipantKey, RoomKey, TrackKey};
pub use receive::{ReceiveCodec, ReceiveExtensions, ReceiveSection, ReceiveSsrc};
pub use systir_transport::{IceCredentials, Remote};
pub use track::{Downtrack, TrackSource, TrackSpec};
