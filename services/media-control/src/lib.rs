//! The interface between a media worker and the rest of a node, as plain data: commands to the worker,
//! events from it, and the keys that both use. Control only: media packets take another path. It has no
//! runtime, sockets, room state or client protocol.
//!
//! [`WorkerCommand`] goes to a worker, [`WorkerEvent`] comes back; [`KeyAllocator`] makes the keys; [`ice`] makes ICE
//! credentials that identify their worker.
//!
//! # Example
//!
//! ```
//! use systir_media_control::KeyAllocator;
//!
//! // Keys name tracks and participants in commands and events; none is used twice.
//! let keys = KeyAllocator::new();
//! assert_ne!(keys.track(), keys.track());
//! ```

// Tests read the clock for a start time.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod command;
mod demand;
mod event;
pub mod ice;
mod keys;
mod receive;
mod track;

pub use command::{DataChannel, Side, WorkerCommand};
pub use demand::TrackDemand;
pub use event::{MediaQuality, Speaker, WorkerEvent};
pub use keys::{KeyAllocator, ParticipantKey, RoomNumber, TrackKey};
pub use receive::{ReceiveCodec, ReceiveExtensions, ReceiveSection, ReceiveSsrc};
pub use systir_transport::{IceCredentials, Remote};
pub use track::{CaptureSource, Downtrack, TrackSource, TrackSpec};
