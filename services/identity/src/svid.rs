//! What the certificate of a node says (X.509-SVID).

use crate::{IdentityError, SpiffeId};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A node's leaf certificate, as far as this crate reads it. Reading verifies no signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafCertificate {
    /// The SPIFFE id.
    pub(crate) id: SpiffeId,
    /// The end of its validity.
    pub(crate) not_after: SystemTime,
}

impl LeafCertificate {
    /// Reads the leaf of a chain, which is its first certificate.
    pub(crate) fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, IdentityError> {
        let leaf =
            chain.first().ok_or_else(|| IdentityError::Certificate("the peer sent none".to_owned()))?;
        Self::read(leaf)
    }

    /// Reads a leaf certificate, and checks what the X.509-SVID standard requires of one: exactly one URI name
    /// (section 2), no CA, and a key that signs, but no certificates (sections 4.1 to 4.4).
    pub(crate) fn read(leaf: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(wrong("other bytes follow it"));
        }
        if certificate.is_ca() {
            return Err(wrong("it is a CA certificate"));
        }
        check_key_usage(&certificate)?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp())
            .map_err(|_| wrong("its validity ends before 1970"))?;
        let not_after = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or_else(|| wrong("the end of its validity is out of range"))?;
        Ok(Self { id: only_uri(&certificate)?, not_after })
    }
}

fn wrong(reason: &str) -> IdentityError {
    IdentityError::Certificate(reason.to_owned())
}

fn unreadable(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

fn only_uri(certificate: &X509Certificate<'_>) -> Result<SpiffeId, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(unreadable)?
        .ok_or_else(|| wrong("it has no subject alternative name"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse(),
        (None, _) => Err(wrong("it has no URI name")),
        (Some(_), Some(_)) => Err(wrong("it has more than one URI name")),
    }
}

fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    let usage = certificate.key_usage().map_err(unreadable)?.ok_or_else(|| wrong("it has no key usage"))?;
    if !usage.critical {
        return Err(wrong("its key usage is not critical"));
    }
    if !usage.value.digital_signature() {
        return Err(wrong("its key usage lacks digitalSignature"));
    }
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(wrong("its key usage has keyCertSign or cRLSign"));
    }
    // The extension may be absent. If it is there, the node must be allowed to dial and to listen.
    let extended = certificate.extended_key_usage().map_err(unreadable)?;
    if extended.is_some_and(|usage| !usage.value.server_auth || !usage.value.client_auth) {
        return Err(wrong("its extended key usage lacks serverAuth or clientAuth"));
    }
    Ok(())
}
