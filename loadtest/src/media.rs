//! What participants send: audio and video that any client decodes, with stamps by which
//! `systir-load` measures.

mod audio;
mod clip;
mod schedule;
mod stamp;
mod video;
mod vp8;

use std::time::{Duration, Instant};

pub(crate) use audio::Audio;
pub(crate) use clip::{CLIP_FPS, Clip};
pub(crate) use schedule::Schedule;
pub(crate) use stamp::{Stamp, unix_us};
pub(crate) use video::{Encoding, Video};
pub(crate) use vp8::frame_start;

/// Rids of the layers, smallest first, as LiveKit names them.
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];
/// Width and height of the layers.
pub(crate) const SIZES: [(u32, u32); 3] = [(160, 90), (320, 180), (640, 360)];

/// Default RTP payload of a full video packet, below any sensible path MTU.
pub(crate) const VIDEO_BYTES: usize = 1_100;
/// A source that fell this far behind skips what is too late instead of sending it all at once.
const TOO_LATE: Duration = Duration::from_millis(500);

/// One RTP packet to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Layer, 0 the smallest.
    pub(crate) layer: usize,
    pub(crate) seq: u64,
    pub(crate) time: u32,
    pub(crate) marker: bool,
    /// Audio level in dBov, of audio.
    pub(crate) level: Option<i8>,
    pub(crate) payload: Vec<u8>,
}

/// What feeds one published track.
#[derive(Debug)]
pub(crate) enum Source {
    Audio(Audio),
    Video(Video),
}

impl Source {
    pub(crate) fn is_video(&self) -> bool {
        matches!(self, Self::Video(_))
    }

    /// When [`Source::produce`] next has something.
    pub(crate) fn due(&self) -> Instant {
        match self {
            Self::Audio(audio) => audio.next,
            Self::Video(video) => video.next,
        }
    }

    /// Appends what is due.
    pub(crate) fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        match self {
            Self::Audio(audio) => audio.produce(now, out),
            Self::Video(video) => video.produce(now, out),
        }
    }
}

/// How many intervals are skipped because they are too late; `next` moves on by them.
fn skipped(now: Instant, next: &mut Instant, interval: Duration) -> u32 {
    let behind = now.saturating_duration_since(*next);
    if behind <= TOO_LATE {
        return 0;
    }
    let skipped = u32::try_from(behind.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
    *next += interval * skipped;
    skipped
}
