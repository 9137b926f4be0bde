//! A node is killed, hangs, stops or comes back: a room goes on where another approved node carries it,
//! and the participants of the failed node rejoin by themselves.

use std::time::Duration;

use anyhow::Result;
use systir_load::{Config, Report};
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::NativeClient;
use systir_tests::participants::{Participants, wait_until_observer_receives};
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;

/// Seats of each node, unless a test says otherwise.
pub(crate) const SEATS: u32 = 8;
const TIMEOUT: Duration = Duration::from_secs(45);

/// Participants of the room `senate` who publish audio and video.
pub(crate) fn load(cluster: &Cluster, gateway: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(gateway),
        room: "senate".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        bitrate: 300,
        fps: 15,
        ..Config::default()
    }
}

/// Participants that fill seats and publish silence. Those without publish permission would be placed on
/// the sister first.
fn seat_fillers(cluster: &Cluster, count: usize) -> Config {
    Config { audio: true, speakers: Some(0), ..load(cluster, "cph-1", "filler", count) }
}

/// Waits until a metric of a node has this value.
pub(crate) async fn wait_for_gauge(cluster: &Cluster, node: &str, gauge: &str, wanted: u64) -> Result<()> {
    eventually(&format!("{gauge} of {node} is {wanted}"), TIMEOUT, || async {
        cluster.counter(node, gauge).await.ok().filter(|value| *value == wanted).map(drop)
    })
    .await
}

/// Two participants on the home node and two on the sister, all through the home node's gateway. The
/// home node then has free seats again.
pub(crate) async fn two_and_two(cluster: &Cluster) -> Result<(Participants, Participants)> {
    let home = Participants::join(load(cluster, "cph-1", "home", 2)).await?;
    let fillers = Participants::join(seat_fillers(cluster, SEATS as usize - 2)).await?;
    let spilled = Participants::join(load(cluster, "cph-1", "spilled", 2)).await?;
    wait_for_gauge(cluster, "sto-1", "systir_participants", 2).await?;
    fillers.leave().await?;
    wait_for_gauge(cluster, "cph-1", "systir_participants", 2).await?;
    Ok((home, spilled))
}

/// Waits until the room has this number of participants with one audio and one video track each, as
/// seen by an additional participant.
pub(crate) async fn wait_until_complete(cluster: &Cluster, gateway: &str, count: usize) -> Result<()> {
    wait_until_observer_receives(load(cluster, gateway, "observer", 1), 2 * count, TIMEOUT).await
}

pub(crate) fn assert_undisturbed(report: &Report) {
    assert_eq!(report.rejoined, 0, "no session was interrupted: {report:?}");
    assert!(report.interruptions.is_empty() && report.ended.is_empty(), "{report:?}");
    assert_eq!(report.tracks_frozen, 0, "their video did not freeze: {report:?}");
}

/// Each participant receives video of all others in its present session. All of them publish both kinds of tracks.
pub(crate) fn assert_receives_video(report: &Report) {
    let video = report.tracks_expected / 2;
    assert!(video > 0 && report.video_tracks_received >= video, "all videos arrive: {report:?}");
}

pub(crate) fn assert_back_at(node: &str, report: &Report, count: usize) {
    eprintln!(
        "interrupted p50 {:.0} p95 {:.0} ms: {:?}",
        report.rejoin_p50_ms, report.rejoin_p95_ms, report.interruptions
    );
    assert_eq!(report.rejoined, count, "each rejoined once: {report:?}");
    assert_eq!(report.nodes.get(node), Some(&count), "{report:?}");
    let by_leave = |reason: &str| reason.contains("the server said leave");
    assert!(
        report.interruptions.iter().all(|group| by_leave(&group.reason)),
        "the gateway sent each a leave message: {report:?}"
    );
    assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
}

#[test]
fn clients_of_a_killed_sister_rejoin_by_themselves() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let gateway = cluster.url("cph-1");
        let (mut browser, anna) = tokio::task::spawn_blocking(move || -> Result<_> {
            let mut browser = Browser::start()?;
            browser.join(&gateway, "senate", "anna")?;
            let anna = browser.eval("anna", "systirRoom().localParticipant.identity")?;
            Ok((browser, anna.as_str().unwrap_or_default().to_owned()))
        })
        .await??;
        let fillers = Participants::join(seat_fillers(&cluster, SEATS as usize - 1)).await?;
        let spilled = Participants::join(load(&cluster, "cph-1", "spilled", 1)).await?;
        let gateway = cluster.url("cph-1");
        let native_url = gateway.replace("http", "ws");
        let bob = token("senate", "bob")?;
        let (browser, native, anna) = tokio::task::spawn_blocking(move || -> Result<_> {
            browser.join(&gateway, "senate", "chen")?;
            let options = ["--publish", "--until-video", "2", "--until-audio", "2", "--hold"];
            let mut native = NativeClient::join(&native_url, &bob, &options)?;
            native.wait_for("done")?;
            browser.wait_for_media("chen", 2)?;
            browser.wait_for_media("anna", 2)?;
            Ok((browser, native, anna))
        })
        .await??;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 3).await?;
        fillers.leave().await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 1).await?;

        cluster.kill("sto-1");
        let clients = tokio::task::spawn_blocking(move || -> Result<_> {
            let (mut browser, mut native) = (browser, native);
            let back = "systirRoom()?.state === 'connected' \
                        && systirRoom().localParticipant.attributes['systir.node'] === 'cph-1'";
            browser.wait("chen", back, 45)?;
            native.wait_for_media(&[&anna], 20)?;
            // The video of the third, of systir-load, cannot be decoded.
            browser.wait_for_media("chen", 2)?;
            browser.wait_for_media("anna", 2)?;
            Ok((browser, native))
        })
        .await??;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        assert_back_at("cph-1", &spilled.leave().await?, 1);
        drop(clients);
        Ok(())
    })
}

#[test]
fn clients_of_a_hanging_sister_rejoin_and_it_recovers_without_stale_participants() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, spilled) = two_and_two(&cluster).await?;
        cluster.signal("sto-1", "STOP")?;
        wait_for_gauge(&cluster, "cph-1", "systir_links", 0).await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 4).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        cluster.signal("sto-1", "CONT")?;
        // It removes its participants, who have joined elsewhere.
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 0).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        assert_back_at("cph-1", &spilled.leave().await?, 2);
        assert_undisturbed(&home.leave().await?);
        Ok(())
    })
}

#[test]
fn a_sister_that_shuts_down_notifies_its_participants() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, spilled) = two_and_two(&cluster).await?;
        cluster.signal("sto-1", "TERM")?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 4).await?;
        assert!(cluster.wait_for_exit("sto-1")?, "it ended with status 0");
        wait_until_complete(&cluster, "cph-1", 4).await?;
        assert_back_at("cph-1", &spilled.leave().await?, 2);
        assert_undisturbed(&home.leave().await?);
        Ok(())
    })
}

#[test]
fn with_the_home_node_killed_the_sister_goes_on_and_the_home_node_recovers() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 3)]).await?;
        let home = Participants::join(load(&cluster, "cph-1", "home", 2)).await?;
        let spilled = Participants::join(load(&cluster, "sto-1", "spilled", 2)).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 2).await?;
        wait_until_complete(&cluster, "sto-1", 4).await?;
        cluster.kill("cph-1");
        wait_for_gauge(&cluster, "sto-1", "systir_links", 0).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.start("cph-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 2).await?;
        wait_until_complete(&cluster, "sto-1", 4).await?;
        let (spilled, home) = (spilled.leave().await?, home.leave().await?);
        assert_undisturbed(&spilled);
        assert_eq!(home.rejoined, 2, "{home:?}");
        assert_eq!(home.nodes.get("cph-1"), Some(&2), "{home:?}");
        Ok(())
    })
}

#[test]
fn with_etcd_offline_too_clients_of_a_killed_sister_rejoin() -> Result<()> {
    run_scenario(async {
        let (mut etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, spilled) = two_and_two(&cluster).await?;
        etcd.kill();
        cluster.kill("sto-1");
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 4).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        etcd.restart().await?;
        cluster.start("sto-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        assert_back_at("cph-1", &spilled.leave().await?, 2);
        assert_undisturbed(&home.leave().await?);
        Ok(())
    })
}
