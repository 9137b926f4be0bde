//! Session descriptions (RFC 8866, RFC 8829). The crate `sdp-types` parses the grammar; this module reads
//! the attributes. Unknown attributes are ignored, so that descriptions of newer clients are accepted.
//!
//! [`Offer`] is a client's offer on its publisher connection, and [`Offer::answer`] our answer.
//! [`Subscriber`] holds the m-lines that we offer on its subscriber connection.

mod answer;
#[cfg(test)]
mod captured;
pub mod codecs;
mod description;
pub mod extensions;
mod offer;
mod section;
mod subscriber;
#[cfg(test)]
mod tests;
mod write;

pub use answer::{Answer, ReceiveOptions};
pub use description::{MAX_OFFER_BYTES, MAX_SECTIONS};
pub use offer::Offer;
pub use section::{Direction, Section, SectionKind};
pub use subscriber::{OfferedTrack, Subscriber, SubscriberAnswer, SubscriberOffer};

pub use systir_media_control::ice::{CandidateProtocol, IceCandidate};

use systir_media_control::IceCredentials;

/// `a=max-message-size`, bytes, as LiveKit's server announces it.
pub const MAX_MESSAGE_BYTES: u32 = 65_535;

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The description is too long.
    #[error("the description has {bytes} bytes, {limit} at most are read")]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The description has too many m-lines.
    #[error("the description has {sections} m-lines, {MAX_SECTIONS} at most are read")]
    TooManySections {
        /// Number of m-lines.
        sections: usize,
    },
    /// It is not SDP.
    #[error("the description is not SDP: {0}")]
    Grammar(String),
    /// Something that WebRTC requires is missing or malformed.
    #[error("the description lacks a usable `a={0}`")]
    Lacks(&'static str),
    /// Two m-lines share a mid.
    #[error("two m-lines have the same mid")]
    DuplicateMid,
    /// The answer does not have the m-lines of our offer.
    #[error("the answer does not have the m-lines of the offer")]
    NotOurOffer,
}

/// The worker's end of one connection.
#[derive(Debug, Clone, Copy)]
pub struct LocalTransport<'a> {
    /// Our ICE credentials.
    pub ice: &'a IceCredentials,
    /// SHA-256 of our DTLS certificate.
    pub fingerprint: &'a [u8; 32],
    /// ICE candidates of the worker, best first.
    pub candidates: &'a [IceCandidate],
}

/// Session id and version of a description, for the `o=` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Session id.
    pub session: u64,
    /// Version, which increases with each description.
    pub version: u64,
}
