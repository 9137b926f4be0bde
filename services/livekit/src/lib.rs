//! LiveKit's protocol at the media node: the signalling session of one participant, session
//! descriptions ([`sdp`]) and access tokens ([`token`]). It has no sockets, no clock and no threads, and
//! controls the worker only through the commands and events of `systir-media-control`.
//!
//! [`Session`] receives the client's requests ([`Session::handle`]), events of the room
//! ([`Session::room_event`]) and of the worker ([`Session::media_event`]), and the time
//! ([`Session::tick`]). After each input the caller drains [`Session::poll_output`].
//! A session keeps its participant's state and the list of tracks of other participants. It does not
//! decide who is in the room.
//!
//! # Example
//!
//! ```
//! use std::time::SystemTime;
//! use systir_livekit::token::{KeyRing, verify_join};
//!
//! // A token opens a room only if an API key of this node signed it.
//! let mut keys = KeyRing::new();
//! keys.insert("devkey", "secret", "ku.dk");
//! assert_eq!(keys.institution("devkey"), Some("ku.dk"));
//! let error = verify_join(&keys, "not a token", SystemTime::UNIX_EPOCH).unwrap_err();
//! assert_eq!(error.reason().as_str(), "token-malformed");
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod rate_limit;
pub mod sdp;
pub mod token;

mod config;
mod data;
mod dynacast;
mod entries;
mod event;
mod metadata;
mod presence;
mod publish;
mod quality;
mod reply;
mod sent_layers;
mod session;
mod sid;
mod speakers;
mod subscribe;
#[cfg(test)]
mod tests;
mod track;
mod visible;

pub use config::{Limits, MediaDescription, ServerFacts, SessionConfig};
pub use data::{DataError, MAX_DATA_BYTES, RoutedData, route_data};
pub use entries::{MAX_REQUEST_ENTRIES, MAX_RESPONSE_ENTRIES, has_few_entries, json_has_few_entries};
pub use event::{LeaveReason, MediaEvent, Output, RemoteParticipant, RemoteTrack, RoomEvent};
pub use quality::{layer_for_dimensions, layer_for_quality};
pub use session::{Counts, Session};
pub use sid::mint_sid;
pub use speakers::speaker_infos;
