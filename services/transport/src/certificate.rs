//! The DTLS certificate of this process.

use std::sync::Arc;

use aws_lc_rs::digest;

/// A certificate could not be generated.
#[derive(Debug, thiserror::Error)]
#[error("generating a DTLS certificate failed: {0}; check the system's random number source")]
pub struct CertificateError(String);

/// A self-signed ECDSA P-256 certificate; one per process, cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    certificate: dimpl::DtlsCertificate,
    fingerprint: [u8; 32],
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// Generates a key and its certificate.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, CertificateError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| CertificateError(error.to_string()))?;
        let fingerprint = sha256(&certificate.certificate);
        Ok(Self(Arc::new(Inner { certificate, fingerprint })))
    }

    /// SHA-256 of the certificate, the value of `a=fingerprint:sha-256` (RFC 8122).
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    pub(crate) fn dtls(&self) -> dimpl::DtlsCertificate {
        self.0.certificate.clone()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
