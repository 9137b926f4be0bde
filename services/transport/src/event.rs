//! What a transport tells its owner.

use std::sync::Arc;

use bytes::Bytes;

use crate::{CloseReason, SrtpProfile};

/// A data channel of one transport; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(crate) u32);

/// What a transport tells.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportEvent {
    /// ICE and DTLS are up, the peer's certificate is the announced one; media may flow.
    Connected {
        /// How media is protected.
        profile: SrtpProfile,
    },
    /// A data channel is open, ours or one that the peer opened.
    ChannelOpen {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Are messages delivered in order?
        ordered: bool,
        /// Retransmissions allowed per message; none is unlimited.
        max_retransmits: Option<u16>,
        /// Did the peer open it?
        by_peer: bool,
    },
    /// A message.
    ChannelData {
        /// The channel.
        id: ChannelId,
        /// Its label.
        label: Arc<str>,
        /// Binary, or UTF-8 text?
        binary: bool,
        /// The message.
        data: Bytes,
    },
    /// The channel ended.
    ChannelClosed {
        /// The channel.
        id: ChannelId,
    },
    /// The transport ended; nothing more follows.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}
