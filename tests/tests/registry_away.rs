//! Media does not depend on the control plane: nodes as processes of their own, a real etcd, and
//! its absence.

use std::time::Duration;

use anyhow::Result;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::process::{eventually, port_block};

#[tokio::test(flavor = "multi_thread")]
async fn with_etcd_away_an_assigned_room_goes_on_and_takes_joins() -> Result<()> {
    let base = port_block()?;
    let mut etcd = Etcd::start(base + 20).await?;
    let mut cluster = Cluster::with_etcd(&etcd.url(), base, &[("cph-1", 2), ("sto-1", 4)]).await?;
    let people = |prefix: &str, count| Config {
        url: cluster.url("cph-1"),
        api_key: "devkey".to_owned(),
        api_secret: "secret".to_owned(),
        room: "exam".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        publishers: Some(count),
        audio: true,
        duration: Duration::from_secs(12),
        ..Config::default()
    };
    let running = tokio::spawn(systir_load::run(people("first", 3)));
    eventually("the room spilled", Duration::from_secs(20), || async {
        let place = cluster.whereabouts("cph-1", "exam").await.ok()?;
        (place["nodes"].as_array()?.len() == 2).then_some(())
    })
    .await?;

    etcd.crash();
    eventually("the node noticed", Duration::from_secs(20), || async {
        let answer = cluster.admin("cph-1", "rooms").await.ok()?;
        answer["registry"].as_str()?.starts_with("away").then_some(())
    })
    .await?;
    // The room is assigned to both nodes already: joins need no write.
    let late = systir_load::run(Config { duration: Duration::from_secs(2), ..people("late", 1) }).await?;
    assert_eq!(late.joined, 1, "{late:?}");
    // A new room cannot be assigned, and says so.
    let (status, words) = {
        let elsewhere =
            Config { room: "new".to_owned(), duration: Duration::from_secs(1), ..people("new", 1) };
        let report = systir_load::run(elsewhere).await?;
        (report.joined, format!("{:?}", report.refused))
    };
    assert_eq!(status, 0);
    assert!(words.contains("registry"), "{words}");

    let report = running.await??;
    assert_eq!(report.joined, 3, "{report:?}");
    assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");

    etcd.resume().await?;
    eventually("the node is back with its registry", Duration::from_secs(30), || async {
        let answer = cluster.admin("cph-1", "rooms").await.ok()?;
        (answer["registry"] == "connected").then_some(())
    })
    .await?;
    cluster.signal("sto-1", "TERM")?;
    assert!(cluster.wait("sto-1")?, "a node that is asked to stop ends in good order");
    Ok(())
}
