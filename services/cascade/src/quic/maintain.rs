//! What a connection of a link needs from time to time.

use super::connection::LinkConnection;
use super::link_media::LinkMedia;
use super::token_bucket::BACKLOG;
use crate::event::DownReason;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A peer that is not heard for so long is taken for dead.
const TIMEOUT: Duration = Duration::from_millis(600);
/// How often the lane looks at itself.
const TICK: Duration = Duration::from_millis(50);
/// How often it looks for room while something waits.
const RETRY: Duration = Duration::from_millis(1);

/// Sends what waits, beats, and listens for silence, until the connection ends.
pub(super) async fn run(connection: Rc<LinkConnection>, media: Rc<LinkMedia>) {
    let mut last_received = 0;
    let mut silence = Duration::ZERO;
    let mut last_tick = Instant::now();
    loop {
        let queued = !connection.queue.borrow().is_empty();
        tokio::select! {
            () = connection.blocked.notified(), if !queued => {}
            () = tokio::time::sleep(if queued { RETRY } else { TICK }) => {}
        }
        if connection.quic.close_reason().is_some() {
            return;
        }
        let now = Instant::now();
        connection.send_queued(now);
        connection.send_heartbeat_if_idle(now);
        let elapsed = now.saturating_duration_since(last_tick);
        if elapsed < TICK {
            continue;
        }
        last_tick = now;
        let stats = connection.quic.stats();
        // Acknowledgements count as well as datagrams: any packet does.
        let received = stats.frame_rx.datagram + stats.frame_rx.acks;
        // A thread that stood still has not listened: one look is worth two ticks at most, so that
        // what waits in the socket is heard before the peer is given up.
        silence = if received == last_received { silence + elapsed.min(2 * TICK) } else { Duration::ZERO };
        last_received = received;
        if silence >= TIMEOUT {
            return media.end(DownReason::Silence);
        }
        if media.is_abandoned() {
            return media.end(DownReason::Idle);
        }
        let rtt = stats.path.rtt.max(Duration::from_millis(1));
        let rate = stats.path.cwnd as f64 / rtt.as_secs_f64();
        let limit = (rate * BACKLOG.as_secs_f64()) as usize;
        connection.quinn_limit.set(limit.clamp(16 << 10, connection.quinn_buffer));
        media.publish(&connection, &stats, rate as u64);
    }
}
