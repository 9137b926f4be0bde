//! A track of another participant, as this participant sees it.

use livekit_protocol as proto;

use super::event::RemoteTrack;

/// A track of somebody else, as this participant sees it.
#[derive(Debug, Clone)]
pub(super) struct Visible {
    pub(super) participant_sid: String,
    pub(super) track: RemoteTrack,
    pub(super) info: proto::TrackInfo,
    /// What the client or the server API asked for; else `auto_subscribe` decides.
    pub(super) asked: Option<bool>,
    /// The client lacks the codec: not tried again until it changes.
    pub(super) unsupported: bool,
    pub(super) settings: Option<proto::UpdateTrackSettings>,
}
