//! What a token allows one participant in one room.

use std::collections::BTreeMap;

use livekit_protocol::{ParticipantPermission, TrackSource, participant_info};
use livekit_token::Claims;
use serde::{Deserialize, Serialize};

/// Where a track comes from, as `canPublishSources` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen.
    ScreenShare,
    /// The sound of a shared screen.
    ScreenShareAudio,
}

impl Source {
    /// The name in a token.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "camera" => Some(Self::Camera),
            "microphone" => Some(Self::Microphone),
            "screen_share" => Some(Self::ScreenShare),
            "screen_share_audio" => Some(Self::ScreenShareAudio),
            _ => None,
        }
    }

    /// The protocol's number.
    #[must_use]
    pub fn proto(self) -> TrackSource {
        match self {
            Self::Camera => TrackSource::Camera,
            Self::Microphone => TrackSource::Microphone,
            Self::ScreenShare => TrackSource::ScreenShare,
            Self::ScreenShareAudio => TrackSource::ScreenShareAudio,
        }
    }
}

/// A verified permission to join. It travels with the participant to its media node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Who: unique in the room.
    pub identity: String,
    /// Name to show.
    pub name: String,
    /// The application's own data.
    pub metadata: String,
    /// The application's own pairs.
    pub attributes: BTreeMap<String, String>,
    /// `ParticipantInfo.Kind`, the protocol's number.
    pub kind: i32,
    /// May publish tracks.
    pub can_publish: bool,
    /// May receive tracks.
    pub can_subscribe: bool,
    /// May send data messages.
    pub can_publish_data: bool,
    /// The only sources that may be published; none when all may.
    pub can_publish_sources: Option<Vec<Source>>,
    /// May change its own name, metadata and attributes.
    pub can_update_own_metadata: bool,
    /// Others do not see it.
    pub hidden: bool,
    /// It records.
    pub recorder: bool,
    /// It is an agent.
    pub agent: bool,
    /// May administer the room.
    pub room_admin: bool,
    /// The room's name within the institution.
    pub room: String,
    /// Whose API key signed: the room is (institution, name).
    pub institution: String,
    /// When the token ends, seconds since 1970; a join in progress is not ended by it.
    pub expires: u64,
}

impl Grants {
    pub(super) fn from_claims(claims: Claims, institution: String) -> Self {
        let video = claims.video;
        let can_publish = video.can_publish();
        // A list of sources that we do not know still restricts.
        let sources = (!video.can_publish_sources.is_empty())
            .then(|| video.can_publish_sources.iter().filter_map(|name| Source::parse(name)).collect());
        let kind = participant_info::Kind::from_str_name(&claims.kind.to_ascii_uppercase())
            .unwrap_or(participant_info::Kind::Standard);
        Self {
            identity: claims.sub,
            name: claims.name,
            metadata: claims.metadata,
            attributes: claims.attributes.into_iter().collect(),
            kind: kind as i32,
            can_publish,
            can_subscribe: video.can_subscribe(),
            can_publish_data: video.can_publish_data(),
            can_publish_sources: sources,
            can_update_own_metadata: video.can_update_own_metadata(),
            hidden: video.hidden,
            recorder: video.recorder,
            agent: video.agent,
            room_admin: video.room_admin,
            room: video.room,
            institution,
            expires: claims.exp as u64,
        }
    }

    /// May a track of this source be published? (`canPublishSources` narrows `canPublish`.)
    #[must_use]
    pub fn may_publish(&self, source: TrackSource) -> bool {
        self.can_publish
            && self
                .can_publish_sources
                .as_ref()
                .is_none_or(|allowed| allowed.iter().any(|one| one.proto() == source))
    }

    /// What others and the client itself are told of it.
    #[must_use]
    #[allow(deprecated)]
    pub fn permission(&self) -> ParticipantPermission {
        ParticipantPermission {
            can_subscribe: self.can_subscribe,
            can_publish: self.can_publish,
            can_publish_data: self.can_publish_data,
            can_publish_sources: self
                .can_publish_sources
                .iter()
                .flatten()
                .map(|source| source.proto() as i32)
                .collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.can_update_own_metadata,
            agent: self.agent,
            ..Default::default()
        }
    }
}
