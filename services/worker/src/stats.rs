//! What a worker counts. The worker counts in plain integers and publishes them now and then, so
//! that no packet touches memory that another core reads.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A worker's counters, as last published.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct WorkerCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl WorkerCounts {
            /// Name and value of each.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }

        /// Where a worker publishes its counters, several times a second. Each value is right by
        /// itself; together they are not one instant.
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
    /// Participants now.
    participants,
    /// Tracks now, published here or arriving over a link.
    tracks,
    /// Downtracks now.
    downtracks,
    /// TCP streams now.
    streams,
    /// TCP streams closed because the peer did not take what it was sent, or never proved itself.
    streams_dropped,
    /// Datagrams received from clients, TCP frames included.
    datagrams_in,
    /// Bytes received from clients.
    bytes_in,
    /// Datagrams handed to the kernel.
    datagrams_out,
    /// Bytes handed to the kernel.
    bytes_out,
    /// Calls by which they were handed over; fewer than datagrams where segmentation works.
    sends,
    /// Media packets received from clients and accepted.
    media_in,
    /// Media packets written for subscribers.
    media_out,
    /// Of those, retransmissions.
    retransmitted,
    /// Media packets written for links.
    link_out,
    /// Media packets received from links and accepted.
    link_in,
    /// Datagrams from an unknown address, or of no known protocol.
    junk,
    /// Packets that did not authenticate.
    unauthentic,
    /// Media packets that belong to no section or track, or whose codec the track does not have.
    unclaimed,
    /// New streams refused because a connection has too many already.
    too_many_streams,
    /// Link packets of an unknown flow, or malformed.
    unknown_flow,
    /// Packets lost to a full link ring.
    link_full,
    /// Datagrams that the kernel did not take in time.
    send_dropped,
    /// Packets that a client reported lost (RTCP NACK).
    nacked,
    /// Key frame requests received from clients.
    key_frames_asked,
    /// Key frame requests sent to publishers.
    key_frames_requested,
    /// Events that a full room channel did not take.
    events_dropped,
    /// Times that a client's data messages had to wait: it sends too many, or the room is slow.
    data_held,
    /// Data messages that found no open channel or no room in it.
    data_dropped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let stats = WorkerStats::default();
        let counts = WorkerCounts { media_in: 7, junk: 2, ..WorkerCounts::default() };
        stats.publish(&counts);
        assert_eq!(stats.counts(), counts);
    }
}
