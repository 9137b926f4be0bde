//! How the cost of a packet changes with the number of subscribers, tracks and rooms.

use crate::load::{Kind, Load};

/// A point of a curve.
const fn point(name: &'static str, [rooms, publishers, subscribers]: [u32; 3], kbps: u32) -> Load {
    Load { name, rooms, publishers, kbps, audio: kbps < 1_000, subscribers, kind: Kind::Point, seconds: 6 }
}

/// The points of all curves.
pub(crate) const CURVES: [Load; 16] = [
    // One video track.
    point("subscribers", [1, 1, 1], 1_500),
    point("subscribers", [1, 1, 5], 1_500),
    point("subscribers", [1, 1, 10], 1_500),
    point("subscribers", [1, 1, 25], 1_500),
    point("subscribers", [1, 1, 50], 1_500),
    point("subscribers", [1, 1, 100], 1_500),
    // Each publisher has a camera and a microphone.
    point("tracks", [1, 1, 10], 600),
    point("tracks", [1, 2, 10], 600),
    point("tracks", [1, 4, 10], 600),
    point("tracks", [1, 8, 10], 600),
    point("tracks", [1, 16, 10], 600),
    // The same 60 subscribers, each with one camera and one microphone, in more and more rooms.
    point("rooms", [1, 1, 60], 600),
    point("rooms", [3, 1, 20], 600),
    point("rooms", [6, 1, 10], 600),
    point("rooms", [15, 1, 4], 600),
    point("rooms", [30, 1, 2], 600),
];
