//! A certificate authority for development and tests, one per trust domain. In production, certificates come
//! from step-ca, SPIRE or cert-manager.

use crate::{IdentityError, SpiffeId, TrustDomain};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::time::{Duration, SystemTime};

/// Default lifetime of a node's certificate.
pub const NODE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Lifetime of a development CA.
pub const CA_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates are valid from this long before they are issued, for clocks that are behind.
const SKEW: Duration = Duration::from_secs(300);

/// A certificate and its private key, both as PEM text.
#[derive(Clone)]
pub struct Pem {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8. Keep its file readable by the owner only.
    pub key: String,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Makes a CA for a trust domain, valid for [`CA_LIFE`] from `now`.
///
/// # Errors
/// When the key or the certificate cannot be made.
pub fn create(domain: &TrustDomain, now: SystemTime) -> Result<Pem, IdentityError> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
    params.distinguished_name.push(DnType::CommonName, format!("{domain} relay CA"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.not_before = (now - SKEW).into();
    params.not_after = (now + CA_LIFE).into();
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a node's certificate with exactly one URI name, `id`, valid for `life` from `now`. The CA signs any
/// id, also of other trust domains; the verifiers reject those.
///
/// # Errors
/// When the CA's PEM cannot be read or the certificate cannot be made.
pub fn issue(ca: &Pem, id: &SpiffeId, now: SystemTime, life: Duration) -> Result<Pem, IdentityError> {
    issue_names(ca, vec![uri(id.as_str())?], now, life)
}

pub(crate) fn issue_names(
    ca: &Pem,
    names: Vec<SanType>,
    now: SystemTime,
    life: Duration,
) -> Result<Pem, IdentityError> {
    sign_leaf(ca, leaf(names, now, life))
}

/// The contents of a node's certificate.
fn leaf(names: Vec<SanType>, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "Systir");
    params.subject_alt_names = names;
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    params
}

fn sign_leaf(ca: &Pem, params: CertificateParams) -> Result<Pem, IdentityError> {
    let ca_key = KeyPair::from_pem(&ca.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

pub(crate) fn uri(text: &str) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(failed)?))
}

fn failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Ca(error.to_string())
}

#[cfg(test)]
mod tests {
    //! TLS handshakes in memory: which peers are accepted and which are refused.

    use super::*;
    use crate::svid::LeafCertificate;
    use crate::{Credentials, NodeCertificate, TrustBundle, alpn};
    use rustls::{ClientConnection, ServerConnection};
    use rustls_pki_types::ServerName;
    use std::sync::Arc;

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::new(name).unwrap()
    }

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    struct Domains {
        nordu: Pem,
        sunet: Pem,
        bundle: TrustBundle,
    }

    fn domains() -> Domains {
        let nordu = create(&domain("nordu.net"), SystemTime::now()).unwrap();
        let sunet = create(&domain("sunet.se"), SystemTime::now()).unwrap();
        let bundle = TrustBundle::new()
            .with(domain("nordu.net"), &nordu.certificate)
            .unwrap()
            .with(domain("sunet.se"), &sunet.certificate)
            .unwrap();
        Domains { nordu, sunet, bundle }
    }

    impl Domains {
        fn credentials(&self, pem: &Pem) -> Credentials {
            let certificate = NodeCertificate::from_pem(&pem.certificate, &pem.key).unwrap();
            Credentials::new(certificate, self.bundle.clone()).unwrap()
        }

        fn node(&self, ca: &Pem, name: &str) -> Credentials {
            self.credentials(&issue(ca, &id(name), SystemTime::now(), NODE_LIFE).unwrap())
        }
    }

    /// A TLS client with a certificate that `NodeCertificate` would not load.
    fn client_with(domains: &Domains, pem: &Pem, expected: &SpiffeId) -> rustls::ClientConfig {
        use rustls_pki_types::pem::PemObject;
        let node = domains.node(&domains.nordu, "spiffe://nordu.net/relay/odd");
        let mut config = node.client_config(expected, alpn::GRPC).unwrap();
        let chain = crate::pem::certificates(&pem.certificate).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
        let key = rustls::sign::CertifiedKey::from_der(chain, key, &crate::crypto::provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
        config
    }

    /// Runs a handshake. Returns the server's id as the client sees it, and the client's id as the server
    /// sees it.
    fn handshake(
        client: rustls::ClientConfig,
        server: rustls::ServerConfig,
    ) -> Result<(SpiffeId, SpiffeId), rustls::Error> {
        let name = ServerName::try_from("relay.systir").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut read = wire.as_slice();
            while !read.is_empty() {
                server.read_tls(&mut read).unwrap();
            }
            server.process_new_packets()?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut read = wire.as_slice();
            while !read.is_empty() {
                client.read_tls(&mut read).unwrap();
            }
            client.process_new_packets()?;
        }
        Ok((
            LeafCertificate::of_chain(client.peer_certificates().unwrap()).unwrap().id,
            LeafCertificate::of_chain(server.peer_certificates().unwrap()).unwrap().id,
        ))
    }

    fn connect(client: &Credentials, server: &Credentials) -> Result<(SpiffeId, SpiffeId), rustls::Error> {
        handshake(
            client.client_config(server.id(), alpn::GRPC).unwrap(),
            server.server_config(alpn::GRPC).unwrap(),
        )
    }

    #[test]
    fn nodes_of_two_trust_domains_accept_each_other() {
        let domains = domains();
        let cph = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let sto = domains.node(&domains.sunet, "spiffe://sunet.se/relay/sto-1");
        assert_eq!(connect(&cph, &sto).unwrap(), (sto.id().clone(), cph.id().clone()));
        assert_eq!(connect(&sto, &cph).unwrap(), (cph.id().clone(), sto.id().clone()));
    }

    #[test]
    fn a_certificate_from_the_ca_of_another_trust_domain_is_refused_as_client_and_as_server() {
        let domains = domains();
        let node = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let minted = domains.node(&domains.sunet, "spiffe://nordu.net/relay/cph-2");
        assert!(connect(&minted, &node).is_err(), "as client");
        assert!(connect(&node, &minted).is_err(), "as server");
    }

    /// TLS cannot check such constraints of names: once it ignored them (RUSTSEC-2026-0098).
    #[test]
    fn a_ca_that_is_constrained_to_uri_names_is_refused_and_not_taken_as_unconstrained() {
        let name = b"nordu.net";
        let subtree = [&[0x86, name.len() as u8][..], name].concat();
        let subtrees = [&[0x30, subtree.len() as u8][..], &subtree].concat();
        let permitted = [&[0xa0, subtrees.len() as u8][..], &subtrees].concat();
        let constraints = [&[0x30, permitted.len() as u8][..], &permitted].concat();
        let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], constraints);
        extension.set_criticality(true);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.custom_extensions = vec![extension];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let constrained = Pem { certificate, key: key.serialize_pem() };
        let bundle = TrustBundle::new().with(domain("nordu.net"), &constrained.certificate);
        // Whether its root is refused, or each certificate of it.
        let Ok(bundle) = bundle else { return };
        let node = |name: &str| {
            let pem = issue(&constrained, &id(name), SystemTime::now(), NODE_LIFE).unwrap();
            let certificate = NodeCertificate::from_pem(&pem.certificate, &pem.key).unwrap();
            Credentials::new(certificate, bundle.clone()).unwrap()
        };
        let (one, other) = (node("spiffe://nordu.net/relay/cph-1"), node("spiffe://nordu.net/relay/sto-1"));
        assert!(connect(&one, &other).is_err());
    }

    #[test]
    fn a_trust_domain_without_roots_is_refused() {
        let domains = domains();
        let stranger_ca = create(&domain("example.org"), SystemTime::now()).unwrap();
        let stranger = domains.node(&stranger_ca, "spiffe://example.org/relay/x");
        let node = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        assert!(connect(&stranger, &node).is_err());
        assert!(connect(&node, &stranger).is_err());
    }

    #[test]
    fn a_client_refuses_another_node_than_the_expected_one() {
        let domains = domains();
        let cph = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let sto = domains.node(&domains.nordu, "spiffe://nordu.net/relay/sto-1");
        let expected = id("spiffe://nordu.net/relay/osl-1");
        let refused = handshake(
            cph.client_config(&expected, alpn::GRPC).unwrap(),
            sto.server_config(alpn::GRPC).unwrap(),
        );
        assert!(refused.is_err());
    }

    #[test]
    fn a_certificate_without_exactly_one_uri_name_is_refused() {
        let domains = domains();
        let server = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let dns = || SanType::DnsName("cph-1.nordu.net".try_into().unwrap());
        let one = || uri("spiffe://nordu.net/relay/a").unwrap();
        let two = || uri("spiffe://nordu.net/relay/b").unwrap();
        let foreign = || uri("https://nordu.net/relay/a").unwrap();
        let cases = [
            ("none", vec![]),
            ("two", vec![one(), two()]),
            ("the same twice", vec![one(), one()]),
            ("dns only", vec![dns()]),
            ("not spiffe", vec![foreign()]),
        ];
        for (what, names) in cases {
            let pem = issue_names(&domains.nordu, names, SystemTime::now(), NODE_LIFE).unwrap();
            assert!(NodeCertificate::from_pem(&pem.certificate, &pem.key).is_err(), "{what}: it was loaded");
            let client = client_with(&domains, &pem, server.id());
            let result = handshake(client, server.server_config(alpn::GRPC).unwrap());
            assert!(result.is_err(), "{what}: it was accepted");
        }
        let pem = issue_names(&domains.nordu, vec![one(), dns()], SystemTime::now(), NODE_LIFE).unwrap();
        let client = client_with(&domains, &pem, server.id());
        let (_, proven) = handshake(client, server.server_config(alpn::GRPC).unwrap()).unwrap();
        assert_eq!(proven, id("spiffe://nordu.net/relay/a"), "a DNS name besides the URI name is allowed");
    }

    #[test]
    fn a_certificate_with_another_key_usage_is_refused() {
        use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
        use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
        let domains = domains();
        let server = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let issue = |usages: &[KeyUsagePurpose], extended: &[ExtendedKeyUsagePurpose]| {
            let names = vec![uri("spiffe://nordu.net/relay/a").unwrap()];
            let mut params = leaf(names, SystemTime::now(), NODE_LIFE);
            params.key_usages = usages.to_vec();
            params.extended_key_usages = extended.to_vec();
            sign_leaf(&domains.nordu, params).unwrap()
        };
        let both = [ServerAuth, ClientAuth];
        let cases = [
            ("no key usage", issue(&[], &both)),
            ("does not sign", issue(&[KeyEncipherment], &both)),
            ("signs certificates", issue(&[DigitalSignature, KeyCertSign], &both)),
            ("signs revocation lists", issue(&[DigitalSignature, CrlSign], &both)),
            ("a client only", issue(&[DigitalSignature], &[ClientAuth])),
            ("a server only", issue(&[DigitalSignature], &[ServerAuth])),
            ("neither", issue(&[DigitalSignature], &[CodeSigning])),
        ];
        for (what, pem) in cases {
            assert!(NodeCertificate::from_pem(&pem.certificate, &pem.key).is_err(), "{what}: it was loaded");
            let client = client_with(&domains, &pem, server.id());
            let result = handshake(client, server.server_config(alpn::GRPC).unwrap());
            assert!(result.is_err(), "{what}: it was accepted");
        }
        for (usages, extended) in
            [(vec![DigitalSignature, KeyEncipherment], &both[..]), (vec![DigitalSignature], &[])]
        {
            let pem = issue(&usages, extended);
            assert!(NodeCertificate::from_pem(&pem.certificate, &pem.key).is_ok(), "{usages:?} {extended:?}");
        }
    }

    #[test]
    fn an_expired_certificate_is_refused_as_client_and_as_server() {
        let domains = domains();
        let node = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let past = SystemTime::now() - Duration::from_secs(48 * 3600);
        let old = issue(&domains.nordu, &id("spiffe://nordu.net/relay/old"), past, NODE_LIFE).unwrap();
        let old = domains.credentials(&old);
        assert!(connect(&old, &node).is_err());
        assert!(connect(&node, &old).is_err());
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        let domains = domains();
        let server = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let mut client = server.client_config(server.id(), alpn::GRPC).unwrap();
        client.client_auth_cert_resolver = Arc::new(NoCertificate);
        assert!(handshake(client, server.server_config(alpn::GRPC).unwrap()).is_err());
    }

    #[derive(Debug)]
    struct NoCertificate;

    impl rustls::client::ResolvesClientCert for NoCertificate {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_handshake_with_different_application_protocols_fails() {
        let domains = domains();
        let cph = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let sto = domains.node(&domains.nordu, "spiffe://nordu.net/relay/sto-1");
        let refused = handshake(
            cph.client_config(sto.id(), alpn::LINK).unwrap(),
            sto.server_config(alpn::GRPC).unwrap(),
        );
        assert!(refused.is_err());
    }

    #[test]
    fn the_next_handshake_uses_renewed_roots_and_certificates() {
        let domains = domains();
        let cph = domains.node(&domains.nordu, "spiffe://nordu.net/relay/cph-1");
        let sto = domains.node(&domains.sunet, "spiffe://sunet.se/relay/sto-1");
        let server = cph.server_config(alpn::GRPC).unwrap();
        let client = || sto.client_config(cph.id(), alpn::GRPC).unwrap();
        assert!(handshake(client(), server.clone()).is_ok());
        cph.trust(TrustBundle::new().with(domain("nordu.net"), &domains.nordu.certificate).unwrap());
        assert!(handshake(client(), server).is_err(), "sunet.se has no roots any more");
        let next = issue(&domains.nordu, cph.id(), SystemTime::now(), NODE_LIFE).unwrap();
        cph.renew(NodeCertificate::from_pem(&next.certificate, &next.key).unwrap()).unwrap();
        assert!(cph.not_after() > SystemTime::now() + NODE_LIFE - Duration::from_secs(60));
        let other = issue(&domains.nordu, &id("spiffe://nordu.net/relay/x"), SystemTime::now(), NODE_LIFE);
        let other = other.unwrap();
        let other = NodeCertificate::from_pem(&other.certificate, &other.key).unwrap();
        assert!(cph.renew(other).is_err(), "the certificate of another node was accepted");
    }
}
