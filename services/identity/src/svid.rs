//! The SPIFFE id in a certificate.

use crate::{IdentityError, SpiffeId};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The SPIFFE id that a verified chain proves, leaf first. Only for chains that TLS has accepted
/// under [`crate::Credentials`]: it reads the name and checks no signature.
///
/// # Errors
/// When there is no leaf, or it has not exactly one URI name that is a SPIFFE id.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, IdentityError> {
    let leaf =
        chain.first().ok_or_else(|| IdentityError::Certificate("the peer presented none".to_owned()))?;
    identity_of(leaf)
}

/// X.509-SVID standard, section 2: exactly one URI name.
pub(crate) fn identity_of(leaf: &CertificateDer<'_>) -> Result<SpiffeId, IdentityError> {
    let wrong = |reason: &str| IdentityError::Certificate(reason.to_owned());
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|error| IdentityError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(wrong("bytes follow it"));
    }
    if certificate.is_ca() {
        return Err(wrong("it is a CA's"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?
        .ok_or_else(|| wrong("it has no alternative name"))?;
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
