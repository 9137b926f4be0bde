//! Limits how often another node may send speakers, connection quality and links: the room sends each of these messages on
//! to every local participant.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use systir_limits::AttemptLimiter;
use systir_proto::cluster::v1::room_message::Body;

/// Messages of one kind from one node: this many at once, and then one per interval. An honest node sends at most 32 about
/// speakers a second, two for each of its workers, and fewer about quality and links.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(15);
/// Pairs of node and kind that are remembered.
const REMEMBERED: usize = 1_024;

/// The limits of all nodes of a room.
#[derive(Debug)]
pub(super) struct PeerPace(AttemptLimiter<(String, Discriminant<Body>)>);

impl Default for PeerPace {
    fn default() -> Self {
        Self(AttemptLimiter::new(BURST, INTERVAL, REMEMBERED))
    }
}

impl PeerPace {
    /// May this message from a node be handled? Messages of other kinds are not limited.
    pub(super) fn admits(&self, node: &str, body: &Body, now: Instant) -> bool {
        match body {
            Body::Speakers(_) | Body::Qualities(_) | Body::Links(_) => {
                self.0.take((node.to_owned(), discriminant(body)), now)
            }
            _ => true,
        }
    }
}
