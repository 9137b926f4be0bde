//! Life and readiness of a node whose registry does not answer.

use std::time::Duration;

use anyhow::Result;
use systir_tests::cluster::token;
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};
use systir_tests::relay::Site;
use systir_tests::scenario;
use systir_tests::signal_client::Signal;

#[test]
fn with_a_wrong_etcd_address_a_node_starts_says_so_and_tries_again() -> Result<()> {
    scenario::play(async {
        let base = port_block()?;
        let site = Site::new(base)?;
        let etcd_url = format!("[\"http://127.0.0.1:{}\"]", base + 20);
        let node = site.start("cph-1", &[("SYSTIR_REGISTRY__ETCD", etcd_url.as_str())])?;
        let life =
            eventually("life", Duration::from_secs(45), || async { node.telemetry("/healthz").await.ok() });
        assert_eq!(life.await?.0, 200);
        // It waits for the registry's first answer, and not for ever.
        assert_eq!(node.telemetry("/readyz").await?.0, 503);
        node.ready().await?;
        let said = node.said();
        assert!(
            said.contains("etcd does not answer yet") && said.contains(&(base + 20).to_string()),
            "{said}"
        );
        let (_, metrics) = node.telemetry("/metrics").await?;
        assert!(metrics.contains("systir_registry_connected 0"), "{metrics}");
        let refused = Signal::join_plain(base + 10, &token("board", "anna")?).await.err();
        let words = refused.map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(words.contains("registry does not answer"), "{words}");

        let etcd = Etcd::start(base + 20).await?;
        eventually("the registry's answer", Duration::from_secs(30), || async {
            let (_, metrics) = node.telemetry("/metrics").await.ok()?;
            metrics.contains("systir_registry_connected 1").then_some(())
        })
        .await?;
        let mut anna = Signal::join_plain(base + 10, &token("board", "anna")?).await?;
        anna.is_alive().await?;
        assert_eq!(node.telemetry("/healthz").await?.0, 200);
        drop(etcd);
        anna.is_alive().await?;
        assert_eq!(node.telemetry("/readyz").await?.0, 200, "a node without its registry serves its rooms");
        node.stop()?;
        Ok(())
    })
}
