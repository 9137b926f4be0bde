//! RTP on the wire (RFC 3550) and the types that all crates share: headers and their extensions
//! (RFC 8285), RTCP (RFC 4585), transport-wide feedback, codecs, kinds and layers. Clients and links use
//! the same parser. It has no sockets, no clock and no session state.
//!
//! [`RtpHeader`] parses a header and [`write_header`] writes one; [`packet`] is a packet without the parts
//! of one hop; [`rtcp`] and [`twcc`] parse and write feedback; [`extension_table`] has the server's header
//! extension ids.
//!
//! # Example
//!
//! ```
//! use systir_rtp::RtpHeader;
//!
//! // Version 2, marker, payload type 96, sequence number 7, timestamp 3000, SSRC 1; then the payload.
//! let packet = [0x80, 0xe0, 0, 7, 0, 0, 0x0b, 0xb8, 0, 0, 0, 1, 0xde, 0xad];
//! let header = RtpHeader::parse(&packet)?;
//! assert!(header.marker);
//! assert_eq!((header.payload_type, header.seq, header.timestamp, header.ssrc), (96, 7, 3000, 1));
//! assert_eq!(header.payload, [0xde, 0xad]);
//! # Ok::<(), systir_rtp::RtpError>(())
//! ```

// Tests read the clock for a start time.
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
