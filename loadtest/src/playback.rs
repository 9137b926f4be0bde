//! What a decoder and a jitter buffer would play of the packets that arrive: frames that can be
//! decoded, and audio that arrives before it is due.

mod audio;
mod video;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use str0m::rtp::Ssrc;

use crate::media::Stamp;
use audio::Audio;
use video::Video;

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Extended sequence number.
    pub(crate) seq: u64,
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
    pub(crate) stamp: Option<Stamp>,
}

/// Playback of all tracks that one participant receives.
#[derive(Debug, Default)]
pub(crate) struct Playback {
    tracks: HashMap<String, Track>,
}

#[derive(Debug)]
enum Track {
    Video(Ssrc, Video),
    Audio(Audio),
}

/// Sums and maxima over all tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PlaybackStats {
    /// Frames that could be decoded.
    pub(crate) frames: u64,
    /// Tracks with at least one frame.
    pub(crate) video_tracks_received: usize,
    /// Longest time between two frames of one track.
    pub(crate) longest_freeze: Duration,
    /// Tracks that had a freeze of more than [`FREEZE`].
    pub(crate) tracks_frozen: usize,
    /// Audio packets that were due.
    pub(crate) audio_due: u64,
    /// Audio packets that were due and had not arrived.
    pub(crate) audio_missed: u64,
    /// Longest run of missed audio packets.
    pub(crate) longest_gap: u64,
}

/// A track without a new frame for longer than this is frozen.
const FREEZE: Duration = Duration::from_secs(1);

impl PlaybackStats {
    pub(crate) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.video_tracks_received += other.video_tracks_received;
        self.longest_freeze = self.longest_freeze.max(other.longest_freeze);
        self.tracks_frozen += other.tracks_frozen;
        self.audio_due += other.audio_due;
        self.audio_missed += other.audio_missed;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }
}

impl Playback {
    /// Takes a packet of a track; `ssrc` is given for video.
    pub(crate) fn packet(
        &mut self,
        now: Instant,
        now_us: u64,
        track: &str,
        ssrc: Option<Ssrc>,
        packet: Received<'_>,
    ) {
        match (self.tracks.get_mut(track), ssrc) {
            (Some(Track::Video(known, video)), Some(ssrc)) => {
                // A new RTP stream of the track has unrelated sequence numbers.
                if std::mem::replace(known, ssrc) != ssrc {
                    video.reset_stream();
                }
                video.packet(now, packet);
            }
            (Some(Track::Audio(audio)), None) => audio.packet(now_us, packet.stamp),
            (_, Some(ssrc)) => {
                let mut video = Video::default();
                video.packet(now, packet);
                self.tracks.insert(track.to_owned(), Track::Video(ssrc, video));
            }
            (_, None) => {
                let mut audio = Audio::default();
                audio.packet(now_us, packet.stamp);
                self.tracks.insert(track.to_owned(), Track::Audio(audio));
            }
        }
    }

    /// Resets all counters; decoders keep their state.
    pub(crate) fn reset_counters(&mut self, now: Instant) {
        for track in self.tracks.values_mut() {
            match track {
                Track::Video(_, video) => video.reset_counters(now),
                Track::Audio(audio) => *audio = Audio::default(),
            }
        }
    }

    /// Video streams for which a decoder would request a key frame now.
    pub(crate) fn key_frames_needed(&mut self, now: Instant) -> impl Iterator<Item = Ssrc> {
        self.tracks.values_mut().filter_map(move |track| match track {
            Track::Video(ssrc, video) => video.needs_key_frame(now).then_some(*ssrc),
            Track::Audio(_) => None,
        })
    }

    /// Video tracks of which a frame could be decoded.
    pub(crate) fn video_tracks_received(&self) -> usize {
        let decoded = |track: &&Track| matches!(track, Track::Video(_, video) if video.decoded > 0);
        self.tracks.values().filter(decoded).count()
    }

    /// Counters until now. A track that is not in `published` any more counts only until its last
    /// packet.
    pub(crate) fn stats(&self, now: Instant, now_us: u64, published: &HashSet<String>) -> PlaybackStats {
        let video_tracks_received = self.video_tracks_received();
        let mut stats = PlaybackStats { video_tracks_received, ..PlaybackStats::default() };
        for (sid, track) in &self.tracks {
            let published = published.contains(sid);
            match track {
                Track::Video(_, video) => {
                    let freeze = video.longest_freeze(published.then_some(now));
                    stats.frames += video.decoded;
                    stats.longest_freeze = stats.longest_freeze.max(freeze);
                    stats.tracks_frozen += usize::from(freeze > FREEZE);
                }
                Track::Audio(audio) => {
                    let played = audio.played(published.then_some(now_us));
                    stats.audio_due += played.due;
                    stats.audio_missed += played.missed;
                    stats.longest_gap = stats.longest_gap.max(played.longest_gap);
                }
            }
        }
        stats
    }
}
