//! Policy changes while meetings run: nodes take a new signed document without restart, close at once what it
//! no longer allows, and tell participants why.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::operator_commands::publish_directory;
use systir_tests::participants::Participants;
use systir_tests::process::{built, eventually, output};
use systir_tests::scenario::run_scenario;

use crate::node_failure::{
    SEATS, assert_back_at, assert_receives_video, assert_undisturbed, two_and_two, wait_for_gauge,
    wait_until_complete,
};

const ROOM: &str = "seminar";
const LIMIT: Duration = Duration::from_secs(30);

/// The rules, without the right of any node outside Denmark to be spill node or gateway.
fn denmark_only(rules: &str) -> String {
    rules.replace("resource.country in Zone::\"Nordic\"", "resource.country == Country::\"DK\"")
}

/// The documents that a node uses.
async fn documents(cluster: &Cluster, node: &str) -> Result<Vec<Value>> {
    let answer = cluster.admin(node, "documents").await?;
    answer["documents"].as_array().cloned().context("no documents")
}

fn version(documents: &[Value], kind: &str) -> Option<u64> {
    documents.iter().find(|document| document["kind"] == kind)?["version"].as_u64()
}

pub(crate) async fn wait_for_version(cluster: &Cluster, node: &str, kind: &str, wanted: u64) -> Result<()> {
    eventually(&format!("{node} uses version {wanted} of the {kind}"), LIMIT, || async {
        (version(&documents(cluster, node).await.ok()?, kind)? == wanted).then_some(())
    })
    .await
}

/// Packets of media that a node sent over links. The counter is at most a second behind.
async fn link_packets(cluster: &Cluster, node: &str) -> Result<u64> {
    cluster.counter(node, "systir_link_out_total").await
}

/// The same once it does not grow any more.
async fn link_packets_at_rest(cluster: &Cluster, node: &str) -> Result<u64> {
    const REST: Duration = Duration::from_secs(2);
    let last = Cell::new((Instant::now(), 0));
    eventually(&format!("{node} sends no packet over links"), LIMIT, || async {
        let packets = link_packets(cluster, node).await.ok()?;
        let (since, before) = last.get();
        if packets != before {
            last.set((Instant::now(), packets));
            return None;
        }
        (since.elapsed() > REST).then_some(packets)
    })
    .await
}

#[test]
fn an_approved_node_loses_its_right_while_a_meeting_runs() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let gateway = cluster.url("cph-1");
        let mut browser = tokio::task::spawn_blocking(move || -> Result<Browser> {
            let mut browser = Browser::start()?;
            for participant in ["anna", "chen"] {
                browser.join_with_token(&gateway, ROOM, participant, &token(ROOM, participant)?)?;
            }
            browser.wait_for_media("anna", 1)?;
            browser.wait_for_media("chen", 1)?;
            browser.click("anna", "#info")?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            Ok(browser)
        })
        .await??;
        let before = cluster.residency("cph-1", ROOM).await?;
        assert_eq!(before["policy"]["version"], 1, "{before:#}");

        cluster.publish_rules(2, denmark_only)?;
        let published = Instant::now();
        eventually("the room is closed on the sister", LIMIT, || async {
            (cluster.counter("sto-1", "systir_participants").await.ok()? == 0).then_some(())
        })
        .await?;
        println!(
            "the sister carried nobody {} ms after the bundle was published",
            published.elapsed().as_millis()
        );
        // The home takes the bundle by itself, perhaps a little later.
        eventually("the home closed the room on the link", LIMIT, || async {
            let residency = cluster.residency("cph-1", ROOM).await.ok()?;
            (residency["nodes"].as_array()?.len() == 1 && residency["policy"]["version"] == 2).then_some(())
        })
        .await?;
        let after = link_packets_at_rest(&cluster, "cph-1").await?;
        let mut browser = tokio::task::spawn_blocking(move || -> Result<Browser> {
            // The other participant is told that the connection is lost; its client joins again by itself.
            browser.wait(
                "chen",
                "document.getElementById('live').textContent.includes('reconnecting')",
                30,
            )?;
            // The (i) of the participant who stayed shows one node again, and the new version.
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 1", 30)?;
            browser.wait("anna", "document.querySelector('#where').textContent.includes('version 2')", 30)?;
            let renewed = "document.querySelector('#where .basis').textContent.includes('renewed by cph-1 ')";
            browser.wait("anna", renewed, 30)?;
            browser.screenshot("anna", "after-the-change-of-policy", (390, 844))?;
            Ok(browser)
        })
        .await??;
        // That join is refused with the reason: the only node that is left is full.
        let (status, why) = cluster.validate("cph-1", ROOM, "chen").await?;
        assert!(status == 403 && why.contains("full"), "{status}: {why}");
        assert_eq!(link_packets(&cluster, "cph-1").await?, after, "no packet goes to the sister any more");
        let residency = cluster.residency("cph-1", ROOM).await?;
        assert_eq!(residency["policy"]["version"], 2, "{residency:#}");
        assert_eq!(residency["nodes"].as_array().map(Vec::len), Some(1), "{residency:#}");
        // The home signed the room's grant anew when the policy changed.
        assert_eq!((&residency["grant"]["home"], &residency["grant"]["epoch"]), (&json!("cph-1"), &json!(1)));
        assert!(residency["grant"]["serial"].as_u64() > Some(1), "{residency:#}");

        // A later version approves the sister again.
        cluster.publish_rules(3, |rules| format!("{rules}\n// Version 3.\n"))?;
        wait_for_version(&cluster, "cph-1", "bundle", 3).await?;
        wait_for_version(&cluster, "sto-1", "bundle", 3).await?;
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            browser.join_with_token(&gateway, ROOM, "dina", &token(ROOM, "dina")?)?;
            browser.wait_for_media("dina", 1)?;
            browser.wait("anna", "document.querySelectorAll('#where .node').length === 2", 30)?;
            Ok(())
        })
        .await?
    })
}

#[test]
fn participants_of_an_approved_node_that_loses_its_right_return_at_the_home_when_it_has_seats() -> Result<()>
{
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", SEATS), ("sto-1", SEATS)]).await?;
        let (home, spilled) = two_and_two(&cluster).await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        cluster.publish_rules(2, denmark_only)?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 0).await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 4).await?;
        eventually("the home closed the room on the link", LIMIT, || async {
            let residency = cluster.residency("cph-1", "senate").await.ok()?;
            (residency["nodes"].as_array()?.len() == 1 && residency["policy"]["version"] == 2).then_some(())
        })
        .await?;
        // Workers publish their counters several times a second: packets of before are counted now.
        wait_until_complete(&cluster, "cph-1", 4).await?;
        let sent = cluster.counter("cph-1", "systir_link_out_total").await?;
        wait_until_complete(&cluster, "cph-1", 4).await?;
        let after = cluster.counter("cph-1", "systir_link_out_total").await?;
        assert_eq!(after, sent, "no packet goes to the sister any more");
        let (spilled, home) = (spilled.leave().await?, home.leave().await?);
        assert_back_at("cph-1", &spilled, 2);
        assert!(spilled.ended.is_empty(), "{spilled:?}");
        assert_receives_video(&spilled);
        assert_undisturbed(&home);
        assert_eq!(home.tracks_received, home.tracks_expected, "{home:?}");
        Ok(())
    })
}

#[test]
fn a_published_document_reaches_every_node_and_an_older_one_is_refused() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[]).await?;
        // The nodes' folder keeps version 1: version 2 reaches the second node only from the first.
        let second = cluster.documents()?.bundle(2, |bundle| bundle.policy.push_str("\n// Version 2.\n"))?;
        let (status, answer) = cluster.publish_over_http("cph-1", &second).await?;
        assert_eq!(status, 200, "{answer}");
        for node in ["cph-1", "sto-1"] {
            wait_for_version(&cluster, node, "bundle", 2).await?;
        }
        // A rollback, another text of the same version, and a text that was changed after it was signed.
        let first = cluster.documents()?.bundle(1, |_| {})?;
        assert_eq!(cluster.publish_over_http("cph-1", &first).await?.0, 409);
        let conflict = cluster.documents()?.bundle(2, |bundle| bundle.policy.push_str("\n// Other.\n"))?;
        let (status, answer) = cluster.publish_over_http("sto-1", &conflict).await?;
        assert!(status == 409 && answer.contains("version 2"), "{status}: {answer}");
        let forged = second.replace("Version 2", "Version 3").replace("version = 2", "version = 3");
        let (status, answer) = cluster.publish_over_http("cph-1", &forged).await?;
        assert_eq!(status, 403, "{answer}");
        // Rules that no node can load, although the institution signed them.
        let unusable = cluster
            .documents()?
            .bundle(3, |bundle| bundle.policy.push_str("permit (principal, action, resource);"))?;
        let (status, answer) = cluster.publish_over_http("cph-1", &unusable).await?;
        assert!(status == 422 && answer.contains("@id"), "{status}: {answer}");
        // After a restart the newest version is still known, although the folder holds the first one.
        cluster.kill("sto-1");
        cluster.start("sto-1")?;
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        wait_for_version(&cluster, "sto-1", "bundle", 2).await?;
        // The same with the command line.
        let file = cluster.folder().join("third.note");
        std::fs::write(&file, cluster.documents()?.bundle(3, |_| {})?)?;
        let systirctl = |arguments: &[&str]| -> Result<Command> {
            let mut command = Command::new(built("systirctl")?);
            command.args(["--url", &cluster.url("sto-1")]).args(arguments);
            Ok(command)
        };
        let publish = systirctl(&["policy", "publish", &file.display().to_string()])?;
        let published = output(publish, LIMIT).await?;
        let text = String::from_utf8_lossy(&published.stdout).into_owned();
        assert!(
            published.status.success() && text.contains("version 3 of the bundle of ku.dk is in use now"),
            "{published:?}"
        );
        wait_for_version(&cluster, "cph-1", "bundle", 3).await?;
        let listed = output(systirctl(&["documents"])?, LIMIT).await?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        for part in ["bundle", "floor", "directory", "valid", "SHA256:"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        Ok(())
    })
}

#[test]
fn a_node_that_the_directory_no_longer_lists_loses_its_links_and_its_participants() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let load = Config {
            url: cluster.url("cph-1"),
            room: ROOM.to_owned(),
            participants: 2,
            audio: true,
            no_rejoin: true,
            ..Config::default()
        };
        let participants = Participants::join(load).await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 1).await?;
        eventually("the room is open on a link", LIMIT, || async {
            (cluster.counter("cph-1", "systir_link_out_total").await.ok()? > 20).then_some(())
        })
        .await?;
        // The operator's commands; the nodes' folder keeps version 1.
        let change = ["remove", "documents/directory.note", "--id", "sto-1"];
        let published = publish_directory(&cluster, "cph-1", &change, "directory-2.note").await?;
        assert!(published.contains("version 2 of the directory of nordunet is in use now"), "{published}");
        wait_for_version(&cluster, "cph-1", "directory", 2).await?;
        eventually("the link to the removed node is closed", LIMIT, || async {
            (cluster.counter("cph-1", "systir_links").await.ok()? == 0).then_some(())
        })
        .await?;
        wait_for_gauge(&cluster, "sto-1", "systir_participants", 0).await?;
        eventually("the room is on the home alone", LIMIT, || async {
            let residency = cluster.residency("cph-1", ROOM).await.ok()?;
            (residency["nodes"].as_array()?.len() == 1).then_some(())
        })
        .await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 1).await?;
        let report = participants.leave().await?;
        assert_eq!(report.joined, 2, "{report:?}");
        let ended: Vec<_> = report.ended.iter().map(|group| (group.count, group.reason.as_str())).collect();
        let [(1, reason)] = ended[..] else { panic!("the participant of the removed node: {report:?}") };
        assert!(reason.starts_with("the server said leave"), "it is told to leave: {reason}");
        assert_eq!(
            report.nodes,
            BTreeMap::from([("cph-1".to_owned(), 1)]),
            "the other one stays: {report:?}"
        );
        assert_eq!(report.tracks_expected, 0, "it is told that the first one left: {report:?}");
        Ok(())
    })
}

/// Replaces the pinned keys in the configuration of every node, and waits until the nodes use them.
async fn pin(cluster: &Cluster, change: impl Fn(&str) -> String) -> Result<()> {
    const TAKEN: &str = "its pinned keys are in use";
    let nodes = ["cph-1", "sto-1", "aws-sto-1"];
    let taken = |node: &str| -> Result<usize> { Ok(cluster.log(node)?.matches(TAKEN).count()) };
    let before = nodes.iter().map(|node| taken(node)).collect::<Result<Vec<_>>>()?;
    for node in nodes {
        let file = cluster.folder().join(format!("{node}.toml"));
        let changed = change(&std::fs::read_to_string(&file)?);
        std::fs::write(file, changed)?;
    }
    for (node, before) in nodes.iter().zip(before) {
        eventually(&format!("{node} uses the changed pins"), LIMIT, || async {
            (taken(node).ok()? > before).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn the_keys_of_all_owners_are_replaced_during_a_meeting_and_nobody_is_dropped() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 3)]).await?;
        let load = Config {
            url: cluster.url("cph-1"),
            room: ROOM.to_owned(),
            participants: 4,
            audio: true,
            no_rejoin: true,
            duration: Duration::from_secs(25),
            ..Config::default()
        };
        let meeting = tokio::spawn(systir_load::run(load));
        eventually("media crosses the link", LIMIT, || async {
            (cluster.counter("cph-1", "systir_link_out_total").await.ok()? > 20).then_some(())
        })
        .await?;
        let old = cluster.documents()?;
        let mut seed = 0;
        let new = old.with_new_owner_keys(|| {
            seed += 1;
            [seed; 32]
        })?;
        let pairs = [
            (old.institution_key().public().to_string(), new.institution_key().public().to_string()),
            (old.operator_key().public().to_string(), new.operator_key().public().to_string()),
        ];
        // 1. Every node pins the new key beside the old one; one signature is enough.
        pin(&cluster, |text| {
            pairs.iter().fold(text.to_owned(), |text, (old, new)| {
                text.replace(&format!("[\"{old}\"]"), &format!("[\"{old}\", \"{new}\"]\nthreshold = 1"))
            })
        })
        .await?;
        // 2. The owners sign the next version of each document with the new key.
        cluster.publish("ku.dk.note", &new.bundle(2, |_| {})?)?;
        cluster.publish("floor.note", &new.floor(2, |_| {})?)?;
        cluster.publish("directory.note", &new.directory(2, |_| {})?)?;
        for kind in ["bundle", "floor", "directory"] {
            for node in ["cph-1", "sto-1"] {
                wait_for_version(&cluster, node, kind, 2).await?;
            }
        }
        // 3. Every node pins the new key alone.
        pin(&cluster, |text| {
            pairs.iter().fold(text.to_owned(), |text, (old, new)| {
                text.replace(&format!("[\"{old}\", \"{new}\"]\nthreshold = 1"), &format!("[\"{new}\"]"))
            })
        })
        .await?;
        // The old key signs nothing any more.
        let (status, answer) = cluster.publish_over_http("cph-1", &old.bundle(3, |_| {})?).await?;
        assert!(status == 403 && answer.contains("no key that this node's configuration pins"), "{answer}");
        let report = meeting.await??;
        assert_eq!((report.joined, report.rejoined), (4, 0), "{report:?}");
        assert!(report.interruptions.is_empty() && report.ended.is_empty(), "{report:?}");
        assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        Ok(())
    })
}
