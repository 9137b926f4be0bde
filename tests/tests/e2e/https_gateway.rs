//! A gateway with TLS: a renewed certificate is served to new connections, and open sessions continue.
//! Also the limit of a signalling message.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use systir_tests::cluster::token;
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};
use systir_tests::relay::RelayConfigs;
use systir_tests::scenario;
use systir_tests::signal_client::{SignalClient, connect_tls};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn create_ca() -> Result<Ca> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Issues a certificate for this host and writes it; returns it in DER.
fn issue(ca: &Ca, folder: &Path) -> Result<Vec<u8>> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, ca)?;
    std::fs::write(folder.join("gateway.pem"), certificate.pem())?;
    std::fs::write(folder.join("gateway.key"), key.serialize_pem())?;
    Ok(certificate.der().to_vec())
}

#[test]
fn a_renewed_certificate_is_served_and_ends_no_session() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let configs = RelayConfigs::new(base)?;
        let ca = create_ca()?;
        let root: CertificateDer<'static> = ca.der().clone();
        let first = issue(&ca, configs.path())?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let node = configs.start(
            "cph-1",
            &[
                ("SYSTIR_REGISTRY__ETCD", etcd_url.as_str()),
                ("SYSTIR_HTTP__CERTIFICATE", "gateway.pem"),
                ("SYSTIR_HTTP__KEY", "gateway.key"),
            ],
        )?;
        node.wait_ready().await?;

        let (stream, served) = connect_tls(base + 10, &root).await?;
        assert_eq!(served, first);
        let mut anna =
            SignalClient::join(stream, &format!("localhost:{}", base + 10), &token("board", "anna")?).await?;
        anna.ping().await?;

        // An incomplete renewal: the key does not fit the certificate, so the old pair stays.
        std::fs::write(configs.path().join("gateway.key"), KeyPair::generate()?.serialize_pem())?;
        eventually("the incomplete renewal is logged", Duration::from_secs(45), || async {
            node.log().contains("the old one stays").then_some(())
        })
        .await?;
        assert_eq!(connect_tls(base + 10, &root).await?.1, first);

        let second = issue(&ca, configs.path())?;
        assert_ne!(first, second);
        eventually("the new certificate is served", Duration::from_secs(45), || async {
            let (_, served) = connect_tls(base + 10, &root).await.ok()?;
            (served == second).then_some(())
        })
        .await?;
        anna.ping().await?;
        let (stream, _) = connect_tls(base + 10, &root).await?;
        let mut bo =
            SignalClient::join(stream, &format!("localhost:{}", base + 10), &token("board", "bo")?).await?;
        bo.ping().await?;
        anna.ping().await?;

        // This port does not accept plain HTTP.
        assert!(SignalClient::join_plain(base + 10, &token("board", "chen")?).await.is_err());
        node.stop()?;
        Ok(())
    })
}

#[test]
fn a_message_that_is_too_long_ends_its_connection_with_the_reason() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let configs = RelayConfigs::new(base)?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let node = configs.start("cph-1", &[("SYSTIR_REGISTRY__ETCD", etcd_url.as_str())])?;
        node.wait_ready().await?;
        let anna = SignalClient::join_plain(base + 10, &token("board", "anna")?).await?;
        let (code, reason) = anna.send_until_closed(vec![0; (2 << 20) + 1]).await?;
        assert_eq!(code, 1009, "{reason}");
        assert!(reason.contains("2 MiB"), "{reason}");
        let mut bo = SignalClient::join_plain(base + 10, &token("board", "bo")?).await?;
        bo.ping().await?;
        Ok(())
    })
}
