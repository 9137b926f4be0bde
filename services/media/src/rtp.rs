//! Real RTP headers (RFC 3550, RFC 8285): parsing of what clients send, writing of what
//! subscribers and links get, and sequence numbers that never wrap.

mod header;
mod link;
mod seq;
mod write;

pub use header::{ExtensionIter, RtpError, RtpHeader};
pub use link::{LinkPacket, parse_link_packet, write_link_packet};
pub use seq::ExtendedSeq;
pub use write::{ExtensionIds, HeaderFields, write_header};
