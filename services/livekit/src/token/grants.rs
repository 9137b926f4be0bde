//! The permissions of one participant in one room.

use std::collections::BTreeMap;

use livekit_protocol::{ParticipantPermission, TrackSource, participant_info};
use livekit_token::Claims;
use serde::{Deserialize, Serialize};

/// The source of a track, as `canPublishSources` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishSource {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen.
    ScreenShare,
    /// The audio of a shared screen.
    ScreenShareAudio,
}

impl PublishSource {
    /// Parses the name in a token; `None` for an unknown one.
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

    /// The source in LiveKit's protocol.
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

/// The attribute that makes a token one of a guest. Clients cannot set attributes whose names begin with `systir.`.
pub const GUEST_ATTRIBUTE: &str = "systir.guest";

/// What a verified token grants. The gateway sends it to the participant's media node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Identity, unique in the room.
    pub identity: String,
    /// Display name.
    pub name: String,
    /// Metadata of the application.
    pub metadata: String,
    /// Attributes of the application.
    pub attributes: BTreeMap<String, String>,
    /// `ParticipantInfo.Kind`, as its number in LiveKit's protocol.
    pub kind: i32,
    /// May publish tracks.
    pub can_publish: bool,
    /// May subscribe to tracks.
    pub can_subscribe: bool,
    /// May send data messages.
    pub can_publish_data: bool,
    /// Sources that may be published; `None` for all.
    pub can_publish_sources: Option<Vec<PublishSource>>,
    /// May change its own name, metadata and attributes.
    pub can_update_own_metadata: bool,
    /// Other participants do not see it.
    pub hidden: bool,
    /// It is a recorder.
    pub recorder: bool,
    /// It is an agent.
    pub agent: bool,
    /// May administer the room.
    pub room_admin: bool,
    /// It is a guest, who got the token from the meeting page.
    #[serde(default)]
    pub guest: bool,
    /// Name of the room in the institution. The gateway does not send it.
    #[serde(skip)]
    pub room: String,
    /// Institution of the API key; the room is (institution, name).
    pub institution: String,
    /// When the token expires, Unix seconds. A session may outlive its token.
    pub expires: u64,
}

impl Grants {
    /// The grants of a token with `roomJoin` and LiveKit's defaults: the participant may publish, subscribe
    /// and send data.
    #[must_use]
    pub fn new(institution: &str, room: &str, identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            name: String::new(),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            kind: participant_info::Kind::Standard as i32,
            can_publish: true,
            can_subscribe: true,
            can_publish_data: true,
            can_publish_sources: None,
            can_update_own_metadata: false,
            hidden: false,
            recorder: false,
            agent: false,
            room_admin: false,
            guest: false,
            room: room.to_owned(),
            institution: institution.to_owned(),
            expires: 0,
        }
    }

    pub(super) fn from_claims(claims: Claims, institution: String) -> Self {
        let video = claims.video;
        let can_publish = video.can_publish();
        // A list of unknown sources still restricts publishing.
        let sources = (!video.can_publish_sources.is_empty()).then(|| {
            video.can_publish_sources.iter().filter_map(|name| PublishSource::parse(name)).collect()
        });
        let guest = claims.attributes.contains_key(GUEST_ATTRIBUTE);
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
            guest,
            room: video.room,
            institution,
            expires: claims.exp as u64,
        }
    }

    /// May a track of this source be published? `canPublishSources` restricts `canPublish`.
    #[must_use]
    pub fn may_publish(&self, source: TrackSource) -> bool {
        self.can_publish
            && self
                .can_publish_sources
                .as_ref()
                .is_none_or(|allowed| allowed.iter().any(|allowed| allowed.proto() == source))
    }

    /// The permissions as clients receive them.
    #[must_use]
    #[allow(deprecated)]
    pub fn permission(&self) -> ParticipantPermission {
        ParticipantPermission {
            can_subscribe: self.can_subscribe,
            // An empty list of sources means all of them to clients.
            can_publish: self.can_publish
                && self.can_publish_sources.as_ref().is_none_or(|some| !some.is_empty()),
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
