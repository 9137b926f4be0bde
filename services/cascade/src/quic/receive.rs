//! What comes in on a connection of a link.

use super::connection::Lane;
use super::link_media::Trunk;
use crate::event::DownReason;
use crate::frame::Frame;
use futures::FutureExt;
use std::rc::Rc;

/// Datagrams read at a stretch.
const STRETCH: usize = 256;

/// Reads datagrams until the connection ends.
pub(super) async fn read(lane: Rc<Lane>, trunk: Rc<Trunk>) {
    loop {
        let first = match lane.connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return trunk.end(DownReason::Quic(error.to_string())),
        };
        let more = || lane.connection.read_datagram().now_or_never().and_then(Result::ok);
        stretch(first, more, |datagram| receive(&lane, &trunk, &datagram));
        trunk.router.flush();
        tokio::task::yield_now().await;
    }
}

/// Takes the first item and those that are there already, but no more than a stretch of them. What
/// was fetched is taken.
fn stretch<T>(first: T, mut more: impl FnMut() -> Option<T>, mut take: impl FnMut(T)) {
    take(first);
    for _ in 1..STRETCH {
        let Some(next) = more() else { return };
        take(next);
    }
}

fn receive(lane: &Lane, trunk: &Trunk, datagram: &[u8]) {
    match Frame::parse(datagram) {
        Some(Frame::Heartbeat) => {}
        Some(Frame::Packet { flow, packet }) => trunk.deliver(flow, packet),
        Some(Frame::Message(message)) => trunk.hear(message),
        Some(Frame::Part { id, second, body }) => {
            let Some(whole) = lane.reassembly.borrow_mut().join(id, second, body) else { return };
            match Frame::parse(&whole) {
                Some(Frame::Packet { flow, packet }) => {
                    trunk.count(|stats| stats.joined += 1);
                    trunk.deliver(flow, packet);
                }
                Some(Frame::Message(message)) => {
                    trunk.count(|stats| stats.joined += 1);
                    trunk.hear(message);
                }
                _ => trunk.count(|stats| stats.malformed += 1),
            }
        }
        None => trunk.count(|stats| stats.malformed += 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_taken() {
        for available in [1, 2, STRETCH - 1, STRETCH, STRETCH + 1, 10 * STRETCH] {
            let mut left = 0..available;
            let mut taken = Vec::new();
            while let Some(first) = left.next() {
                let before = taken.len();
                stretch(first, || left.next(), |item| taken.push(item));
                assert!(taken.len() - before <= STRETCH);
            }
            assert_eq!(taken, (0..available).collect::<Vec<_>>());
        }
    }
}
