//! A track of another participant, as this participant sees it.

use livekit_protocol as proto;

use super::event::RemoteTrack;

/// A track of another participant, and what this participant wants of it.
#[derive(Debug, Clone)]
pub(super) struct VisibleTrack {
    pub(super) participant_sid: String,
    pub(super) track: RemoteTrack,
    pub(super) info: proto::TrackInfo,
    /// What the client or the server API requested last; without a request `auto_subscribe` decides.
    pub(super) requested: Option<bool>,
    /// The client lacks the codec; not tried again until the codec changes.
    pub(super) unsupported: bool,
    pub(super) settings: Option<proto::UpdateTrackSettings>,
}
