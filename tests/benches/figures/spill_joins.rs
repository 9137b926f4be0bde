//! Joins to a spill node: how often etcd is written for them, and that none of them waits for it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_load::{Config, run};
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;

use crate::etcd_writes::Writes;
use crate::figure::Figure;
use crate::host::with_host;

/// The number of joins that spill over, with and without etcd.
const JOINS: usize = 20;

/// The home node of the cluster has one seat.
pub(crate) async fn measure(cluster: &Cluster, etcd: &mut Etcd) -> Result<Vec<Figure>> {
    let load = |prefix: &str, participants| Config {
        url: cluster.url("cph-1"),
        room: "full".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants,
        publishers: Some(1),
        audio: true,
        rate: 10.0,
        duration: Duration::from_millis(100),
        ..Config::default()
    };
    // One participant keeps the home full.
    let guests = async {
        let before = Writes::now(&etcd.url()).await?;
        let with = run(load("guest", JOINS)).await?;
        let after = Writes::now(&etcd.url()).await?;
        etcd.kill();
        let without = run(load("later", JOINS)).await?;
        anyhow::Ok((after.since(&before, "/rooms/"), with, without))
    };
    let (writes, with, without) = with_host(load("host", 1), guests).await?;
    for report in [&with, &without] {
        ensure!(report.joined == JOINS, "not all joined: {:?}", report.refused);
        let placed = report.nodes.get("sto-1").copied().context("nobody on the spill node")?;
        ensure!(placed == JOINS, "{placed} of {JOINS} joins spilled over");
    }
    Ok(vec![
        Figure::without_goal(
            "etcd writes per spill",
            writes as f64,
            "",
            format!("the room's record, for {JOINS} joins to one spill node: none of them waits for it"),
        ),
        Figure::without_goal(
            "join p50, spill, etcd answers",
            with.join_p50_ms,
            "ms",
            format!("{JOINS} joins of synthetic participants"),
        ),
        Figure::without_goal(
            "join p50, spill, etcd is gone",
            without.join_p50_ms,
            "ms",
            format!("{JOINS} joins of synthetic participants, right after etcd was killed"),
        ),
    ])
}
