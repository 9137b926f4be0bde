//! Tracks of other participants, as this participant sees them.

use std::sync::Arc;

use livekit_protocol as proto;
use systir_media_control::TrackDemand;

use super::event::{RemoteParticipant, RemoteTrack};
use super::quality;
use super::session::Session;

/// Identifies a track of another participant. Its sid alone is only what its media node says: a hostile one could give it the
/// sid of another participant's track.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VisibleTrackId {
    pub(super) track_sid: Arc<str>,
    pub(super) participant_sid: Arc<str>,
}

impl VisibleTrackId {
    pub(super) fn new(track_sid: &str, participant_sid: &str) -> Self {
        Self { track_sid: track_sid.into(), participant_sid: participant_sid.into() }
    }
}

/// A track of another participant, and what this participant wants of it.
#[derive(Debug, Clone)]
pub(super) struct VisibleTrack {
    pub(super) track: RemoteTrack,
    /// Its publisher, as last received.
    pub(super) publisher: Arc<RemoteParticipant>,
    /// What the client or the server API requested last; without a request `auto_subscribe` decides.
    pub(super) requested: Option<bool>,
    /// The client lacks the codec; not tried again until the codec changes.
    pub(super) unsupported: bool,
    pub(super) settings: Option<Box<proto::UpdateTrackSettings>>,
}

impl VisibleTrack {
    /// The track as its publisher describes it; there always is one.
    pub(super) fn info(&self) -> Option<&proto::TrackInfo> {
        self.publisher.info.tracks.iter().find(|info| *info.sid == *self.track.sid)
    }

    /// What these settings ask for; nothing of a track that its publisher does not announce any more.
    pub(super) fn demand(&self, settings: &proto::UpdateTrackSettings) -> TrackDemand {
        let none = TrackDemand { layer: None, ..TrackDemand::HIGHEST };
        self.info().map_or(none, |info| quality::demand(settings, info))
    }
}

impl Session {
    /// The visible tracks with this sid.
    pub(super) fn visible_with(&self, track_sid: &str) -> Vec<VisibleTrackId> {
        let from = self.visible.range(VisibleTrackId::new(track_sid, "")..).map(|(id, _)| id);
        from.take_while(|id| *id.track_sid == *track_sid).cloned().collect()
    }
}
