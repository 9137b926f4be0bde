//! Nodes that restart under their participants: a home that lost its disk, a spill node that is back at once.

use std::time::Duration;

use anyhow::Result;
use systir_tests::cluster::Cluster;
use systir_tests::participants::Participants;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

use crate::node_failure::{
    assert_back_at, assert_receives_video, assert_undisturbed, load, wait_for_gauge, wait_until_complete,
};
use crate::policy_changes::wait_for_version;

const LIMIT: Duration = Duration::from_secs(45);

/// Two participants, who fill the home node, and two on the sister, which has one more seat. The latter join
/// through this gateway.
async fn full_home(cluster: &Cluster, gateway_of_spilled: &str) -> Result<(Participants, Participants)> {
    let home = Participants::join(load(cluster, "cph-1", "home", 2)).await?;
    let spilled = Participants::join(load(cluster, gateway_of_spilled, "spilled", 2)).await?;
    wait_for_gauge(cluster, "sto-1", "systir_participants", 2).await?;
    wait_until_complete(cluster, "sto-1", 4).await?;
    Ok((home, spilled))
}

#[test]
fn a_home_that_restarts_without_its_disk_gets_documents_and_the_participants_meet_again() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 3)]).await?;
        // The folder of documents keeps version 1: only the neighbour can give the home version 2 again.
        let second = cluster.documents()?.bundle(2, |bundle| bundle.policy.push_str("\n// Version 2.\n"))?;
        let (status, answer) = cluster.publish_over_http("cph-1", &second).await?;
        assert_eq!(status, 200, "{answer}");
        wait_for_version(&cluster, "sto-1", "bundle", 2).await?;
        let (home, spilled) = full_home(&cluster, "sto-1").await?;

        cluster.kill("cph-1");
        std::fs::remove_dir_all(cluster.folder().join("cph-1.state"))?;
        wait_for_gauge(&cluster, "sto-1", "systir_links", 0).await?;
        cluster.start("cph-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_for_version(&cluster, "cph-1", "bundle", 2).await?;
        eventually("the home logs that it took version 2 from its neighbour", LIMIT, || async {
            let log = cluster.log("cph-1").ok()?;
            log.contains("took a document from another node").then_some(())
        })
        .await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 2).await?;
        wait_until_complete(&cluster, "sto-1", 4).await?;
        let grants =
            [cluster.residency("cph-1", "senate").await?, cluster.residency("sto-1", "senate").await?];
        for residency in &grants {
            assert_eq!(residency["grant"]["home"], "cph-1", "{residency:#}");
            assert_eq!(residency["policy"]["version"], 2, "{residency:#}");
        }
        assert_eq!(
            grants[0]["grant"]["epoch"], grants[1]["grant"]["epoch"],
            "both follow one grant: {grants:#?}"
        );

        let (spilled, home) = (spilled.leave().await?, home.leave().await?);
        assert_undisturbed(&spilled);
        assert_eq!(home.rejoined, 2, "{home:?}");
        assert_eq!(home.nodes.get("cph-1"), Some(&2), "{home:?}");
        for report in [&spilled, &home] {
            assert!(report.ended.is_empty(), "{report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
            assert_receives_video(report);
        }
        Ok(())
    })
}

#[test]
fn participants_of_a_spill_node_that_restarts_at_once_return_to_it() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 3)]).await?;
        // The home is full: they have no other seat.
        let (home, spilled) = full_home(&cluster, "cph-1").await?;
        cluster.kill("sto-1");
        cluster.start("sto-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 2).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        let (spilled, home) = (spilled.leave().await?, home.leave().await?);
        assert_back_at("sto-1", &spilled, 2);
        assert!(spilled.ended.is_empty(), "{spilled:?}");
        assert_receives_video(&spilled);
        assert_undisturbed(&home);
        assert_eq!(home.tracks_received, home.tracks_expected, "{home:?}");
        Ok(())
    })
}
