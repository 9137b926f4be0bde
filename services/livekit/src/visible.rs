//! Tracks of other participants, as this participant sees them.

use livekit_protocol as proto;

use super::event::RemoteTrack;
use super::session::Session;

/// Identifies a track of another participant. Its sid alone is only what its media node says: a hostile one could give it the
/// sid of another participant's track.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VisibleTrackId {
    pub(super) track_sid: String,
    pub(super) participant_sid: String,
}

impl VisibleTrackId {
    pub(super) fn new(track_sid: &str, participant_sid: &str) -> Self {
        Self { track_sid: track_sid.to_owned(), participant_sid: participant_sid.to_owned() }
    }
}

/// A track of another participant, and what this participant wants of it.
#[derive(Debug, Clone)]
pub(super) struct VisibleTrack {
    pub(super) track: RemoteTrack,
    pub(super) info: proto::TrackInfo,
    /// What the client or the server API requested last; without a request `auto_subscribe` decides.
    pub(super) requested: Option<bool>,
    /// The client lacks the codec; not tried again until the codec changes.
    pub(super) unsupported: bool,
    pub(super) settings: Option<proto::UpdateTrackSettings>,
}

impl Session {
    /// The visible tracks with this sid.
    pub(super) fn visible_with(&self, track_sid: &str) -> Vec<VisibleTrackId> {
        let from = self.visible.range(VisibleTrackId::new(track_sid, "")..).map(|(id, _)| id);
        from.take_while(|id| id.track_sid == track_sid).cloned().collect()
    }
}
