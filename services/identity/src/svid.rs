//! The SPIFFE id in a certificate (X.509-SVID).

use crate::{IdentityError, SpiffeId};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The SPIFFE id of a peer, from its certificate chain, leaf first. Use it only for chains that TLS verified
/// with [`crate::Credentials`]: it reads the name and verifies no signature.
///
/// # Errors
/// When there is no leaf, or the leaf does not have exactly one URI name that is a SPIFFE id.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, IdentityError> {
    let leaf = chain.first().ok_or_else(|| IdentityError::Certificate("the peer sent none".to_owned()))?;
    identity_of(leaf)
}

/// The SPIFFE id of a leaf certificate: its only URI name (X.509-SVID standard, section 2).
pub(crate) fn identity_of(leaf: &CertificateDer<'_>) -> Result<SpiffeId, IdentityError> {
    let wrong = |reason: &str| IdentityError::Certificate(reason.to_owned());
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| IdentityError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(wrong("other bytes follow it"));
    }
    if certificate.is_ca() {
        return Err(wrong("it is a CA certificate"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?
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
