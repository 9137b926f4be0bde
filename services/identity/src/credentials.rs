//! What a node proves itself with and whom it believes, as TLS configurations. Both can be
//! replaced while configurations made from them are in use: the next handshake takes the new ones.

use crate::IdentityError;
use crate::crypto::provider;
use crate::pem::NodeCertificate;
use crate::spiffe::SpiffeId;
use crate::trust::TrustBundle;
use crate::verify::{ClientVerifier, ServerVerifier};
use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use std::sync::Arc;

/// Application protocols, one per use.
pub mod alpn {
    /// QUIC links, first version.
    pub const LINK: &[u8] = b"systir-link/1";
    /// gRPC.
    pub const GRPC: &[u8] = b"h2";
}

/// A node's certificate and its trust bundle. Cheap to clone; clones share what is replaced.
#[derive(Debug, Clone)]
pub struct Credentials {
    id: SpiffeId,
    own: Arc<OwnCertificate>,
    bundle: Arc<ArcSwap<TrustBundle>>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct OwnCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Credentials {
    /// Takes a certificate and whom to believe.
    ///
    /// # Errors
    /// When the key is not the certificate's.
    pub fn new(certificate: NodeCertificate, bundle: TrustBundle) -> Result<Self, IdentityError> {
        let provider = provider();
        let id = certificate.id.clone();
        let own = Arc::new(OwnCertificate(ArcSwap::from_pointee(certified(certificate, &provider)?)));
        Ok(Self { id, own, bundle: Arc::new(ArcSwap::from_pointee(bundle)), provider })
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Takes the next certificate; it must be of the same id.
    ///
    /// # Errors
    /// When it is another node's, or the key is not the certificate's. The old one stays.
    pub fn renew(&self, certificate: NodeCertificate) -> Result<(), IdentityError> {
        if certificate.id != self.id {
            return Err(IdentityError::Certificate(format!(
                "it is {}'s, and this node is {}",
                certificate.id, self.id
            )));
        }
        self.own.0.store(Arc::new(certified(certificate, &self.provider)?));
        Ok(())
    }

    /// Believes these roots from now on. Connections that stand are not closed by this.
    pub fn trust(&self, bundle: TrustBundle) {
        self.bundle.store(Arc::new(bundle));
    }

    /// TLS of a server to nodes: TLS 1.3, the client must prove itself, nothing is resumed (a
    /// resumed session would skip the check of the certificate).
    ///
    /// # Errors
    /// When TLS refuses the configuration.
    pub fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, IdentityError> {
        let verifier = ClientVerifier { bundle: self.bundle.clone(), provider: self.provider.clone() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| IdentityError::Tls(error.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS of a client to one node: any other server is refused, whatever name it was dialled by.
    ///
    /// # Errors
    /// When TLS refuses the configuration.
    pub fn client_config(&self, expected: &SpiffeId, alpn: &[u8]) -> Result<ClientConfig, IdentityError> {
        let verifier = ServerVerifier {
            expected: expected.clone(),
            bundle: self.bundle.clone(),
            provider: self.provider.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| IdentityError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

fn certified(certificate: NodeCertificate, provider: &CryptoProvider) -> Result<CertifiedKey, IdentityError> {
    let NodeCertificate { id, chain, key } = certificate;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| IdentityError::Key { id, reason: error.to_string() })
}
