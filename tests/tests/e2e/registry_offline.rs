//! Media does not depend on the control plane: nodes as processes of their own, a real etcd, and
//! its absence.

use std::time::Duration;

use anyhow::Result;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::process::eventually;
use systir_tests::scenario::play;
use tokio_util::sync::CancellationToken;

#[test]
fn with_etcd_away_an_assigned_room_goes_on_and_takes_joins() -> Result<()> {
    play(async {
        let (mut etcd, mut cluster) = Cluster::three(&[("cph-1", 3), ("sto-1", 4)]).await?;
        let people = |prefix: &str, count| Config {
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
        // They stay until they are told to go, however long the rest takes.
        let over = CancellationToken::new();
        let alone = Config { stay: true, room: "alone".to_owned(), ..people("alone", 1) };
        let at_home = tokio::spawn(systir_load::run_with(alone, over.clone(), |_| {}));
        eventually("somebody alone in a room at home", Duration::from_secs(45), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 1).then_some(())
        })
        .await?;
        let stay = Config { stay: true, ..people("first", 3) };
        let running = tokio::spawn(systir_load::run_with(stay, over.clone(), |_| {}));
        eventually("the room spilled", Duration::from_secs(45), || async {
            let place = cluster.whereabouts("cph-1", "exam").await.ok()?;
            (place["nodes"].as_array()?.len() == 2).then_some(())
        })
        .await?;

        etcd.crash();
        eventually("the node noticed", Duration::from_secs(45), || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            answer["registry"].as_str()?.starts_with("away").then_some(())
        })
        .await?;
        // The room is assigned to both nodes already: joins need no write.
        let late = systir_load::run(people("late", 1)).await?;
        assert_eq!(late.joined, 1, "{late:?}");
        // A new room cannot be assigned, and says so.
        let new = systir_load::run(Config { room: "new".to_owned(), ..people("new", 1) }).await?;
        assert_eq!(new.joined, 0, "{new:?}");
        assert!(new.refused.iter().any(|group| group.reason.contains("registry")), "{new:?}");
        // Home is full. The sister has room, but is not in that room's record yet: that is the reason.
        let more = systir_load::run(Config { room: "alone".to_owned(), ..people("more", 1) }).await?;
        assert_eq!(more.joined, 0, "{more:?}");
        let why = |word: &str| more.refused.iter().any(|group| group.reason.contains(word));
        assert!(why("registry") && !why("full"), "{more:?}");
        let (status, words) = cluster.validate("cph-1", "alone", "more").await?;
        assert!(status == 503 && words.contains("registry"), "{status}: {words}");

        over.cancel();
        at_home.await??;
        let report = running.await??;
        assert_eq!(report.joined, 3, "{report:?}");
        assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");
        assert!(report.ended.is_empty() && report.rejoined == 0, "nobody was thrown out: {report:?}");

        etcd.resume().await?;
        eventually("the node is back with its registry", Duration::from_secs(45), || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            (answer["registry"] == "connected").then_some(())
        })
        .await?;
        cluster.signal("sto-1", "TERM")?;
        assert!(cluster.wait("sto-1")?, "a node that is asked to stop ends in good order");
        Ok(())
    })
}
