//! The latency that a link adds: participants on the publishers' node compared with participants behind
//! the link, in the same room at the same time.

use std::time::Duration;

use anyhow::{Result, ensure};
use systir_load::{Config, Progress, run, run_with};
use systir_tests::cluster::Cluster;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::figure::Figure;

/// Participants on the home node. They fill it, and all publish: those who only subscribe would be placed
/// elsewhere first.
pub(crate) const NEAR: usize = 4;
const FAR: usize = 4;

pub(crate) async fn measure(cluster: &Cluster, seconds: u64) -> Result<Vec<Figure>> {
    let load = |prefix: &str, participants, publishers| Config {
        url: cluster.url("cph-1"),
        room: "seminar".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants,
        publishers: Some(publishers),
        bitrate: 500,
        rate: 20.0,
        ..Config::default()
    };
    let stay = CancellationToken::new();
    let (sender, mut all_joined) = mpsc::unbounded_channel();
    let watcher = move |progress: Progress| {
        if matches!(progress, Progress::Measuring(_)) {
            // The receiver is dropped only after a failure.
            let _ = sender.send(());
        }
    };
    let near = Config { stay: true, ..load("near", NEAR, NEAR) };
    let near = run_with(near, stay.clone(), watcher);
    let far = async {
        all_joined.recv().await;
        let far = Config { duration: Duration::from_secs(seconds), ..load("far", FAR, 0) };
        let report = run(far).await;
        stay.cancel();
        report
    };
    let (near, far) = tokio::join!(near, far);
    let (near, far) = (near?, far?);
    let count =
        |report: &systir_load::Report, node: &str| report.nodes.get(node).copied().unwrap_or_default();
    ensure!(count(&near, "cph-1") == NEAR, "the home node does not carry the first {NEAR}: {near:?}");
    ensure!(count(&far, "sto-1") == FAR, "the sister does not carry the others: {far:?}");
    let how = |near: f64, far: f64| {
        format!(
            "{near:.2} ms for {NEAR} participants on the publishers' node, {far:.2} ms for {FAR} behind the link"
        )
    };
    Ok(vec![
        Figure::new(
            "link adds to latency, p50",
            far.latency_p50_ms - near.latency_p50_ms,
            "ms",
            1.0,
            how(near.latency_p50_ms, far.latency_p50_ms),
        ),
        Figure::new(
            "link adds to latency, p99",
            far.latency_p99_ms - near.latency_p99_ms,
            "ms",
            5.0,
            how(near.latency_p99_ms, far.latency_p99_ms),
        ),
    ])
}
