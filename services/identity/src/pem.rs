//! Certificates and keys in PEM text.

use crate::svid::LeafCertificate;
use crate::{IdentityError, SpiffeId};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A node's own certificate chain and key.
pub struct NodeCertificate {
    pub(crate) leaf: LeafCertificate,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl NodeCertificate {
    /// Reads the chain, leaf first, and the key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// When either is missing, or the leaf is not a node's certificate: one URI name that is a SPIFFE id, and a
    /// key that signs, but no certificates.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = certificates(certificate)?;
        let leaf = chain.first().ok_or_else(|| missing("certificate"))?;
        let leaf = LeafCertificate::read(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| IdentityError::Pem { wanted: "private key", reason: error.to_string() })?;
        Ok(Self { leaf, chain, key })
    }

    /// The id in the certificate.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The end of its validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCertificate").field("id", &self.leaf.id).finish_non_exhaustive()
    }
}

/// When a certificate is valid. It need not be a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafValidity {
    /// Since when.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl LeafValidity {
    /// Reads it from the first certificate of a PEM text, and verifies nothing.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn of_pem(pem: &str) -> Result<Self, IdentityError> {
        let chain = certificates(pem)?;
        Self::of(chain.first().ok_or_else(|| missing("certificate"))?)
    }

    /// The same of each certificate, such as of several roots.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn each_of_pem(pem: &str) -> Result<Vec<Self>, IdentityError> {
        certificates(pem)?.iter().map(Self::of).collect()
    }

    fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable =
            |reason: String| IdentityError::Pem { wanted: "certificate with a readable validity", reason };
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|error| unreadable(error.to_string()))?;
        let time = |seconds: i64| {
            let seconds = u64::try_from(seconds).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let validity = certificate.validity();
        let times = time(validity.not_before.timestamp()).zip(time(validity.not_after.timestamp()));
        let (not_before, not_after) =
            times.ok_or_else(|| unreadable("a time before 1970, or out of range".to_owned()))?;
        Ok(Self { not_before, not_after })
    }
}

/// All certificates in a PEM text. It must contain at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::Pem { wanted: "certificate", reason: error.to_string() })?;
    if found.is_empty() { Err(missing("certificate")) } else { Ok(found) }
}

fn missing(wanted: &'static str) -> IdentityError {
    IdentityError::Pem { wanted, reason: "it contains none".to_owned() }
}
