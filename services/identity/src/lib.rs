//! Who a node is and how it proves it: SPIFFE ids, certificates, and TLS in which both sides prove
//! themselves. Roots are chosen by the trust domain in the peer's id and never pooled, because any
//! CA can write any URI into a certificate. What a node *may do* is policy, not here.

pub mod ca;
pub mod credentials;
mod crypto;
pub mod pem;
pub mod spiffe;
mod svid;
pub mod trust;
mod verify;

pub use credentials::{Credentials, alpn};
pub use pem::NodeCertificate;
pub use spiffe::{SpiffeId, TrustDomain};
pub use svid::peer_identity;
pub use trust::TrustBundle;

/// What can be wrong with an identity or the files that hold it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not a SPIFFE id.
    #[error("{id:?} is not a SPIFFE id: {reason}; write it like spiffe://nordu.net/relay/cph-1")]
    Spiffe {
        /// What was given.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A certificate that is not a node's.
    #[error("the certificate cannot be a node's: {0}; it needs exactly one URI name, a SPIFFE id")]
    Certificate(String),
    /// PEM text without what it should hold.
    #[error("no {wanted} in the PEM text: {reason}")]
    Pem {
        /// What was looked for.
        wanted: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// No root is known for a trust domain.
    #[error("no roots are configured for the trust domain {0}; add its CA to the trust bundle")]
    UnknownTrustDomain(TrustDomain),
    /// The own certificate is not for the own key, or the key is of no use.
    #[error("the private key cannot be used with the certificate of {id}: {reason}")]
    Key {
        /// Whose certificate.
        id: SpiffeId,
        /// What TLS said.
        reason: String,
    },
    /// A CA operation failed.
    #[error("the certificate authority failed: {0}")]
    Ca(String),
    /// TLS refused the configuration.
    #[error("TLS refused the configuration: {0}")]
    Tls(String),
}
