//! A node dies, hangs, stops or comes back: a room goes on where another approved node carries it,
//! and its people come back by themselves.

use std::time::Duration;

use anyhow::Result;
use systir_load::{Config, Report};
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::participants::Crowd;
use systir_tests::process::eventually;
use systir_tests::scenario::play;

/// Seats of each node, unless a test says otherwise.
const SEATS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(45);

fn people(cluster: &Cluster, door: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(door),
        room: "senate".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        bitrate: 300,
        fps: 15,
        ..Config::default()
    }
}

/// People who take seats and say nothing. Who cannot publish at all would be sent to the sister first.
fn sitting(cluster: &Cluster, count: usize) -> Config {
    Config { audio: true, speakers: Some(0), ..people(cluster, "cph-1", "sitting", count) }
}

async fn until(cluster: &Cluster, node: &str, gauge: &str, wanted: u64) -> Result<()> {
    eventually(&format!("{gauge} of {node} is {wanted}"), PATIENCE, || async {
        cluster.counter(node, gauge).await.ok().filter(|value| *value == wanted).map(drop)
    })
    .await
}

/// Two people at home, two at the sister; their front door is the home's. Then the home has seats again.
async fn senate(cluster: &Cluster) -> Result<(Crowd, Crowd)> {
    let home = Crowd::come(people(cluster, "cph-1", "home", 2)).await?;
    let sitting = Crowd::come(sitting(cluster, SEATS as usize - 2)).await?;
    let away = Crowd::come(people(cluster, "cph-1", "away", 2)).await?;
    until(cluster, "sto-1", "systir_participants", 2).await?;
    sitting.go().await?;
    until(cluster, "cph-1", "systir_participants", 2).await?;
    Ok((home, away))
}

/// Nobody but these people is in the room, each once, with a sound and a picture; everybody has all
/// of them. Asked by somebody who looks in.
async fn together(cluster: &Cluster, door: &str, count: usize) -> Result<()> {
    eventually(&format!("{count} people are together"), PATIENCE, || async {
        let look = Config {
            publishers: Some(0),
            duration: Duration::from_secs(1),
            no_rejoin: true,
            ..people(cluster, door, "looker", 1)
        };
        let seen = systir_load::run(look).await.ok()?;
        (seen.tracks_expected == 2 * count && seen.tracks_heard == 2 * count).then_some(())
    })
    .await
}

fn unmoved(report: &Report) {
    assert_eq!(report.rejoined, 0, "nothing happened to them: {report:?}");
    assert!(report.interruptions.is_empty() && report.ended.is_empty(), "{report:?}");
    assert_eq!(report.tracks_frozen, 0, "the pictures of those who stayed went on: {report:?}");
}

fn back_at(node: &str, report: &Report, count: usize) {
    eprintln!(
        "away p50 {:.0} p95 {:.0} ms: {:?}",
        report.away_p50_ms, report.away_p95_ms, report.interruptions
    );
    assert_eq!(report.rejoined, count, "each came back once: {report:?}");
    assert_eq!(report.nodes.get(node), Some(&count), "{report:?}");
    let told = |reason: &str| reason.contains("the server said leave");
    assert!(
        report.interruptions.iter().all(|group| told(&group.reason)),
        "the front door told them: {report:?}"
    );
    assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");
}

#[test]
fn clients_of_a_killed_sister_come_back_by_themselves() -> Result<()> {
    play(async {
        let (_etcd, mut cluster) = Cluster::three(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let door = cluster.url("cph-1");
        let (mut browser, anna) = tokio::task::spawn_blocking(move || -> Result<_> {
            let mut browser = Browser::start()?;
            browser.join(&door, "senate", "anna")?;
            let anna = browser.eval("anna", "systirRoom().localParticipant.identity")?;
            Ok((browser, anna.as_str().unwrap_or_default().to_owned()))
        })
        .await??;
        let sitting = Crowd::come(sitting(&cluster, SEATS as usize - 1)).await?;
        let away = Crowd::come(people(&cluster, "cph-1", "away", 1)).await?;
        let door = cluster.url("cph-1");
        let native_url = door.replace("http", "ws");
        let bob = token("senate", "bob")?;
        let (browser, native, anna) = tokio::task::spawn_blocking(move || -> Result<_> {
            browser.join(&door, "senate", "chen")?;
            let options = ["--publish", "--until-video", "2", "--until-audio", "2", "--hold"];
            let mut native = Native::join(&native_url, &bob, &options)?;
            native.until("done")?;
            browser.sees_and_hears("chen", 2)?;
            browser.sees_and_hears("anna", 2)?;
            Ok((browser, native, anna))
        })
        .await??;
        until(&cluster, "sto-1", "systir_participants", 3).await?;
        sitting.go().await?;
        until(&cluster, "cph-1", "systir_participants", 1).await?;

        cluster.kill("sto-1");
        let clients = tokio::task::spawn_blocking(move || -> Result<_> {
            let (mut browser, mut native) = (browser, native);
            let back = "systirRoom()?.state === 'connected' \
                        && systirRoom().localParticipant.attributes['systir.node'] === 'cph-1'";
            browser.wait("chen", back, 45)?;
            native.sees_and_hears(&[&anna], 20)?;
            // Of three people who came back only two have pictures that a decoder takes.
            browser.sees_and_hears("chen", 2)?;
            browser.sees_and_hears("anna", 2)?;
            Ok((browser, native))
        })
        .await??;
        together(&cluster, "cph-1", 4).await?;
        back_at("cph-1", &away.go().await?, 1);
        drop(clients);
        Ok(())
    })
}

#[test]
fn a_sister_that_hangs_is_left_and_finds_back_without_ghosts() -> Result<()> {
    play(async {
        let (_etcd, cluster) = Cluster::three(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, away) = senate(&cluster).await?;
        cluster.signal("sto-1", "STOP")?;
        until(&cluster, "cph-1", "systir_links", 0).await?;
        until(&cluster, "cph-1", "systir_participants", 4).await?;
        together(&cluster, "cph-1", 4).await?;
        cluster.signal("sto-1", "CONT")?;
        // The people whom it had in its books are elsewhere now; it learns that.
        until(&cluster, "sto-1", "systir_participants", 0).await?;
        together(&cluster, "cph-1", 4).await?;
        back_at("cph-1", &away.go().await?, 2);
        unmoved(&home.go().await?);
        Ok(())
    })
}

#[test]
fn a_sister_that_stops_in_good_order_tells_her_people() -> Result<()> {
    play(async {
        let (_etcd, mut cluster) = Cluster::three(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, away) = senate(&cluster).await?;
        cluster.signal("sto-1", "TERM")?;
        until(&cluster, "cph-1", "systir_participants", 4).await?;
        assert!(cluster.wait("sto-1")?, "it ended in good order");
        together(&cluster, "cph-1", 4).await?;
        back_at("cph-1", &away.go().await?, 2);
        unmoved(&home.go().await?);
        Ok(())
    })
}

#[test]
fn with_home_killed_the_sister_goes_on_and_home_finds_back() -> Result<()> {
    play(async {
        let (_etcd, mut cluster) = Cluster::three(&[("cph-1", 2), ("sto-1", 3)]).await?;
        let home = Crowd::come(people(&cluster, "cph-1", "home", 2)).await?;
        let away = Crowd::come(people(&cluster, "sto-1", "away", 2)).await?;
        until(&cluster, "sto-1", "systir_participants", 2).await?;
        together(&cluster, "sto-1", 4).await?;
        cluster.kill("cph-1");
        until(&cluster, "sto-1", "systir_links", 0).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.start("cph-1")?;
        cluster.ready(&["cph-1", "sto-1"]).await?;
        until(&cluster, "cph-1", "systir_participants", 2).await?;
        together(&cluster, "sto-1", 4).await?;
        let (away, home) = (away.go().await?, home.go().await?);
        unmoved(&away);
        assert_eq!(home.rejoined, 2, "{home:?}");
        assert_eq!(home.nodes.get("cph-1"), Some(&2), "{home:?}");
        Ok(())
    })
}

#[test]
fn with_the_registry_away_too_people_of_a_killed_sister_come_back() -> Result<()> {
    play(async {
        let (mut etcd, mut cluster) = Cluster::three(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, away) = senate(&cluster).await?;
        etcd.crash();
        cluster.kill("sto-1");
        until(&cluster, "cph-1", "systir_participants", 4).await?;
        together(&cluster, "cph-1", 4).await?;
        etcd.resume().await?;
        cluster.start("sto-1")?;
        cluster.ready(&["cph-1", "sto-1"]).await?;
        together(&cluster, "cph-1", 4).await?;
        back_at("cph-1", &away.go().await?, 2);
        unmoved(&home.go().await?);
        Ok(())
    })
}
