//! The cost of participants on one node: time to join, processor time, memory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_load::{Config, run_with};
use systir_tests::cluster::Cluster;
use tokio_util::sync::CancellationToken;

use crate::figure::Figure;
use crate::phases::phases;
use crate::proc::{processor_time, resident_mib};

const NODE: &str = "cph-1";

/// A snapshot of the relay's usage and counters.
struct Snapshot {
    processor: Duration,
    forwarded: u64,
    sends: u64,
    resident_mib: f64,
}

impl Snapshot {
    async fn now(cluster: &Cluster, pid: u32) -> Result<Self> {
        Ok(Self {
            processor: processor_time(pid)?,
            forwarded: cluster.counter(NODE, "systir_media_out_total").await?,
            sends: cluster.counter(NODE, "systir_sends_total").await?,
            resident_mib: resident_mib(pid)?,
        })
    }
}

pub(crate) async fn measure(cluster: &Cluster, participants: usize, seconds: u64) -> Result<Vec<Figure>> {
    let pid = cluster.pid(NODE)?;
    let idle = resident_mib(pid)?;
    let publishers = participants.div_ceil(5);
    let config = Config {
        url: cluster.url(NODE),
        room: "lecture".to_owned(),
        participants,
        publishers: Some(publishers),
        rate: 15.0,
        duration: Duration::from_secs(seconds),
        ..Config::default()
    };
    let (watcher, mut phases) = phases();
    let snapshots = async {
        let mut snapshots = Vec::new();
        while let Some(last) = phases.recv().await {
            snapshots.push(Snapshot::now(cluster, pid).await?);
            if last {
                break;
            }
        }
        anyhow::Ok(snapshots)
    };
    let (report, snapshots) = tokio::join!(run_with(config, CancellationToken::new(), watcher), snapshots);
    let (report, snapshots) = (report?, snapshots?);
    ensure!(report.joined == participants, "not all joined: {:?}", report.refused);
    let [begin, end] = snapshots.as_slice() else {
        anyhow::bail!("not one start and one end of the measurement");
    };
    let forwarded = end.forwarded - begin.forwarded;
    ensure!(forwarded > 0, "nothing was forwarded");
    let used = end.processor.checked_sub(begin.processor).context("processor time decreased")?;
    let who = format!("{participants} participants, {publishers} publish audio and video, on one node");
    let mib = (end.resident_mib - idle) / participants as f64;
    let per_send = forwarded as f64 / (end.sends - begin.sends).max(1) as f64;
    let rate = forwarded as f64 / report.measured_s;
    Ok(vec![
        Figure::new("join p50", report.join_p50_ms, "ms", 300.0, "request to connected media".to_owned()),
        Figure::new("join p95", report.join_p95_ms, "ms", 300.0, who.clone()),
        Figure::new(
            "processor per forwarded packet",
            used.as_secs_f64() * 1e6 / forwarded as f64,
            "µs",
            8.0,
            format!(
                "whole relay process; {rate:.0} packets/s, {per_send:.1} per system call, {:.3} % lost",
                report.loss_percent
            ),
        ),
        Figure::new(
            "memory per participant",
            mib,
            "MB",
            0.5,
            format!("{idle:.1} MB before the first, {:.1} MB with all", end.resident_mib),
        ),
        Figure::without_goal("latency p50", report.latency_p50_ms, "ms", who.clone()),
        Figure::without_goal("latency p99", report.latency_p99_ms, "ms", who),
    ])
}
