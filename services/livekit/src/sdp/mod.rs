//! Session descriptions (RFC 8866, RFC 8829). The grammar is a crate's; what the attributes mean
//! is ours: a line that we do not know is passed over, so a newer client is not turned away for it.
//!
//! [`Offer`] is what a client sends on its publisher connection, and [`Offer::answer`] our reply;
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

pub use answer::{Answer, Intake};
pub use description::{MAX_OFFER_BYTES, MAX_SECTIONS};
pub use offer::Offer;
pub use section::{Direction, Section, SectionKind};
pub use subscriber::{Answered, Subscriber, SubscriberOffer, Wanted};

pub use systir_media_control::ice::{Candidate, CandidateProtocol};

use systir_media_control::IceCredentials;

/// Largest data message that we announce (`a=max-message-size`), as LiveKit's server.
pub const MAX_MESSAGE_BYTES: u32 = 65_535;

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than we read.
    #[error("the description has {bytes} bytes, {limit} at most are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More m-lines than we read.
    #[error("the description has {sections} m-lines, {MAX_SECTIONS} at most are read")]
    TooManySections {
        /// How many.
        sections: usize,
    },
    /// Not SDP.
    #[error("the description is not SDP: {0}")]
    Grammar(String),
    /// Something that WebRTC requires is missing or malformed.
    #[error("the description lacks a usable `a={0}`")]
    Lacks(&'static str),
    /// Two m-lines share a mid.
    #[error("two m-lines have the same mid")]
    DuplicateMid,
    /// An answer must have the m-lines of its offer.
    #[error("the answer does not have the m-lines of the offer")]
    NotOurOffer,
}

/// Our end of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Our ICE credentials.
    pub ice: &'a IceCredentials,
    /// SHA-256 of our DTLS certificate.
    pub fingerprint: &'a [u8; 32],
    /// Where the media node is reached, best first.
    pub candidates: &'a [Candidate],
}

/// The `o=` line: who made the description and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Session id.
    pub session: u64,
    /// Goes up with each description.
    pub version: u64,
}
