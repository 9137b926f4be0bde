//! The front door with TLS: who joins over wss stays when the certificate is renewed, who comes
//! later meets the new one.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use systir_tests::cluster::token;
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};
use systir_tests::relay::Site;
use systir_tests::scenario;
use systir_tests::signal_client::{Signal, tls};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Issues a certificate for this machine and writes it; the answer is what will be served.
fn issue(authority: &Authority, folder: &Path) -> Result<Vec<u8>> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, authority)?;
    std::fs::write(folder.join("door.pem"), certificate.pem())?;
    std::fs::write(folder.join("door.key"), key.serialize_pem())?;
    Ok(certificate.der().to_vec())
}

#[test]
fn a_renewed_certificate_is_served_and_drops_nobody() -> Result<()> {
    scenario::play(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let site = Site::new(base)?;
        let authority = authority()?;
        let ca: CertificateDer<'static> = authority.der().clone();
        let first = issue(&authority, site.path())?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let node = site.start(
            "cph-1",
            &[
                ("SYSTIR_REGISTRY__ETCD", etcd_url.as_str()),
                ("SYSTIR_HTTP__CERTIFICATE", "door.pem"),
                ("SYSTIR_HTTP__KEY", "door.key"),
            ],
        )?;
        node.ready().await?;

        let (wire, served) = tls(base + 10, &ca).await?;
        assert_eq!(served, first);
        let mut anna =
            Signal::join(wire, &format!("localhost:{}", base + 10), &token("board", "anna")?).await?;
        anna.is_alive().await?;

        // Half a renewal: the key is not the certificate's, and the old pair goes on.
        std::fs::write(site.path().join("door.key"), KeyPair::generate()?.serialize_pem())?;
        eventually("the half renewal is noticed", Duration::from_secs(45), || async {
            node.said().contains("the old one stays").then_some(())
        })
        .await?;
        assert_eq!(tls(base + 10, &ca).await?.1, first);

        let second = issue(&authority, site.path())?;
        assert_ne!(first, second);
        eventually("the new certificate is served", Duration::from_secs(45), || async {
            let (_, served) = tls(base + 10, &ca).await.ok()?;
            (served == second).then_some(())
        })
        .await?;
        anna.is_alive().await?;
        let (wire, _) = tls(base + 10, &ca).await?;
        let mut bo = Signal::join(wire, &format!("localhost:{}", base + 10), &token("board", "bo")?).await?;
        bo.is_alive().await?;
        anna.is_alive().await?;

        // Plain HTTP is not spoken on this port.
        assert!(Signal::join_plain(base + 10, &token("board", "chen")?).await.is_err());
        node.stop()?;
        Ok(())
    })
}

#[test]
fn a_message_that_is_too_long_is_told_so() -> Result<()> {
    scenario::play(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let site = Site::new(base)?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let node = site.start("cph-1", &[("SYSTIR_REGISTRY__ETCD", etcd_url.as_str())])?;
        node.ready().await?;
        let anna = Signal::join_plain(base + 10, &token("board", "anna")?).await?;
        let (code, words) = anna.is_closed_by(vec![0; (2 << 20) + 1]).await?;
        assert_eq!(code, 1009, "{words}");
        assert!(words.contains("2 MiB"), "{words}");
        let mut bo = Signal::join_plain(base + 10, &token("board", "bo")?).await?;
        bo.is_alive().await?;
        Ok(())
    })
}
