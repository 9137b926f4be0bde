//! The counters of a worker. It counts in plain integers and publishes them several times a second, so that
//! handling a packet does not write memory that another CPU core reads.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A worker's counters, as last published.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct WorkerCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl WorkerCounts {
            /// The counters by name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }

        /// The published counters of a worker. Each value is consistent by itself; together they are not of
        /// one instant.
        #[derive(Debug, Default)]
        pub struct WorkerStats {
            $($name: AtomicU64,)+
        }

        impl WorkerStats {
            /// The values now.
            #[must_use]
            pub fn counts(&self) -> WorkerCounts {
                WorkerCounts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }

            pub(super) fn publish(&self, counts: &WorkerCounts) {
                $(self.$name.store(counts.$name, Ordering::Relaxed);)+
            }
        }
    };
}

counters! {
    /// Current number of participants.
    participants,
    /// Current number of tracks, published here or received over a link.
    tracks,
    /// Current number of downtracks.
    downtracks,
    /// Current number of subscribers' connections whose bandwidth is estimated.
    estimates,
    /// Of those, connections whose estimate is below 300 kbit/s.
    estimates_below_300_kbit,
    /// Of those, connections whose estimate is below 1 Mbit/s.
    estimates_below_1_mbit,
    /// Of those, connections whose estimate is below 3 Mbit/s.
    estimates_below_3_mbit,
    /// Current number of TCP streams.
    streams,
    /// TCP streams closed because the peer did not read, sent no authenticated check in time, or had no
    /// connection here.
    streams_dropped,
    /// Datagrams received from clients, TCP frames included.
    datagrams_in,
    /// Bytes received from clients.
    bytes_in,
    /// Datagrams passed to the kernel.
    datagrams_out,
    /// Bytes passed to the kernel.
    bytes_out,
    /// Send calls; with segmentation offload fewer than datagrams.
    sends,
    /// Media packets received from clients and accepted.
    media_in,
    /// Media packets written for subscribers.
    media_out,
    /// Media packets that waited for so long that they were never sent to a subscriber.
    media_expired,
    /// Of the packets that were written, retransmissions.
    retransmitted,
    /// Retransmissions refused because a client requested more than its part of the bandwidth.
    retransmissions_refused,
    /// Reports of clients on each packet that they received (transport-wide feedback).
    feedback_in,
    /// Packets sent to probe for more bandwidth.
    probe_packets,
    /// Video tracks of subscribers paused for lack of bandwidth.
    streams_paused,
    /// Media packets written for links.
    link_out,
    /// Media packets received from links and accepted.
    link_in,
    /// Datagrams that belong to no connection: unknown protocol, unknown source address, or a TCP stream
    /// that is not authenticated.
    datagrams_rejected,
    /// SRTP and SRTCP packets that could not be opened.
    unauthentic,
    /// Media packets that match no m-line or track, or have another codec than their track.
    media_unmatched,
    /// New streams refused because a connection has too many already.
    too_many_streams,
    /// Packets from links that have an unknown flow or are malformed.
    unknown_flow,
    /// Packets lost to a full link ring.
    link_full,
    /// Of those, packets of audio.
    link_full_audio,
    /// Datagrams dropped because the kernel or a TCP peer did not take them in time.
    send_dropped,
    /// Packets that a client reported lost (RTCP NACK).
    nacked,
    /// Key frame requests received from clients.
    key_frame_requests_in,
    /// Key frame requests sent to publishers.
    key_frame_requests_out,
    /// Events dropped because the channel of the room was full.
    events_dropped,
    /// Times that reading a client's data messages was delayed: rate limit, or the room is behind.
    data_throttled,
    /// Data messages to clients dropped: a lossy one, or the channel was closed, or the reader was ended.
    data_dropped,
    /// Times that reading data messages became slow in a room, because a reader was slow.
    rooms_slowed,
    /// Readers of reliable data that were ended because they did not take it; their clients join again.
    readers_ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_counters_are_read_back() {
        let stats = WorkerStats::default();
        let counts = WorkerCounts { media_in: 7, datagrams_rejected: 2, ..WorkerCounts::default() };
        stats.publish(&counts);
        assert_eq!(stats.counts(), counts);
    }
}
