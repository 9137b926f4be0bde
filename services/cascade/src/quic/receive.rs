//! The task that reads the datagrams of a connection.

use super::connection::LinkConnection;
use super::link_media::LinkMedia;
use crate::event::DownReason;
use crate::frame::Frame;
use futures::FutureExt;
use std::rc::Rc;

/// Datagrams read before other tasks run.
const MAX_BATCH: usize = 256;

/// Reads datagrams until the connection ends.
pub(super) async fn run(connection: Rc<LinkConnection>, media: Rc<LinkMedia>) {
    loop {
        let first = match connection.quic.read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return media.end(DownReason::Quic(error.to_string())),
        };
        media.refresh_open_flows();
        let more = || connection.quic.read_datagram().now_or_never().and_then(Result::ok);
        for_batch(first, more, |datagram| receive(&connection, &media, &datagram));
        media.flush_to_workers();
        tokio::task::yield_now().await;
    }
}

/// Takes the first item and further ones that are available, `MAX_BATCH` at most. Never fetches an item
/// without taking it.
fn for_batch<T>(first: T, mut more: impl FnMut() -> Option<T>, mut take: impl FnMut(T)) {
    take(first);
    for _ in 1..MAX_BATCH {
        let Some(next) = more() else { return };
        take(next);
    }
}

fn receive(connection: &LinkConnection, media: &LinkMedia, datagram: &[u8]) {
    match Frame::parse(datagram) {
        Some(Frame::Heartbeat) => {}
        Some(Frame::Packet { flow, packet }) => media.deliver(flow, packet),
        Some(Frame::Message(message)) => media.receive_data_message(message),
        Some(Frame::Part { id, second, body }) => {
            let Some(whole) = connection.reassembly.borrow_mut().join(id, second, body) else { return };
            match Frame::parse(&whole) {
                Some(Frame::Packet { flow, packet }) => {
                    media.count(|stats| stats.joined += 1);
                    media.deliver(flow, packet);
                }
                Some(Frame::Message(message)) => {
                    media.count(|stats| stats.joined += 1);
                    media.receive_data_message(message);
                }
                _ => media.count(|stats| stats.malformed += 1),
            }
        }
        None => media.count(|stats| stats.malformed += 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fetched_item_is_taken() {
        for available in [1, 2, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 10 * MAX_BATCH] {
            let mut left = 0..available;
            let mut taken = Vec::new();
            while let Some(first) = left.next() {
                let before = taken.len();
                for_batch(first, || left.next(), |item| taken.push(item));
                assert!(taken.len() - before <= MAX_BATCH);
            }
            assert_eq!(taken, (0..available).collect::<Vec<_>>());
        }
    }
}
