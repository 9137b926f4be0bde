//! The identity of a node: SPIFFE ids, X.509 certificates (X.509-SVID), mutual TLS, and the node key proof. The
//! roots that verify a peer are those of the trust domain in the peer's id. They are never pooled, because any
//! CA can write any URI into a certificate. This crate does not decide what a node may do (that is policy), and
//! reads no files.
//!
//! - [`SpiffeId`], [`TrustDomain`]: names.
//! - [`NodeCertificate`]: a node's own certificate and key; [`TrustBundle`]: the roots of each trust domain.
//! - [`Credentials`]: both, as TLS configurations that take renewed certificates and roots.
//! - [`NodeHandshake`]: makes and verifies node key proofs; [`ProvenIdentity`]: a peer whose proof is verified.
//! - [`ca`]: a certificate authority for development and tests.
//!
//! # Example
//!
//! ```
//! use systir_identity::{SpiffeId, TrustDomain};
//!
//! let id: SpiffeId = "spiffe://nordu.net/relay/cph-1".parse()?;
//! assert_eq!(id.relay_name(), Some("cph-1"));
//! assert_eq!(id, TrustDomain::new("nordu.net")?.relay("cph-1")?);
//! # Ok::<(), systir_identity::IdentityError>(())
//! ```

pub mod ca;
pub mod credentials;
mod crypto;
mod node_key;
pub mod pem;
mod proven;
pub mod spiffe;
mod svid;
pub mod trust;
mod verify;

pub use credentials::{Credentials, alpn};
pub use node_key::{HandshakeRole, NodeHandshake, NodeKeyError, NodeKeyProof};
pub use pem::{LeafValidity, NodeCertificate};
pub use proven::ProvenIdentity;
pub use spiffe::{SpiffeId, TrustDomain};
pub use trust::TrustBundle;

/// Errors of identities, certificates and keys.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// The text is not a SPIFFE id.
    #[error("{id:?} is not a SPIFFE id: {reason}; write it like spiffe://nordu.net/relay/cph-1")]
    Spiffe {
        /// The text.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificate is not a node's certificate.
    #[error(
        "the certificate is not valid for a node: {0}; it needs exactly one URI name, a SPIFFE id, and the key \
         usage digitalSignature"
    )]
    Certificate(String),
    /// A certificate or key is missing or malformed in a PEM text.
    #[error("no {wanted} in the PEM text: {reason}")]
    Pem {
        /// What was expected.
        wanted: &'static str,
        /// The parser's error.
        reason: String,
    },
    /// No root is known for a trust domain.
    #[error("no roots are configured for the trust domain {0}; add its CA to the trust bundle")]
    UnknownTrustDomain(TrustDomain),
    /// The private key does not match the certificate, or is unusable.
    #[error("the private key cannot be used with the certificate of {id}: {reason}")]
    Key {
        /// The certificate's id.
        id: SpiffeId,
        /// The error of TLS.
        reason: String,
    },
    /// A CA operation failed.
    #[error("the certificate authority failed: {0}")]
    Ca(String),
    /// TLS rejected the configuration.
    #[error("TLS rejected the configuration: {0}")]
    Tls(String),
}
