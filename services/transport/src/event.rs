//! Events of a transport.

use std::sync::Arc;

use bytes::Bytes;

use crate::{CloseReason, SrtpProfile};

/// Identifies a data channel of one transport; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(crate) u32);

/// An event of a transport.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportEvent {
    /// ICE and DTLS are up and the peer has the announced certificate: media can be sealed and opened.
    Connected {
        /// The SRTP profile in use.
        profile: SrtpProfile,
    },
    /// A data channel is open, opened by us or by the peer.
    ChannelOpen {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Whether messages are delivered in order.
        ordered: bool,
        /// Limit of retransmissions per message; none is reliable.
        max_retransmits: Option<u16>,
        /// Whether the peer opened it.
        by_peer: bool,
    },
    /// A message of the peer.
    ChannelData {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Binary, otherwise UTF-8 text.
        binary: bool,
        /// The message.
        data: Bytes,
    },
    /// A channel closed, or could not be opened.
    ChannelClosed {
        /// The channel.
        id: ChannelId,
    },
    /// The transport closed. It is the last event.
    Closed {
        /// The reason.
        reason: CloseReason,
    },
}
