//! The operator publishes a directory without the home of a running meeting: the room moves to another
//! approved home.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::participants::{Participants, wait_until_observer_receives};
use systir_tests::ports::port_block;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

use crate::node_failure::{assert_receives_video, assert_undisturbed, wait_for_gauge};

const LIMIT: Duration = Duration::from_secs(45);

/// The rules, with which each Nordic node may be home.
pub(crate) fn any_nordic_home(rules: &str) -> String {
    rules.replace("resource.country == Country::\"DK\"", "resource.country in Zone::\"Nordic\"")
}

/// A room whose home is this node: of several possible homes, each room has its own first one. `explain` asks a
/// gateway about a room.
pub(crate) async fn room_at_home(node: &str, explain: impl AsyncFn(&str) -> Result<Value>) -> Result<String> {
    for room in (0..64).map(|number| format!("senate-{number}")) {
        if explain(&format!("rooms/{room}/explain")).await?["candidates"][0]["node"] == node {
            return Ok(room);
        }
    }
    anyhow::bail!("no room has its home on {node}")
}

/// What the revoked node would have got.
async fn received_by(cluster: &Cluster, node: &str) -> Result<[u64; 3]> {
    let counter = async |name| cluster.counter(node, name).await;
    Ok([
        counter("systir_link_in_total").await?,
        counter("systir_datagrams_in_total").await?,
        counter("systir_signal_messages_total").await?,
    ])
}

#[test]
fn a_home_that_the_directory_no_longer_lists_is_replaced_and_gets_nothing_more() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 2), ("sto-1", 5)]).await?;
        cluster.publish_rules(1, any_nordic_home)?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        let room = room_at_home("cph-1", async |path| cluster.admin("sto-1", path).await).await?;
        // All use the gateway that stays.
        let load = |prefix: &str, count| Config {
            url: cluster.url("sto-1"),
            room: room.clone(),
            identity_prefix: prefix.to_owned(),
            participants: count,
            ..Config::default()
        };
        let complete = async || wait_until_observer_receives(load("observer", 1), 8, LIMIT).await;
        let at_home = Participants::join(load("home", 2)).await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 2).await?;
        let spilled = Participants::join(load("spilled", 2)).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 2).await?;
        complete().await?;
        let before = cluster.residency("sto-1", &room).await?;
        assert_eq!(before["grant"]["home"], "cph-1", "{before:#}");

        let directory = cluster.documents()?.directory(2, |directory| {
            directory.nodes.retain(|node| node.id != "cph-1");
        })?;
        cluster.publish("directory.note", &directory)?;
        for node in ["cph-1", "sto-1"] {
            // Not by its API: the home no longer holds keys that could sign the question.
            eventually(&format!("{node} uses the new directory"), LIMIT, || async {
                let used = "document=directory of nordunet version=2";
                cluster.log(node).ok()?.contains(used).then_some(())
            })
            .await?;
            wait_for_gauge(&cluster, node, "systir_links", 0).await?;
        }
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 0).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 4).await?;
        complete().await?;
        // What was on its way at the change has been counted by now.
        let received = received_by(&cluster, "cph-1").await?;
        let sent = cluster.counter("sto-1", "systir_link_out_total").await?;
        complete().await?;
        eventually("the room has another home", LIMIT, || async {
            let residency = cluster.residency("sto-1", &room).await.ok()?;
            let nodes = residency["nodes"].as_array()?;
            let alone = nodes.len() == 1 && nodes.first()?["node"] == "sto-1";
            (residency["grant"]["home"] == "sto-1" && alone).then_some(())
        })
        .await?;
        let after = cluster.residency("sto-1", &room).await?;
        let epoch = before["grant"]["epoch"].as_u64().context("no epoch")?;
        assert!(after["grant"]["epoch"].as_u64() > Some(epoch), "a successor's epoch: {after:#}");
        assert_eq!(received_by(&cluster, "cph-1").await?, received, "nothing goes to the revoked node");
        assert_eq!(cluster.counter("sto-1", "systir_link_out_total").await?, sent);
        let (status, why) = cluster.validate("cph-1", &room, "late").await?;
        assert_eq!(status, 403, "the revoked node admits nobody: {why}");

        let (moved, stayed) = (at_home.leave().await?, spilled.leave().await?);
        assert_undisturbed(&stayed);
        assert_eq!(moved.rejoined, 2, "{moved:?}");
        for report in [&moved, &stayed] {
            assert!(report.ended.is_empty(), "{report:?}");
            assert_eq!(report.nodes.get("sto-1"), Some(&2), "{report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
            assert_receives_video(report);
        }
        Ok(())
    })
}
