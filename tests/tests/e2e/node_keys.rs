//! The key of a node is replaced while it carries a meeting.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_documents::SigningKey;
use systir_tests::cluster::Cluster;
use systir_tests::participants::{Participants, publishers, wait_until_observer_receives};
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

use crate::policy_changes::wait_for_version;

const LIMIT: Duration = Duration::from_secs(45);
const NODES: [&str; 2] = ["cph-1", "sto-1"];

/// A participant who joins at this gateway receives that many tracks.
async fn receives(cluster: &Cluster, gateway: &str, tracks: usize) -> Result<()> {
    wait_until_observer_receives(publishers(cluster, gateway, "observer", 1), tracks, LIMIT).await
}

/// Publishes a directory that lists these keys of the home node, and waits until both nodes use it.
async fn publish_keys(cluster: &Cluster, version: u64, keys: &[SigningKey]) -> Result<()> {
    let note = cluster.documents()?.directory(version, |directory| {
        for node in directory.nodes.iter_mut().filter(|node| node.id == "cph-1") {
            node.keys = keys.iter().map(SigningKey::public).collect();
        }
    })?;
    cluster.publish("directory.note", &note)?;
    for node in NODES {
        wait_for_version(cluster, node, "directory", version).await?;
    }
    Ok(())
}

#[test]
fn the_key_of_the_home_is_replaced_and_nobody_is_interrupted() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 3), ("sto-1", 6)]).await?;
        // Some are relayed to the other node by the home, as their gateway, and some by the other node.
        let home = Participants::join(publishers(&cluster, "cph-1", "home", 4)).await?;
        let others = Participants::join(publishers(&cluster, "sto-1", "other", 1)).await?;
        receives(&cluster, "sto-1", 5).await?;

        let key = |seed: u8| SigningKey::from_seed("nordu.net/cph-1", [seed; 32]);
        let old: SigningKey = cluster.documents()?.node_key("cph-1").context("a key")?.to_text().parse()?;
        publish_keys(&cluster, 2, &[old, key(7)?]).await?;
        let renewed = |node: &'static str| cluster.counter(node, "systir_link_connections_renewed_total");
        let before = [renewed("cph-1").await?, renewed("sto-1").await?];
        let signed = cluster.counter("cph-1", "systir_grants_signed_total").await?;
        let tickets = cluster.counter("cph-1", "systir_tickets_signed_total").await?;
        let file = cluster.folder().join("cph-1.node-key");
        std::fs::write(file.with_extension("new"), format!("{}\n", *key(7)?.to_text()))?;
        std::fs::rename(file.with_extension("new"), &file)?;
        eventually("the home signs with the new key", LIMIT, || async {
            let replaced = cluster.log("cph-1").ok()?.contains("this node's key was replaced");
            let signed_anew = cluster.counter("cph-1", "systir_grants_signed_total").await.ok()? > signed;
            (replaced && signed_anew).then_some(())
        })
        .await?;
        // Each dialled one for calls, and one of them the link.
        eventually("both nodes have moved their connections", LIMIT, || async {
            let now = [renewed("cph-1").await.ok()?, renewed("sto-1").await.ok()?];
            let moved: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
            (moved.iter().all(|moved| *moved >= 1) && moved.iter().sum::<u64>() >= 3).then_some(())
        })
        .await?;
        // One for each of the participants whose gateway it is.
        eventually("tickets are signed anew", LIMIT, || async {
            (cluster.counter("cph-1", "systir_tickets_signed_total").await.ok()? >= tickets + 4).then_some(())
        })
        .await?;
        publish_keys(&cluster, 3, &[key(7)?]).await?;
        for gateway in NODES {
            receives(&cluster, gateway, 5).await?;
        }
        let residency = cluster.residency("sto-1", "senate").await?;
        assert_eq!((&residency["grant"]["home"], &residency["grant"]["epoch"]), (&"cph-1".into(), &1.into()));
        let (home, others) = (home.leave().await?, others.leave().await?);
        for report in [home, others] {
            assert!(report.ended.is_empty() && report.rejoined == 0, "nobody was interrupted: {report:?}");
        }
        Ok(())
    })
}
