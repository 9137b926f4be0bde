//! The forwarding core, sans-IO: normalised packets come in, each subscriber's and each
//! downstream's packets go out. It knows codecs, layers, sequence numbers and key frames; it
//! knows nothing of sockets, clocks, SDP, encryption, rooms or people.

pub mod batch;
pub mod packet;
