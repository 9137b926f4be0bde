//! A lecture with thirty participants over two nodes: six publish speech and video, twenty-four publish
//! silence, with a packet now and then. Each receives everything: a full machine delays video for some seconds. When all have
//! left, all gauges are back at zero.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use systir_load::{Config, Progress, Report, run_with};
use systir_tests::cluster::Cluster;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario_within;
use tokio_util::sync::CancellationToken;

const PARTICIPANTS: usize = 30;
const SPEAKERS: usize = 6;
/// Each receives audio of all others and video of the speakers.
const VIDEO_TRACKS: usize = SPEAKERS * (PARTICIPANTS - 1);
const TRACKS: usize = PARTICIPANTS * (PARTICIPANTS - 1) + VIDEO_TRACKS;
const NODES: [&str; 2] = ["cph-1", "sto-1"];

/// Gauges that rise when participants join and must be zero after they have left.
const GAUGES: [&str; 7] = [
    "systir_seats_used",
    "systir_participants",
    "systir_rooms",
    "systir_links",
    "systir_worker_participants",
    "systir_worker_tracks",
    "systir_worker_downtracks",
];

fn load(cluster: &Cluster, room: &str) -> Config {
    Config {
        url: cluster.url("cph-1"),
        room: room.to_owned(),
        participants: PARTICIPANTS,
        speakers: Some(SPEAKERS),
        cameras: Some(SPEAKERS),
        bitrate: 200,
        fps: 15,
        duration: Duration::from_secs(60),
        ..Config::default()
    }
}

async fn gauges(cluster: &Cluster, node: &str) -> Result<Vec<(&'static str, u64)>> {
    let mut values = Vec::new();
    for gauge in GAUGES {
        values.push((gauge, cluster.counter(node, gauge).await?));
    }
    Ok(values)
}

/// Runs a lecture until everybody receives everything, and waits until all gauges are zero again.
async fn lecture(cluster: &Cluster, room: &str) -> Result<Report> {
    let (complete, end) = (CancellationToken::new(), CancellationToken::new());
    let on_progress = {
        let complete = complete.clone();
        move |progress| {
            if let Progress::Measured { tracks, .. } = progress
                && (tracks.received, tracks.video_received) == (TRACKS, VIDEO_TRACKS)
            {
                complete.cancel();
            }
        }
    };
    let mut running = tokio::spawn(run_with(load(cluster, room), end.clone(), on_progress));
    for node in NODES {
        eventually(&format!("all gauges of {node} are above zero"), Duration::from_secs(60), || async {
            let values = gauges(cluster, node).await.ok()?;
            values.iter().all(|(_, value)| *value > 0).then_some(())
        })
        .await
        .with_context(|| format!("each gauge of {node} rises"))?;
    }
    let report = tokio::select! {
        report = &mut running => report??,
        () = complete.cancelled() => {
            end.cancel();
            running.await??
        }
    };
    for node in NODES {
        let what = format!("{node} is empty");
        let empty = eventually(&what, Duration::from_secs(60), || async {
            let values = gauges(cluster, node).await.ok()?;
            values.iter().all(|(_, value)| *value == 0).then_some(())
        });
        if let Err(error) = empty.await {
            bail!("{error}: {:?}", gauges(cluster, node).await?);
        }
    }
    Ok(report)
}

/// Resident memory of a node's process, kB.
fn memory(cluster: &Cluster, node: &str) -> Result<u64> {
    let pid = cluster.pid(node)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[test]
fn thirty_participants_receive_everything_and_leave_nothing_behind() -> Result<()> {
    run_scenario_within(Duration::from_secs(240), async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 15), ("sto-1", 15)]).await?;
        let mut before = None;
        for round in 1..=2 {
            let report = lecture(&cluster, &format!("lecture-{round}")).await?;
            println!(
                "round {round}: join p50 {:.0} p95 {:.0} max {:.0} ms; {} of {} tracks, \
                 {} video frames, freeze {:.0} ms, audio missed {:.2} %",
                report.join_p50_ms,
                report.join_p95_ms,
                report.join_max_ms,
                report.tracks_received,
                report.tracks_expected,
                report.video_frames,
                report.freeze_max_ms,
                report.audio_missed_percent,
            );
            assert_eq!(report.joined, PARTICIPANTS, "{report:?}");
            for node in NODES {
                assert_eq!(report.nodes.get(node), Some(&(PARTICIPANTS / 2)), "{report:?}");
            }
            assert_eq!((report.tracks_received, report.tracks_expected), (TRACKS, TRACKS), "{report:?}");
            assert_eq!(report.video_tracks_received, VIDEO_TRACKS, "{report:?}");
            let now = NODES.map(|node| memory(&cluster, node));
            let [home, sister] = now;
            let (home, sister) = (home?, sister?);
            println!("round {round}: {home} kB at home, {sister} kB at the sister");
            if let Some((home_before, sister_before)) = before {
                for (node, now, before) in [("cph-1", home, home_before), ("sto-1", sister, sister_before)] {
                    assert!(
                        now * 10 <= before * 11,
                        "{node} grew from {before} to {now} kB in round {round}"
                    );
                }
            }
            before = Some((home, sister));
        }
        for counter in ["systir_datagrams_in_total", "systir_participants", "systir_links", "systir_rooms"] {
            assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
        }
        Ok(())
    })
}
