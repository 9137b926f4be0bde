//! How often another node may tell what each local participant is then told: a short message on a link would else become
//! many to clients.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use systir_limits::AttemptLimiter;
use systir_proto::cluster::v1::room_message::Body;

/// Messages of one kind and one node: at once, and then one per interval. A node has at most 32 a second about speakers, two
/// of each of its workers, and fewer about quality and links.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(15);
/// Nodes, times kinds, that are remembered.
const REMEMBERED: usize = 1_024;

/// What all nodes of a room may still tell.
#[derive(Debug)]
pub(super) struct PeerPace(AttemptLimiter<(String, Discriminant<Body>)>);

impl Default for PeerPace {
    fn default() -> Self {
        Self(AttemptLimiter::new(BURST, INTERVAL, REMEMBERED))
    }
}

impl PeerPace {
    /// May this message of a node be handled? A message of a kind that only the room reads always may.
    pub(super) fn admits(&self, node: &str, body: &Body, now: Instant) -> bool {
        match body {
            Body::Speakers(_) | Body::Qualities(_) | Body::Links(_) => {
                self.0.take((node.to_owned(), discriminant(body)), now)
            }
            _ => true,
        }
    }
}
