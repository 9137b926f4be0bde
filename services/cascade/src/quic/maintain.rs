//! The periodic task of a connection.

use super::connection::LinkConnection;
use super::link_media::LinkMedia;
use super::token_bucket::BACKLOG;
use crate::event::DownReason;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The link ends when no packet arrived for this long.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Interval of heartbeat, timeout check and measurements.
const TICK: Duration = Duration::from_millis(50);
/// Interval of sending while frames are queued.
const RETRY: Duration = Duration::from_millis(1);

/// Sends queued frames and heartbeats, and checks the timeout, until the connection ends.
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
        // Any packet of the peer counts, acknowledgements too.
        let received = stats.frame_rx.datagram + stats.frame_rx.acks;
        // If this thread was paused, the peer was not silent: count two ticks at most, so that packets
        // waiting in the socket are read before the link ends.
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
