//! Grants of rooms: a room goes on although nobody renews its grant.

use std::time::Duration;

use anyhow::Result;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::participants::{Participants, publishers, wait_until_observer_receives};
use systir_tests::ports::port_block;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn wait_for(cluster: &Cluster, node: &str, gauge: &str, wanted: u64) -> Result<()> {
    eventually(&format!("{gauge} of {node} is {wanted}"), TIMEOUT, || async {
        cluster.counter(node, gauge).await.ok().filter(|value| *value == wanted).map(drop)
    })
    .await
}

/// A participant that leaves at once sees this number of tracks.
async fn sees(cluster: &Cluster, gateway: &str, tracks: usize) -> Result<()> {
    wait_until_observer_receives(publishers(cluster, gateway, "observer", 1), tracks, TIMEOUT).await
}

#[test]
fn with_home_and_etcd_gone_past_a_grants_life_the_sister_goes_on_and_accepts_joins() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let mut etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 2), ("sto-1", 4)]).await?;
        cluster.set("policy", "grant_seconds", "10")?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        let home = Participants::join(publishers(&cluster, "cph-1", "home", 2)).await?;
        let spilled = Participants::join(publishers(&cluster, "sto-1", "spilled", 2)).await?;
        wait_for(&cluster, "sto-1", "systir_participants", 2).await?;
        sees(&cluster, "sto-1", 4).await?;
        // The home renews the grant while it lives.
        eventually("the grant is renewed", TIMEOUT, || async {
            (cluster.counter("cph-1", "systir_grants_signed_total").await.ok()? > 2).then_some(())
        })
        .await?;
        assert_eq!(cluster.counter("sto-1", "systir_grants_ended").await?, 0);

        etcd.kill();
        cluster.kill("cph-1");
        wait_for(&cluster, "sto-1", "systir_grants_ended", 1).await?;
        sees(&cluster, "sto-1", 2).await?;
        wait_for(&cluster, "sto-1", "systir_participants", 2).await?;

        etcd.restart().await?;
        cluster.start("cph-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_for(&cluster, "sto-1", "systir_grants_ended", 0).await?;
        sees(&cluster, "sto-1", 4).await?;
        let (spilled, home) = (spilled.leave().await?, home.leave().await?);
        assert!(spilled.ended.is_empty() && spilled.rejoined == 0, "nobody was interrupted: {spilled:?}");
        assert_eq!(home.rejoined, 2, "{home:?}");
        Ok(())
    })
}
