//! The main job, end to end: a home fills, its approved sister serves the next, everybody sees and
//! hears everybody, and a machine that nobody approved stays idle.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::participants::Crowd;
use systir_tests::process::{eventually, output, spoken};
use systir_tests::scenario::play;

fn people(cluster: &Cluster, door: &str, room: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(door),
        api_key: "devkey".to_owned(),
        api_secret: "secret".to_owned(),
        room: room.to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        publishers: Some(count),
        audio: true,
        video: true,
        duration: std::time::Duration::from_secs(4),
        ..Config::default()
    }
}

#[test]
fn full_home_spills_to_sister_never_to_cloud() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 3)]).await?;
        let report = systir_load::run(people(&cluster, "cph-1", "lecture", "p", 5)).await?;
        assert_eq!(report.joined, 5, "{report:?}");
        assert_eq!(report.nodes.get("cph-1").copied(), Some(2), "{report:?}");
        assert_eq!(report.nodes.get("sto-1").copied(), Some(3), "{report:?}");
        assert_eq!(
            report.tracks_heard, report.tracks_expected,
            "everybody hears and sees everybody: {report:?}"
        );
        assert_eq!(cluster.counter("aws-sto-1", "systir_datagrams_in_total").await?, 0);
        assert_eq!(cluster.counter("aws-sto-1", "systir_participants").await?, 0);
        assert_eq!(cluster.counter("aws-sto-1", "systir_links").await?, 0);
        for counter in ["systir_signal_websockets", "systir_signal_streams", "systir_signal_messages_total"] {
            assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
        }
        let messages = async |node, leg| {
            cluster.counter_with(node, "systir_signal_messages_total", &format!("leg=\"{leg}\"")).await
        };
        assert!(messages("cph-1", "client").await? > 0, "everybody's socket ends there");
        assert!(messages("cph-1", "relayed").await? > 0 && messages("sto-1", "relayed").await? > 0);
        assert_eq!(messages("sto-1", "client").await?, 0, "nobody went to that door");
        assert!(cluster.counter("cph-1", "systir_link_out_total").await? > 100, "media crossed the link");
        Ok(())
    })
}

#[test]
fn when_every_approved_node_is_full_the_next_is_refused_with_the_reason() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let report = systir_load::run(people(&cluster, "cph-1", "small", "p", 3)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        let reasons = format!("{:?}", report.refused);
        assert!(
            reasons.contains("ku.dk") && reasons.contains("full"),
            "the reason names who decides: {reasons}"
        );
        assert_eq!(cluster.counter("aws-sto-1", "systir_datagrams_in_total").await?, 0);
        Ok(())
    })
}

#[test]
fn a_front_door_that_policy_denies_lets_nobody_in() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let (status, words) = cluster.validate("aws-sto-1", "lecture", "anna").await?;
        assert_eq!(status, 403);
        assert!(words.contains("controlled from US"), "{words}");
        Ok(())
    })
}

#[test]
fn explain_shows_every_candidate_with_its_reason() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let answer = cluster.admin("cph-1", "rooms/lecture/explain").await?;
        let rows = answer["candidates"].as_array().cloned().unwrap_or_default();
        let row = |node: &str| rows.iter().find(|row| row["node"] == node).cloned().unwrap_or_default();
        assert_eq!(row("cph-1")["reason"], "home");
        assert_eq!(row("sto-1")["reason"], "spill-sister");
        assert_eq!(row("aws-sto-1")["reason"], "policy-denied");
        assert_eq!(row("aws-sto-1")["rank"], serde_json::Value::Null);
        Ok(())
    })
}

/// The printed line with all of these words, as a command.
fn printed(cluster: &Cluster, words: &[&str]) -> Result<Command> {
    let said = cluster.said();
    let line = said.iter().find(|line| words.iter().all(|word| line.contains(word)));
    let line = line.with_context(|| format!("no line with {words:?} in {said:#?}"))?;
    let mut parts = line.split_whitespace();
    let mut command = Command::new(parts.next().context("an empty line")?);
    command.args(parts);
    Ok(command)
}

#[test]
fn the_demonstration_does_what_its_words_say() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let said = cluster.said().join("\n");
        assert!(said.contains("on 127.0.0.1 alone"), "where it can be reached from: {said}");
        let page = format!("{}/?room=demo", cluster.url("cph-1"));
        let last = cluster.said().last().cloned().unwrap_or_default();
        assert!(last.ends_with(&page), "the page's address comes last: {said}");
        let there = |home: u64, sister: u64| {
            let cluster = &cluster;
            eventually("people are where the words say", Duration::from_secs(45), move || async move {
                let at_home = cluster.counter("cph-1", "systir_participants").await.ok()?;
                let at_sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
                (at_home == home && at_sister == sister).then_some(())
            })
        };
        // 1. The page's visitor; 2. the home fills, and whoever comes last is the sister's guest.
        let me = Crowd::come(people(&cluster, "cph-1", "demo", "me", 1)).await?;
        there(1, 0).await?;
        let _second = spoken(&mut printed(&cluster, &["systir-load", "--video --audio --stay"])?)?;
        there(2, 1).await?;
        // 3. The sister fills as well; the next window is refused.
        let _third = spoken(&mut printed(&cluster, &["systir-load", "--identity-prefix more"])?)?;
        there(2, 2).await?;
        let (status, words) = cluster.validate("cph-1", "demo", "next").await?;
        assert!(status == 403 && words.contains("full"), "{words}");
        let (status, words) = cluster.validate("aws-sto-1", "demo", "next").await?;
        assert!(status == 403 && words.contains("controlled from US"), "{words}");
        // 4. Which node, and why? Nodes tell how full they are a moment after they are.
        for (question, answer) in [("nodes", "2 of 2"), ("explain demo", "home-full")] {
            let cluster = &cluster;
            let told = format!("`systirctl {question}` shows {answer}");
            eventually(&told, Duration::from_secs(20), move || async move {
                let command = printed(cluster, &["systirctl", question]).ok()?;
                let answered = output(command, Duration::from_secs(20)).await.ok()?;
                let shown = String::from_utf8_lossy(&answered.stdout).into_owned();
                (answered.status.success() && shown.contains(answer)).then_some(())
            })
            .await?;
        }
        assert_eq!(cluster.counter("aws-sto-1", "systir_datagrams_in_total").await?, 0);
        me.go().await?;
        Ok(())
    })
}

#[test]
fn browsers_and_the_native_sdk_meet_across_two_nodes() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let door = cluster.url("cph-1");
        let native_url = door.replace("http", "ws");
        let bob = token("seminar", "bob")?;
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            // The camera's full pictures, in layers.
            browser.pictures = None;
            // Anna takes the only seat of the home, Chen is the sister's first guest.
            browser.join(&door, "seminar", "anna")?;
            browser.wait("anna", "document.getElementById('where-short').textContent.includes('Denmark')", 45)?;
            browser.join(&door, "seminar", "chen")?;
            browser.sees_and_hears("anna", 1)?;
            browser.sees_and_hears("chen", 1)?;
            // The (i) changed live, and says where each one's media is.
            browser.wait("anna", "document.getElementById('where-short').textContent.includes('Sweden')", 45)?;
            let node = "systirRoom().localParticipant.attributes['systir.node']";
            assert_eq!(browser.eval("anna", node)?, "cph-1");
            assert_eq!(browser.eval("chen", node)?, "sto-1");

            let mut native = Native::join(
                &native_url,
                &bob,
                &["--publish", "--until-video", "2", "--until-audio", "2", "--send-data", "hello", "--hold"],
            )?;
            native.until("done")?;
            browser.sees_and_hears("anna", 2)?;
            browser.sees_and_hears("chen", 2)?;
            browser.carry_out(&serde_json::json!({"do": "click", "page": "chen", "selector": "#mic"}))?;
            let muted = "[...systirRoom().remoteParticipants.values()].some(p => p.name === 'chen' && !p.isMicrophoneEnabled)";
            browser.wait("anna", muted, 45)?;
            assert!(native.end()?);
            browser.wait("anna", "systirRoom().remoteParticipants.size === 1", 45)?;
            browser.close("chen")?;
            browser.wait("anna", "systirRoom().remoteParticipants.size === 0", 45)?;
            Ok(())
        })
        .await??;
        Ok(())
    })
}

#[test]
fn a_room_that_everybody_left_leaves_nothing_behind() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 2)]).await?;
        let report = systir_load::run(people(&cluster, "cph-1", "brief", "p", 2)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        let limit = std::time::Duration::from_secs(120);
        systir_tests::process::eventually("the registry forgets the room", limit, || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            answer["rooms"].as_array()?.is_empty().then_some(())
        })
        .await?;
        // The record goes a moment before the rooms do.
        for (node, gauge) in ["cph-1", "sto-1"]
            .into_iter()
            .flat_map(|node| ["systir_participants", "systir_rooms"].map(|gauge| (node, gauge)))
        {
            systir_tests::process::eventually(&format!("no {gauge} at {node}"), limit, || async {
                (cluster.counter(node, gauge).await.ok()? == 0).then_some(())
            })
            .await?;
        }
        Ok(())
    })
}
