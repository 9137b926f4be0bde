//! Names of rooms: only nodes that hold a room key of the institution know them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use systir_load::Config;
use systir_tests::cluster::{Cluster, token};
use systir_tests::etcd::Etcd;
use systir_tests::participants::{Participants, wait_until_observer_receives};
use systir_tests::ports::port_block;
use systir_tests::process::eventually;
use systir_tests::process_memory::texts_in_memory;
use systir_tests::raw_signalling::RawSignalling;
use systir_tests::scenario::run_scenario;

const LIMIT: Duration = Duration::from_secs(45);
const NODES: [&str; 2] = ["cph-1", "sto-1"];
const OLD_KEY: &str = "[room_keys.tests]\ninstitution = \"ku.dk\"\n";

/// The name as text, and as base64 wherever it stands in a longer text.
fn encodings(name: &str) -> Vec<String> {
    let within = |before: usize| {
        let all = STANDARD.encode([&vec![0; before], name.as_bytes()].concat());
        let whole = (before + name.len()) * 8 / 6;
        all.get([0, 2, 3][before]..whole).unwrap_or_default().to_owned()
    };
    (0..3).map(within).chain([name.to_owned()]).collect()
}

/// All bytes of the files in a folder.
fn content(folder: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        bytes.extend(if path.is_dir() { content(&path)? } else { std::fs::read(&path)? });
    }
    Ok(bytes)
}

#[test]
fn no_name_of_a_room_is_in_etcd_or_at_a_spill_node() -> Result<()> {
    const ROOM: &str = "zz-room-of-the-board-zz";
    run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 1), ("sto-1", 4)]).await?;
        // sto-1 carries media only: it is nobody's gateway or home.
        cluster.configure("sto-1", |text| {
            let begin = text.find("[keys.devkey]").unwrap_or(text.len());
            text[..begin].to_owned()
        })?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.wait_ready_as_seen_by("cph-1", &NODES).await?;
        let (_anna, at_home) = RawSignalling::join(&cluster.url("cph-1"), &token(ROOM, "anna")?).await?;
        let (_bo, spilled) = RawSignalling::join(&cluster.url("cph-1"), &token(ROOM, "bo")?).await?;
        for (join, node) in [(at_home, "cph-1"), (spilled, "sto-1")] {
            let participant = join.participant.context("a participant")?;
            assert_eq!(participant.attributes.get("systir.node").map(String::as_str), Some(node));
            assert_eq!(join.room.context("a room")?.name, ROOM, "the client of {node} learns the name");
        }
        eventually("the home names the spill node", LIMIT, || async {
            let residency = cluster.residency("cph-1", ROOM).await.ok()?;
            (residency["room"] == ROOM && residency["nodes"][1]["node"] == "sto-1").then_some(())
        })
        .await?;
        let rooms = cluster.admin("cph-1", "rooms").await?;
        assert_eq!(rooms["rooms"][0]["room"], ROOM);

        let names = encodings(ROOM);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tag = rooms["rooms"][0]["tag"].as_str().context("a tag")?;
        let stored = content(&etcd.data_folder())?;
        let stored = String::from_utf8_lossy(&stored);
        assert!(stored.contains(tag), "etcd has the room's record");
        for name in &names {
            assert!(!stored.contains(name), "etcd has the room's name: {name}");
        }
        let in_memory = |node: &str, texts: &[&str]| {
            let found = texts_in_memory(cluster.pid(node)?, texts)?;
            Ok::<_, anyhow::Error>(found.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(in_memory("sto-1", &names)?, Vec::<String>::new(), "the spill node knows the name");
        assert_eq!(in_memory("sto-1", &[tag])?, [tag], "its memory was read");
        assert_eq!(in_memory("cph-1", &[ROOM])?, [ROOM], "the gateway knows the name");
        Ok(())
    })
}

fn load(cluster: &Cluster, gateway: &str, room: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(gateway),
        room: room.to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        publishers: Some(count),
        audio: true,
        ..Config::default()
    }
}

/// A participant who joins at this gateway receives that many tracks.
async fn receives(cluster: &Cluster, gateway: &str, room: &str, tracks: usize) -> Result<()> {
    wait_until_observer_receives(load(cluster, gateway, room, "observer", 1), tracks, LIMIT).await
}

/// The rooms that a gateway lists, by name.
async fn rooms(cluster: &Cluster, gateway: &str) -> Result<Vec<String>> {
    let answer = cluster.admin(gateway, "rooms").await?;
    let rooms = answer["rooms"].as_array().context("rooms")?;
    let mut names: Vec<String> =
        rooms.iter().map(|room| room["room"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    Ok(names)
}

/// Changes the room keys of a node and waits until it has taken them.
async fn change_keys(cluster: &Cluster, node: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
    let taken = || Ok::<_, anyhow::Error>(cluster.log(node)?.matches("the room keys have changed").count());
    let before = taken()?;
    cluster.configure(node, change)?;
    eventually("the new room keys are in force", LIMIT, || async { (taken().ok()? > before).then_some(()) })
        .await
}

#[test]
fn a_room_key_is_changed_during_a_meeting() -> Result<()> {
    const NEW_KEY: &str = "[room_keys.next]\ninstitution = \"ku.dk\"\n";
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 3), ("sto-1", 6)]).await?;
        let home = Participants::join(load(&cluster, "cph-1", "senate", "home", 2)).await?;
        let others = Participants::join(load(&cluster, "sto-1", "senate", "other", 2)).await?;
        receives(&cluster, "sto-1", "senate", 4).await?;

        for node in NODES {
            let key = "key = \"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\"";
            change_keys(&cluster, node, |text| format!("{text}\n{NEW_KEY}creates = false\n{key}\n")).await?;
        }
        // One node after the other makes new rooms with the new key.
        for node in NODES {
            change_keys(&cluster, node, |text| {
                let text = text.replace(&format!("{NEW_KEY}creates = false\n"), NEW_KEY);
                unindented(&text).replace(OLD_KEY, &format!("{OLD_KEY}creates = false\n"))
            })
            .await?;
            for gateway in NODES {
                receives(&cluster, gateway, "senate", 4).await?;
            }
        }
        let seminar = Participants::join(load(&cluster, "sto-1", "seminar", "reader", 1)).await?;
        for gateway in NODES {
            assert_eq!(rooms(&cluster, gateway).await?, ["seminar", "senate"], "at {gateway}");
        }
        let (home, others) = (home.leave().await?, others.leave().await?);
        for report in [home, others] {
            assert!(report.ended.is_empty() && report.rejoined == 0, "nobody was interrupted: {report:?}");
        }
        eventually("the room under the old key ends", LIMIT, || async {
            (rooms(&cluster, "sto-1").await.ok()? == ["seminar"]).then_some(())
        })
        .await?;
        for node in NODES {
            change_keys(&cluster, node, |text| {
                let begin = text.find(OLD_KEY).unwrap_or(text.len());
                let end = text.find(NEW_KEY).unwrap_or(text.len());
                format!("{}{}", &text[..begin], &text[end..])
            })
            .await?;
        }
        for gateway in NODES {
            receives(&cluster, gateway, "seminar", 1).await?;
        }
        let again = Participants::join(load(&cluster, "cph-1", "senate", "again", 1)).await?;
        receives(&cluster, "sto-1", "senate", 1).await?;
        assert_eq!(rooms(&cluster, "cph-1").await?, ["seminar", "senate"]);
        let (again, seminar) = (again.leave().await?, seminar.leave().await?);
        assert!(again.ended.is_empty() && seminar.ended.is_empty(), "{again:?} {seminar:?}");
        assert_eq!(seminar.rejoined, 0);
        Ok(())
    })
}

fn unindented(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_start())).collect()
}
