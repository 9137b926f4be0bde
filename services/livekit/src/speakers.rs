//! Speaker updates for clients.

use livekit_protocol::SpeakerInfo;

use systir_media_control::{Speaker, TrackKey};

/// Converts a worker's speaker changes, by track, to LiveKit's, by participant. `owner` returns the sid of a
/// track's participant; the loudest track of a participant counts.
pub fn speaker_infos(changed: &[Speaker], owner: impl Fn(TrackKey) -> Option<String>) -> Vec<SpeakerInfo> {
    let mut infos: Vec<SpeakerInfo> = Vec::new();
    for speaker in changed {
        let Some(sid) = owner(speaker.track) else { continue };
        let level = if speaker.active { speaker.level } else { 0.0 };
        match infos.iter_mut().find(|info| info.sid == sid) {
            Some(info) => {
                info.level = info.level.max(level);
                info.active |= speaker.active;
            }
            None => infos.push(SpeakerInfo { sid, level, active: speaker.active }),
        }
    }
    infos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loudest_track_of_a_participant_counts() {
        let speaker = |track, level, active| Speaker { track: TrackKey(track), level, active };
        let owner = |track: TrackKey| (track.0 < 10).then(|| format!("PA_{}", track.0 % 2));
        let changed =
            [speaker(1, 0.25, true), speaker(3, 0.5, true), speaker(2, 0.9, false), speaker(11, 1.0, true)];
        let infos = speaker_infos(&changed, owner);
        assert_eq!(infos.len(), 2);
        assert_eq!((infos[0].sid.as_str(), infos[0].level, infos[0].active), ("PA_1", 0.5, true));
        assert_eq!((infos[1].sid.as_str(), infos[1].level, infos[1].active), ("PA_0", 0.0, false));
    }
}
