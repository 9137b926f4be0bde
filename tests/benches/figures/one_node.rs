//! What people cost the node that carries them: time to join, processor time, memory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_load::{Config, Progress, run_with};
use systir_tests::cluster::Cluster;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::figure::Figure;
use crate::proc::{processor_time, resident_mib};

const NODE: &str = "cph-1";

/// What the relay had used and done at one moment.
struct Moment {
    processor: Duration,
    forwarded: u64,
    sends: u64,
    resident_mib: f64,
}

impl Moment {
    async fn now(cluster: &Cluster, pid: u32) -> Result<Self> {
        Ok(Self {
            processor: processor_time(pid)?,
            forwarded: cluster.counter(NODE, "systir_media_out_total").await?,
            sends: cluster.counter(NODE, "systir_sends_total").await?,
            resident_mib: resident_mib(pid)?,
        })
    }
}

pub(crate) async fn measure(cluster: &Cluster, people: usize, seconds: u64) -> Result<Vec<Figure>> {
    let pid = cluster.pid(NODE)?;
    let idle = resident_mib(pid)?;
    let publishers = people.div_ceil(5);
    let config = Config {
        url: cluster.url(NODE),
        room: "lecture".to_owned(),
        participants: people,
        publishers: Some(publishers),
        rate: 15.0,
        duration: Duration::from_secs(seconds),
        ..Config::default()
    };
    let (told, mut phases) = mpsc::unbounded_channel();
    let watcher = move |progress: Progress| {
        // The receiver only goes when the measuring failed.
        let _ = match progress {
            Progress::Measuring(_) => told.send(false),
            Progress::Leaving => told.send(true),
            _ => Ok(()),
        };
    };
    let moments = async {
        let mut moments = Vec::new();
        while let Some(last) = phases.recv().await {
            moments.push(Moment::now(cluster, pid).await?);
            if last {
                break;
            }
        }
        anyhow::Ok(moments)
    };
    let (report, moments) = tokio::join!(run_with(config, CancellationToken::new(), watcher), moments);
    let (report, moments) = (report?, moments?);
    ensure!(report.joined == people, "not all joined: {:?}", report.refused);
    let [begin, end] = moments.as_slice() else {
        anyhow::bail!("measuring did not begin and end");
    };
    let forwarded = end.forwarded - begin.forwarded;
    ensure!(forwarded > 0, "nothing was forwarded");
    let used = end.processor.checked_sub(begin.processor).context("processor time went back")?;
    let who = format!("{people} people, {publishers} publishing sound and pictures, on one node");
    let mib = (end.resident_mib - idle) / people as f64;
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
                "whole relay process; {rate:.0} packets/s, {per_send:.1} in a system call, {:.3} % lost",
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
        Figure::beside("latency p50", report.latency_p50_ms, "ms", who.clone()),
        Figure::beside("latency p99", report.latency_p99_ms, "ms", who),
    ])
}
