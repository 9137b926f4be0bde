//! Media does not depend on the control plane: what still works, and what is refused, while etcd is
//! offline.

use std::time::Duration;

use anyhow::Result;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::process::eventually;
use systir_tests::scenario::run_scenario;
use tokio_util::sync::CancellationToken;

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
