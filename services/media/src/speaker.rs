//! Who speaks: from the audio levels that publishers' clients write into their packets (RFC 6464).

use crate::TrackId;

/// A change in how loud a track is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// The group that the track was added with (one room, say).
    pub group: u32,
    /// The track.
    pub track: TrackId,
    /// 0 is silent, 1 is the loudest; in steps of 1/8.
    pub level: f32,
    /// Is somebody speaking?
    pub active: bool,
}
