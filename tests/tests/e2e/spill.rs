//! Spill, end to end: when the home node is full, its approved sister carries the next participants; all
//! receive media of all; a node that is not approved stays idle.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::NativeClient;
use systir_tests::participants::Participants;
use systir_tests::process::{eventually, output, start_with_output};
use systir_tests::scenario::run_scenario;

fn load(cluster: &Cluster, gateway: &str, room: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(gateway),
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
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 3)]).await?;
        let report = systir_load::run(load(&cluster, "cph-1", "lecture", "p", 5)).await?;
        assert_eq!(report.joined, 5, "{report:?}");
        assert_eq!(report.nodes.get("cph-1").copied(), Some(2), "{report:?}");
        assert_eq!(report.nodes.get("sto-1").copied(), Some(3), "{report:?}");
        assert_eq!(
            report.tracks_received, report.tracks_expected,
            "each receives audio and video of all others: {report:?}"
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
        assert!(messages("cph-1", "client").await? > 0, "all WebSockets end there");
        assert!(messages("cph-1", "relayed").await? > 0 && messages("sto-1", "relayed").await? > 0);
        assert_eq!(messages("sto-1", "client").await?, 0, "no client used that gateway");
        assert!(cluster.counter("cph-1", "systir_link_out_total").await? > 100, "media crossed the link");
        Ok(())
    })
}

#[test]
fn when_every_approved_node_is_full_the_next_is_refused_with_the_reason() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let report = systir_load::run(load(&cluster, "cph-1", "small", "p", 3)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        let reasons = format!("{:?}", report.refused);
        assert!(
            reasons.contains("ku.dk") && reasons.contains("full"),
            "the reason names the institution: {reasons}"
        );
        assert_eq!(cluster.counter("aws-sto-1", "systir_datagrams_in_total").await?, 0);
        Ok(())
    })
}

#[test]
fn a_gateway_that_policy_denies_accepts_no_join() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let (status, text) = cluster.validate("aws-sto-1", "lecture", "anna").await?;
        assert_eq!(status, 403);
        assert!(text.contains("controlled from US"), "{text}");
        Ok(())
    })
}

#[test]
fn explain_shows_every_candidate_with_its_reason() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let answer = cluster.admin("cph-1", "rooms/lecture/explain").await?;
        let rows = answer["candidates"].as_array().cloned().unwrap_or_default();
        let row = |node: &str| rows.iter().find(|row| row["node"] == node).cloned().unwrap_or_default();
        assert_eq!(row("cph-1")["reason"], "home");
        assert_eq!(row("sto-1")["reason"], "spill-approved");
        assert_eq!(row("aws-sto-1")["reason"], "policy-denied");
        assert_eq!(row("aws-sto-1")["rank"], serde_json::Value::Null);
        Ok(())
    })
}

/// The line of the demo's output that contains all of `parts`, as a command.
fn printed_command(cluster: &Cluster, parts: &[&str]) -> Result<Command> {
    let output = cluster.terminal_output();
    let line = output.iter().find(|line| parts.iter().all(|part| line.contains(part)));
    let line = line.with_context(|| format!("no line with {parts:?} in {output:#?}"))?;
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().context("an empty line")?);
    command.args(words);
    Ok(command)
}

#[test]
fn the_commands_that_the_demo_prints_do_what_it_says() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 2), ("sto-1", 2)]).await?;
        let output_text = cluster.terminal_output().join("\n");
        assert!(output_text.contains("on 127.0.0.1 alone"), "it names its address: {output_text}");
        let page = format!("{}/?room=demo", cluster.url("cph-1"));
        let last = cluster.terminal_output().last().cloned().unwrap_or_default();
        assert!(last.ends_with(&page), "the page's address is the last line: {output_text}");
        let there = |home: u64, sister: u64| {
            let cluster = &cluster;
            eventually(
                "the participants are on the expected nodes",
                Duration::from_secs(45),
                move || async move {
                    let at_home = cluster.counter("cph-1", "systir_participants").await.ok()?;
                    let at_sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
                    (at_home == home && at_sister == sister).then_some(())
                },
            )
        };
        // 1. A participant on the page. 2. The home node fills; the last one is placed on the sister.
        let me = Participants::join(load(&cluster, "cph-1", "demo", "me", 1)).await?;
        there(1, 0).await?;
        let _second =
            start_with_output(&mut printed_command(&cluster, &["systir-load", "--video --audio --stay"])?)?;
        there(2, 1).await?;
        // 3. The sister fills as well; the next participant is refused.
        let _third =
            start_with_output(&mut printed_command(&cluster, &["systir-load", "--identity-prefix more"])?)?;
        there(2, 2).await?;
        let (status, text) = cluster.validate("cph-1", "demo", "next").await?;
        assert!(status == 403 && text.contains("full"), "{text}");
        let (status, text) = cluster.validate("aws-sto-1", "demo", "next").await?;
        assert!(status == 403 && text.contains("controlled from US"), "{text}");
        // 4. `systirctl` shows nodes and reasons. Load reports arrive with a delay.
        for (question, answer) in [("nodes", "2 of 2"), ("explain demo", "home-full")] {
            let cluster = &cluster;
            let what = format!("`systirctl {question}` shows {answer}");
            eventually(&what, Duration::from_secs(20), move || async move {
                let command = printed_command(cluster, &["systirctl", question]).ok()?;
                let answered = output(command, Duration::from_secs(20)).await.ok()?;
                let shown = String::from_utf8_lossy(&answered.stdout).into_owned();
                (answered.status.success() && shown.contains(answer)).then_some(())
            })
            .await?;
        }
        assert_eq!(cluster.counter("aws-sto-1", "systir_datagrams_in_total").await?, 0);
        me.leave().await?;
        Ok(())
    })
}

#[test]
fn browsers_and_the_native_sdk_meet_across_two_nodes() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 3)]).await?;
        let gateway = cluster.url("cph-1");
        let native_url = gateway.replace("http", "ws");
        let bob = token("seminar", "bob")?;
        tokio::task::spawn_blocking(move || -> Result<()> {
            let mut browser = Browser::start()?;
            // Full-size video, in simulcast layers.
            browser.camera_size = None;
            // Anna takes the only seat of the home node; Chen is placed on the sister.
            browser.join(&gateway, "seminar", "anna")?;
            browser.wait("anna", "document.getElementById('where-short').textContent.includes('Denmark')", 45)?;
            browser.join(&gateway, "seminar", "chen")?;
            browser.wait_for_media("anna", 1)?;
            browser.wait_for_media("chen", 1)?;
            // The (i) changes live. The attributes name each participant's media node.
            browser.wait("anna", "document.getElementById('where-short').textContent.includes('Sweden')", 45)?;
            let node = "systirRoom().localParticipant.attributes['systir.node']";
            assert_eq!(browser.eval("anna", node)?, "cph-1");
            assert_eq!(browser.eval("chen", node)?, "sto-1");

            let mut native = NativeClient::join(
                &native_url,
                &bob,
                &["--publish", "--until-video", "2", "--until-audio", "2", "--send-data", "hello", "--hold"],
            )?;
            native.wait_for("done")?;
            browser.wait_for_media("anna", 2)?;
            browser.wait_for_media("chen", 2)?;
            browser.command(&serde_json::json!({"do": "click", "page": "chen", "selector": "#mic"}))?;
            let muted = "[...systirRoom().remoteParticipants.values()].some(p => p.name === 'chen' && !p.isMicrophoneEnabled)";
            browser.wait("anna", muted, 45)?;
            assert!(native.finish()?);
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
fn an_empty_room_is_removed_from_nodes_and_registry() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 2)]).await?;
        let report = systir_load::run(load(&cluster, "cph-1", "brief", "p", 2)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        let limit = std::time::Duration::from_secs(120);
        systir_tests::process::eventually("the registry removes the room", limit, || async {
            let answer = cluster.admin("cph-1", "rooms").await.ok()?;
            answer["rooms"].as_array()?.is_empty().then_some(())
        })
        .await?;
        // The record is removed before the rooms on the nodes are.
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
