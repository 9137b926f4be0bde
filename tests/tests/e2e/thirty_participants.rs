//! A lecture hall over two nodes: six speak and show themselves, twenty-four are silent and say so
//! only now and then. When all have left nothing is left of them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use systir_load::{Config, Report, run};
use systir_tests::cluster::Cluster;
use systir_tests::process::eventually;
use systir_tests::scenario::play_within;

const PEOPLE: usize = 30;
const ON_STAGE: usize = 6;
const NODES: [&str; 2] = ["cph-1", "sto-1"];

/// All that goes up when people come must come down when they leave.
const GAUGES: [&str; 7] = [
    "systir_seats_used",
    "systir_participants",
    "systir_rooms",
    "systir_links",
    "systir_worker_participants",
    "systir_worker_tracks",
    "systir_worker_downtracks",
];

fn hall(cluster: &Cluster, room: &str) -> Config {
    Config {
        url: cluster.url("cph-1"),
        room: room.to_owned(),
        participants: PEOPLE,
        speakers: Some(ON_STAGE),
        cameras: Some(ON_STAGE),
        bitrate: 200,
        fps: 15,
        duration: Duration::from_secs(6),
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

/// A whole lecture, until nothing is left of it.
async fn lecture(cluster: &Cluster, room: &str) -> Result<Report> {
    let running = tokio::spawn(run(hall(cluster, room)));
    for node in NODES {
        eventually(&format!("{node} is full of people"), Duration::from_secs(60), || async {
            let values = gauges(cluster, node).await.ok()?;
            values.iter().all(|(_, value)| *value > 0).then_some(())
        })
        .await
        .with_context(|| format!("each gauge of {node} goes up"))?;
    }
    let report = running.await??;
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

/// Memory that a process has in use, kB.
fn memory(cluster: &Cluster, node: &str) -> Result<u64> {
    let pid = cluster.pid(node)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[test]
fn thirty_people_receive_everything_and_leave_nothing() -> Result<()> {
    play_within(Duration::from_secs(240), async {
        let (_etcd, cluster) = Cluster::three(&[("cph-1", 15), ("sto-1", 15)]).await?;
        let mut before = None;
        for round in 1..=2 {
            let report = lecture(&cluster, &format!("lecture-{round}")).await?;
            println!(
                "round {round}: join p50 {:.0} p95 {:.0} max {:.0} ms; {} of {} tracks, {} pictures, freeze {:.0} ms, \
                 sound missed {:.2} %",
                report.join_p50_ms,
                report.join_p95_ms,
                report.join_max_ms,
                report.tracks_heard,
                report.tracks_expected,
                report.pictures,
                report.freeze_max_ms,
                report.sound_missed_percent,
            );
            assert_eq!(report.joined, PEOPLE, "{report:?}");
            for node in NODES {
                assert_eq!(report.nodes.get(node), Some(&(PEOPLE / 2)), "{report:?}");
            }
            // Everybody hears everybody else, and sees whoever is on stage.
            let sounds = PEOPLE * (PEOPLE - 1);
            let pictures = ON_STAGE * (PEOPLE - 1);
            assert_eq!(report.tracks_expected, sounds + pictures, "{report:?}");
            assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");
            assert_eq!(report.tracks_seen, pictures, "{report:?}");
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
