//! A node's own certificate and its trusted roots, as TLS configurations. Both can be replaced while
//! configurations made from them are in use: the next handshake uses the new ones.

use crate::crypto::provider;
use crate::pem::NodeCertificate;
use crate::spiffe::SpiffeId;
use crate::trust::TrustBundle;
use crate::verify::{ClientVerifier, ServerVerifier};
use crate::{IdentityError, ProvenIdentity, TrustDomain};
use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::time::SystemTime;

/// Application protocols (ALPN) between nodes.
pub mod alpn {
    /// QUIC connections of links. Their versions were agreed on the link's gRPC connection.
    pub const LINK: &[&[u8]] = &[b"systir-link/2"];
    /// gRPC, the preferred protocol first.
    pub const GRPC: &[&[u8]] = &[GRPC_WITH_VERSIONS, b"systir-grpc/2"];
    /// gRPC as nodes speak it that state no versions: the node key proofs, then HTTP/2.
    pub const GRPC_UNSTATED: &[&[u8]] = &[b"systir-grpc/2"];
    /// gRPC with the versions of both nodes beside their node key proofs.
    pub const GRPC_WITH_VERSIONS: &[u8] = b"systir-grpc/3";
}

/// A node's certificate and trust bundle. Cheap to clone. Clones share both, also after a renewal.
#[derive(Debug, Clone)]
pub struct Credentials {
    id: SpiffeId,
    own: Arc<OwnCertificate>,
    bundle: Arc<ArcSwap<TrustBundle>>,
    provider: Arc<CryptoProvider>,
}

/// This node's certificate, as TLS presents it, and the end of its validity.
#[derive(Debug)]
struct OwnCertificate(ArcSwap<(Arc<CertifiedKey>, SystemTime)>);

impl OwnCertificate {
    fn presented(&self) -> Arc<CertifiedKey> {
        self.0.load().0.clone()
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.presented())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.presented())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Credentials {
    /// Credentials with this certificate and these roots.
    ///
    /// # Errors
    /// When the key does not match the certificate.
    pub fn new(certificate: NodeCertificate, bundle: TrustBundle) -> Result<Self, IdentityError> {
        let provider = provider();
        let id = certificate.id().clone();
        let own = Arc::new(OwnCertificate(ArcSwap::from_pointee(certified(certificate, &provider)?)));
        Ok(Self { id, own, bundle: Arc::new(ArcSwap::from_pointee(bundle)), provider })
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The end of the certificate's validity. A connection that is made later lasts at least as long, as far
    /// as this node's certificate limits it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.own.0.load().1
    }

    /// The certificate that later handshakes present. It is the same `Arc` until the certificate is replaced.
    #[must_use]
    pub fn presented(&self) -> Arc<CertifiedKey> {
        self.own.presented()
    }

    /// Replaces the certificate by a newer one of the same id.
    ///
    /// # Errors
    /// When the certificate has another id, or the key does not match it. Then the old certificate stays.
    pub fn renew(&self, certificate: NodeCertificate) -> Result<(), IdentityError> {
        if *certificate.id() != self.id {
            return Err(IdentityError::Certificate(format!(
                "it belongs to {}, and this node is {}",
                certificate.id(),
                self.id
            )));
        }
        self.own.0.store(Arc::new(certified(certificate, &self.provider)?));
        Ok(())
    }

    /// Do the present roots still vouch for the certificates with which the peer proved its id, at `now`? The roots
    /// may have been replaced since its handshake.
    #[must_use]
    pub fn trusts(&self, peer: &ProvenIdentity, now: SystemTime) -> bool {
        let (Some((leaf, intermediates)), Ok(since)) =
            (peer.chain().split_first(), now.duration_since(SystemTime::UNIX_EPOCH))
        else {
            return false;
        };
        let bundle = self.bundle.load();
        // A node's certificate serves for dialling and for listening, so that one check is enough.
        bundle.roots(peer.id().trust_domain()).is_ok_and(|roots| {
            let now = UnixTime::since_unix_epoch(since);
            roots.clients.verify_client_cert(leaf, intermediates, now).is_ok()
        })
    }

    /// Are several roots of this trust domain trusted, as while its CA is replaced?
    #[must_use]
    pub fn has_several_roots(&self, domain: &TrustDomain) -> bool {
        self.bundle.load().roots(domain).is_ok_and(|roots| roots.store.len() > 1)
    }

    /// Replaces the trusted roots. Existing connections stay open: ask [`Credentials::trusts`] for each.
    pub fn trust(&self, bundle: TrustBundle) {
        self.bundle.store(Arc::new(bundle));
    }

    /// TLS configuration of a server for other nodes, with these application protocols, the preferred one first: TLS 1.3 with a
    /// client certificate. Sessions are not
    /// resumed, because a resumed session skips the verification of the certificate.
    ///
    /// # Errors
    /// When TLS rejects the configuration.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, IdentityError> {
        let verifier = ClientVerifier { bundle: self.bundle.clone(), provider: self.provider.clone() };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| IdentityError::Tls(error.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.own.clone());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS configuration of a client for one node. Any server that is not `expected` is refused, whatever
    /// address was dialled.
    ///
    /// # Errors
    /// When TLS rejects the configuration.
    pub fn client_config(&self, expected: &SpiffeId, alpn: &[&[u8]]) -> Result<ClientConfig, IdentityError> {
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
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

fn certified(
    certificate: NodeCertificate,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, SystemTime), IdentityError> {
    let NodeCertificate { leaf, chain, key } = certificate;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(certified) => Ok((Arc::new(certified), leaf.not_after)),
        Err(error) => Err(IdentityError::Key { id: leaf.id, reason: error.to_string() }),
    }
}
