//! What a connection of a link needs from time to time.

use super::connection::Lane;
use super::link_media::Trunk;
use super::token_bucket::BACKLOG;
use crate::event::DownReason;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A peer that is not heard for so long is taken for dead.
const SILENCE: Duration = Duration::from_millis(600);
/// How often the lane looks at itself.
const TICK: Duration = Duration::from_millis(50);
/// How often it looks for room while something waits.
const RETRY: Duration = Duration::from_millis(1);

/// Sends what waits, beats, and listens for silence, until the connection ends.
pub(super) async fn tend(lane: Rc<Lane>, trunk: Rc<Trunk>) {
    let mut heard = 0;
    let mut silence = Duration::ZERO;
    let mut looked = Instant::now();
    loop {
        let waits = !lane.queue.borrow().is_empty();
        tokio::select! {
            () = lane.waiting.notified(), if !waits => {}
            () = tokio::time::sleep(if waits { RETRY } else { TICK }) => {}
        }
        if lane.connection.close_reason().is_some() {
            return;
        }
        let now = Instant::now();
        lane.pump(now);
        lane.beat(now);
        let passed = now.saturating_duration_since(looked);
        if passed < TICK {
            continue;
        }
        looked = now;
        let stats = lane.connection.stats();
        // Acknowledgements count as well as datagrams: any packet does.
        let hears = stats.frame_rx.datagram + stats.frame_rx.acks;
        // A thread that stood still has not listened: one look is worth two ticks at most, so that
        // what waits in the socket is heard before the peer is given up.
        silence = if hears == heard { silence + passed.min(2 * TICK) } else { Duration::ZERO };
        heard = hears;
        if silence >= SILENCE {
            return trunk.end(DownReason::Silence);
        }
        if trunk.is_abandoned() {
            return trunk.end(DownReason::Idle);
        }
        let rtt = stats.path.rtt.max(Duration::from_millis(1));
        let rate = stats.path.cwnd as f64 / rtt.as_secs_f64();
        let fill = (rate * BACKLOG.as_secs_f64()) as usize;
        lane.fill.set(fill.clamp(16 << 10, lane.capacity));
        trunk.publish(&lane, &stats, rate as u64);
    }
}
