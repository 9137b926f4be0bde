//! The roots of each trust domain.

use crate::crypto::provider;
use crate::pem::certificates;
use crate::{IdentityError, TrustDomain};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The roots of each trust domain, kept separate.
#[derive(Clone, Default)]
pub struct TrustBundle {
    domains: BTreeMap<TrustDomain, Roots>,
}

#[derive(Clone)]
pub(crate) struct Roots {
    pub(crate) store: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

impl TrustBundle {
    /// A bundle without roots: it trusts no node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the roots of a trust domain, from PEM text with one or more certificates. Replaces its earlier
    /// roots.
    ///
    /// # Errors
    /// When the text has no certificate, or one that cannot be a root.
    pub fn with(mut self, domain: TrustDomain, roots_pem: &str) -> Result<Self, IdentityError> {
        let mut store = RootCertStore::empty();
        for certificate in certificates(roots_pem)? {
            store.add(certificate).map_err(|error| IdentityError::Certificate(error.to_string()))?;
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(store.clone(), provider())
            .build()
            .map_err(|error| IdentityError::Tls(error.to_string()))?;
        self.domains.insert(domain, Roots { store, clients });
        Ok(self)
    }

    /// The trust domains that have roots.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }

    pub(crate) fn roots(&self, domain: &TrustDomain) -> Result<&Roots, IdentityError> {
        self.domains.get(domain).ok_or_else(|| IdentityError::UnknownTrustDomain(domain.clone()))
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.domains.keys()).finish()
    }
}
