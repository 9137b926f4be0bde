//! Media does not depend on the control plane: what still works, and what is refused, while etcd is
//! offline.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::participants::Participants;
use systir_tests::ports::port_block;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;
use tokio_util::sync::CancellationToken;

use crate::node_failure::{assert_undisturbed, load, wait_for_gauge, wait_until_complete};

#[test]
fn with_etcd_offline_an_assigned_room_goes_on_accepts_joins_and_spills() -> Result<()> {
    run_scenario(async {
        let (mut etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", 3), ("sto-1", 4)]).await?;
        let load = |prefix: &str, count| Config {
            url: cluster.url("cph-1"),
            api_key: "devkey".to_owned(),
            api_secret: "secret".to_owned(),
            room: "exam".to_owned(),
            identity_prefix: prefix.to_owned(),
            participants: count,
            publishers: Some(count),
            audio: true,
            duration: Duration::from_secs(2),
            ..Config::default()
        };
        // The first participants stay until `stop` is cancelled.
        let stop = CancellationToken::new();
        let single = Config { stay: true, room: "single".to_owned(), ..load("single", 1) };
        let at_home = tokio::spawn(systir_load::run_with(single, stop.clone(), |_| {}));
        eventually("a room with a single participant on the home node", Duration::from_secs(45), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 1).then_some(())
        })
        .await?;
        let stay = Config { stay: true, ..load("first", 3) };
        let running = tokio::spawn(systir_load::run_with(stay, stop.clone(), |_| {}));
        eventually("the room spilled", Duration::from_secs(45), || async {
            let residency = cluster.residency("cph-1", "exam").await.ok()?;
            (residency["nodes"].as_array()?.len() == 2).then_some(())
        })
        .await?;

        etcd.kill();
        eventually("the node detects it", Duration::from_secs(45), || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            answer["registry"].as_str()?.starts_with("unavailable").then_some(())
        })
        .await?;
        // Both nodes carry the room already.
        let late = systir_load::run(load("late", 1)).await?;
        assert_eq!(late.joined, 1, "{late:?}");
        // A new room cannot be assigned; the refusal says so.
        let new = systir_load::run(Config { room: "new".to_owned(), ..load("new", 1) }).await?;
        assert_eq!(new.joined, 0, "{new:?}");
        assert!(new.refused.iter().any(|group| group.reason.contains("registry")), "{new:?}");
        // The home node is full, and the sister does not carry this room yet: the grant that the home signed lists it.
        let more = systir_load::run(Config { room: "single".to_owned(), ..load("more", 1) }).await?;
        assert_eq!((more.joined, more.tracks_received), (1, more.tracks_expected), "{more:?}");
        let (status, text) = cluster.validate("cph-1", "single", "more").await?;
        assert_eq!(status, 200, "{text}");

        stop.cancel();
        at_home.await??;
        let report = running.await??;
        assert_eq!(report.joined, 3, "{report:?}");
        assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        assert!(report.ended.is_empty() && report.rejoined == 0, "no session was interrupted: {report:?}");

        etcd.restart().await?;
        eventually("the node has its registry again", Duration::from_secs(45), || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            (answer["registry"] == "connected").then_some(())
        })
        .await?;
        cluster.signal("sto-1", "TERM")?;
        assert!(cluster.wait_for_exit("sto-1")?, "after SIGTERM the node ends with status 0");
        Ok(())
    })
}

/// Epoch and serial of the grant that a node holds of the room `senate`.
async fn grant(cluster: &Cluster, node: &str) -> Result<(u64, u64)> {
    let residency = cluster.residency(node, "senate").await?;
    let number = |field: &str| residency["grant"][field].as_u64().context("no grant");
    Ok((number("epoch")?, number("serial")?))
}

#[test]
fn with_etcd_offline_the_home_renews_the_grant_and_both_nodes_accept_joins() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let mut etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 3), ("sto-1", 4)]).await?;
        cluster.set("policy", "grant_seconds", "10")?;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        // The home is full while the sister fills, and has one free seat afterwards.
        let home = Participants::join(load(&cluster, "cph-1", "home", 2)).await?;
        let filler = Participants::join(load(&cluster, "cph-1", "filler", 1)).await?;
        let spilled = Participants::join(load(&cluster, "cph-1", "spilled", 2)).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 2).await?;
        filler.leave().await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 2).await?;

        etcd.kill();
        eventually("the home detects it", Duration::from_secs(45), || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            answer["registry"].as_str()?.starts_with("unavailable").then_some(())
        })
        .await?;
        let (epoch, serial) = grant(&cluster, "sto-1").await?;
        eventually("the sister holds the third renewal", Duration::from_secs(45), || async {
            let held = grant(&cluster, "sto-1").await.ok()?;
            (held.0 == epoch && held.1 >= serial + 3).then_some(())
        })
        .await?;
        let at_home = Participants::join(load(&cluster, "cph-1", "late-home", 1)).await?;
        // The home is full again.
        let at_sister = Participants::join(load(&cluster, "sto-1", "late-sister", 1)).await?;
        wait_until_complete(&cluster, "sto-1", 6).await?;
        assert_eq!(grant(&cluster, "sto-1").await?.0, epoch, "the home is the same");
        for node in ["cph-1", "sto-1"] {
            assert_eq!(cluster.counter(node, "systir_grants_ended").await?, 0, "{node}");
        }

        for (node, count, participants) in
            [("cph-1", 1, at_home), ("sto-1", 1, at_sister), ("cph-1", 2, home), ("sto-1", 2, spilled)]
        {
            let report = participants.leave().await?;
            assert_undisturbed(&report);
            assert_eq!(report.nodes.get(node), Some(&count), "{report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        }
        Ok(())
    })
}
