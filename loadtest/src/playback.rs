//! What a person would see and hear of the packets that arrive: pictures that can be decoded, and
//! sound that is there when it is due.

mod audio;
mod video;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use str0m::rtp::Ssrc;

use crate::media::Stamp;
use audio::Sound;
use video::Pictures;

/// A packet of a stream of pictures or sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Its number, extended so that it only ever grows.
    pub(crate) seq: u64,
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
    pub(crate) stamp: Option<Stamp>,
}

/// One participant's eyes and ears.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    tracks: HashMap<String, Track>,
}

#[derive(Debug)]
enum Track {
    Pictures(Ssrc, Pictures),
    Sound(Sound),
}

/// What one participant saw and heard, of all tracks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Experience {
    /// Pictures that could be decoded.
    pub(crate) pictures: u64,
    /// Tracks of which there was a picture.
    pub(crate) seen: usize,
    /// Longest time between two pictures of one track.
    pub(crate) freeze: Duration,
    /// Tracks that stood still for more than a second.
    pub(crate) frozen: usize,
    /// Packets of sound that were due.
    pub(crate) sound_due: u64,
    /// Those that were not there in time.
    pub(crate) sound_missed: u64,
    /// Longest run of packets of sound that were not there in time.
    pub(crate) silence: u64,
}

/// A picture that stands still for longer is a freeze to a person.
const FREEZE: Duration = Duration::from_secs(1);

impl Experience {
    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.pictures += other.pictures;
        self.seen += other.seen;
        self.freeze = self.freeze.max(other.freeze);
        self.frozen += other.frozen;
        self.sound_due += other.sound_due;
        self.sound_missed += other.sound_missed;
        self.silence = self.silence.max(other.silence);
    }
}

impl Watch {
    /// A packet of a track arrived.
    pub(crate) fn packet(
        &mut self,
        now: Instant,
        now_us: u64,
        track: &str,
        ssrc: Option<Ssrc>,
        seen: Seen<'_>,
    ) {
        match (self.tracks.get_mut(track), ssrc) {
            (Some(Track::Pictures(known, pictures)), Some(ssrc)) => {
                // Another stream under the same name: its numbers have nothing to do with those before.
                if std::mem::replace(known, ssrc) != ssrc {
                    pictures.begin_anew();
                }
                pictures.packet(now, seen);
            }
            (Some(Track::Sound(sound)), None) => sound.packet(now_us, seen.stamp),
            (_, Some(ssrc)) => {
                let mut pictures = Pictures::default();
                pictures.packet(now, seen);
                self.tracks.insert(track.to_owned(), Track::Pictures(ssrc, pictures));
            }
            (_, None) => {
                let mut sound = Sound::default();
                sound.packet(now_us, seen.stamp);
                self.tracks.insert(track.to_owned(), Track::Sound(sound));
            }
        }
    }

    /// Counts from now on; what can be decoded is still known.
    pub(crate) fn restart(&mut self, now: Instant) {
        for track in self.tracks.values_mut() {
            match track {
                Track::Pictures(_, pictures) => pictures.restart(now),
                Track::Sound(sound) => *sound = Sound::default(),
            }
        }
    }

    /// Streams of pictures that have stood still so long that a decoder asks for a key frame.
    pub(crate) fn stuck(&mut self, now: Instant) -> impl Iterator<Item = Ssrc> {
        self.tracks.values_mut().filter_map(move |track| match track {
            Track::Pictures(ssrc, pictures) => pictures.is_stuck(now).then_some(*ssrc),
            Track::Sound(_) => None,
        })
    }

    /// What was seen and heard until now. Of tracks that are not `there` any more only what came
    /// before their end counts.
    pub(crate) fn experience(&self, now: Instant, now_us: u64, there: &HashSet<String>) -> Experience {
        let mut all = Experience::default();
        for (sid, track) in &self.tracks {
            let there = there.contains(sid);
            match track {
                Track::Pictures(_, pictures) => {
                    let freeze = pictures.longest(there.then_some(now));
                    all.pictures += pictures.decoded;
                    all.seen += usize::from(pictures.decoded > 0);
                    all.freeze = all.freeze.max(freeze);
                    all.frozen += usize::from(freeze > FREEZE);
                }
                Track::Sound(sound) => {
                    let heard = sound.heard(there.then_some(now_us));
                    all.sound_due += heard.due;
                    all.sound_missed += heard.missed;
                    all.silence = all.silence.max(heard.longest);
                }
            }
        }
        all
    }
}
