//! Health probes of a node whose registry does not answer.

use std::time::Duration;

use anyhow::Result;
use systir_tests::cluster::token;
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};
use systir_tests::relay::RelayConfigs;
use systir_tests::scenario;
use systir_tests::signal_client::SignalClient;

#[test]
fn without_etcd_a_node_starts_logs_that_and_tries_again() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let configs = RelayConfigs::new(base)?;
        let etcd_url = format!("[\"http://127.0.0.1:{}\"]", base + 20);
        let node = configs.start("cph-1", &[("SYSTIR_REGISTRY__ETCD", etcd_url.as_str())])?;
        let health =
            eventually("health", Duration::from_secs(45), || async { node.telemetry("/healthz").await.ok() });
        assert_eq!(health.await?.0, 200);
        // It waits for the registry's first answer, up to a limit.
        assert_eq!(node.telemetry("/readyz").await?.0, 503);
        node.wait_ready().await?;
        let log = node.log();
        assert!(log.contains("etcd does not answer yet") && log.contains(&(base + 20).to_string()), "{log}");
        let (_, metrics) = node.telemetry("/metrics").await?;
        assert!(metrics.contains("systir_registry_connected 0"), "{metrics}");
        let refused = SignalClient::join_plain(base + 10, &token("board", "anna")?).await.err();
        let reason = refused.map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(reason.contains("registry does not answer"), "{reason}");

        let etcd = Etcd::start(base + 20).await?;
        eventually("the registry's answer", Duration::from_secs(30), || async {
            let (_, metrics) = node.telemetry("/metrics").await.ok()?;
            metrics.contains("systir_registry_connected 1").then_some(())
        })
        .await?;
        let mut anna = SignalClient::join_plain(base + 10, &token("board", "anna")?).await?;
        anna.ping().await?;
        assert_eq!(node.telemetry("/healthz").await?.0, 200);
        drop(etcd);
        anna.ping().await?;
        assert_eq!(node.telemetry("/readyz").await?.0, 200, "a node without its registry serves its rooms");
        node.stop()?;
        Ok(())
    })
}
