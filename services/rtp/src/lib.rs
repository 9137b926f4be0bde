//! RTP as it is on the wire (RFC 3550) and the words that all crates share about it: headers and their
//! extensions (RFC 8285), RTCP (RFC 4585), transport-wide feedback, codecs, kinds and layers. One
//! grammar for clients and links. It has no sockets, no clock and no state of a session.
//!
//! [`RtpHeader`] reads a header and [`write_header`] writes one; [`packet`] is a packet without what
//! belongs to one hop; [`rtcp`] and [`twcc`] are the feedback; [`extension_table`] has the ids that the
//! server gives to header extensions.

// Tests make their own times.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod extension_table;
pub mod packet;
pub mod rtcp;
pub mod twcc;

mod header;
mod link;
mod seq;
mod write;

pub use header::{ExtensionIter, RtpError, RtpHeader};
pub use link::{LinkPacket, parse_link_packet, write_link_packet};
pub use seq::ExtendedSeq;
pub use write::{ExtensionIds, HeaderFields, write_header};
