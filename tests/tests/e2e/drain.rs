//! Nodes that are drained before they stop: a rolling restart under a meeting, the operator's commands, a second signal.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::browser::Browser;
use systir_tests::cluster::{Cluster, token};
use systir_tests::driven_client::DrivenClient;
use systir_tests::etcd::Etcd;
use systir_tests::load_balancer::LoadBalancer;
use systir_tests::native::NativeClient;
use systir_tests::participants::{Participants, wait_until_observer_receives};
use systir_tests::process::{built, eventually, output, port_block};
use systir_tests::scenario::{run_scenario, run_scenario_within};

use crate::node_failure::{assert_receives_video, load, wait_for_gauge, wait_until_complete};

const ROOM: &str = "senate";
const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];

/// Limit for one step.
const STEP: Duration = Duration::from_secs(60);

/// Seats of each node of the rolling restart: two nodes carry the whole meeting and an observer.
const SEATS: u32 = 8;

/// Changes the policy so that each node may be home, spill node and gateway.
fn approve_all_nodes(cluster: &Cluster) -> Result<()> {
    cluster.publish_rules(1, |rules| {
        rules
            .replace(
                "unless { resource.host_controlled_from in Zone::\"EEA\" };",
                "when { resource.host_controlled_from == Country::\"CN\" };",
            )
            .replace("resource.own_machine &&", "")
            .replace("resource.country == Country::\"DK\"", "resource.country in Zone::\"Nordic\"")
    })?;
    cluster.approve_keys()
}

async fn wait_until_ended(cluster: &mut Cluster, node: &str) -> Result<()> {
    let ended = async {
        while cluster.is_running(node) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STEP, ended).await.with_context(|| format!("{node} did not end"))?;
    ensure!(cluster.wait_for_exit(node)?, "{node} ended with a failure status");
    Ok(())
}

/// The sid of the room, as a node knows it.
async fn sid(cluster: &Cluster, node: &str) -> Result<String> {
    let rooms = cluster.admin(node, "rooms").await?;
    let room = rooms["rooms"].as_array().into_iter().flatten().find(|room| room["room"] == ROOM);
    Ok(room.context("the room has ended")?["sid"].as_str().unwrap_or_default().to_owned())
}

/// Anna and Chen use Chromium, Bo the native SDK, Gus the Go SDK.
struct Meeting {
    /// Each has a browser of its own: pages of one browser share its camera, which gives no more pictures to either when both
    /// open it anew at once, as they do when they reconnect.
    browsers: [(&'static str, Browser); 2],
    bo: NativeClient,
    gus: DrivenClient,
    rounds: u32,
}

impl Meeting {
    fn start(url: &str) -> Result<Self> {
        let mut browsers = [("anna", Browser::start()?), ("chen", Browser::start()?)];
        for (participant, browser) in &mut browsers {
            let participant = *participant;
            browser.join_with_token(url, ROOM, participant, &token(ROOM, participant)?)?;
            let record = "window.moves = []; window.since = 0;
                systirRoom().on('reconnecting', () => { since = performance.now(); });
                systirRoom().on('reconnected', () => { moves.push(Math.round(performance.now() - since)); });
                systirRoom().on('disconnected', (reason) => { moves.push(`disconnected: ${reason}`); });
                true";
            browser.eval(participant, record)?;
            // On a page of this size all tiles are in sight: adaptive stream pauses the others.
            browser.screenshot(participant, &format!("{participant}-before"), (1920, 1200))?;
        }
        let options = ["--publish", "--hold"];
        let mut bo = NativeClient::join(&url.replace("http", "ws"), &token(ROOM, "bo")?, &options)?;
        bo.wait_for("published")?;
        let mut gus = DrivenClient::go(url, &token(ROOM, "gus")?)?;
        gus.command("publish mic opus")?;
        gus.command("publish cam vp8")?;
        Ok(Self { browsers, bo, gus, rounds: 0 })
    }

    /// All decode new audio and video of each other, and messages of all arrive.
    fn all_see_and_hear_all(&mut self) -> Result<()> {
        for (participant, browser) in &mut self.browsers {
            let other = if *participant == "anna" { "chen" } else { "anna" };
            browser.wait_for_new_media(participant, &[other, "bo", "gus"], 10)?;
        }
        self.bo.wait_for_media(&["anna", "chen", "gus"], 10)?;
        self.rounds += 1;
        let text = format!("round-{}", self.rounds);
        self.bo.command(&json!({"do": "send", "text": text}))?;
        self.gus.wait_for("a message", |event| (event["text"] == *text).then_some(()))?;
        self.gus.command(&format!("data reliable {text}"))?;
        self.bo.wait_for_matching("data", |event| event["participant"] == "gus" && event["text"] == *text)?;
        Ok(())
    }

    /// How long each was away each time, in ms, by participant.
    fn moves(&mut self) -> Result<Vec<(&'static str, Vec<Value>)>> {
        let mut moves = Vec::new();
        for (participant, browser) in &mut self.browsers {
            let of = browser.eval(participant, "moves")?;
            moves.push((*participant, of.as_array().cloned().unwrap_or_default()));
        }
        let ended = |event: &&Value| event["event"] == "disconnected";
        ensure!(!self.bo.events.iter().any(|event| ended(&event)), "{:?}", self.bo.events);
        ensure!(self.gus.take("disconnected").is_empty(), "the Go SDK gave up");
        let back = self.bo.events.iter().filter(|event| event["event"] == "reconnected");
        moves.push(("bo", back.map(|event| event["ms"].clone()).collect()));
        moves.push((
            "gus",
            self.gus.take("reconnected").into_iter().map(|event| event["ms"].clone()).collect(),
        ));
        Ok(moves)
    }
}

#[test]
fn a_rolling_restart_of_three_nodes_under_a_meeting_drops_nobody() -> Result<()> {
    run_scenario_within(Duration::from_secs(400), async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &NODES.map(|node| (node, SEATS))).await?;
        approve_all_nodes(&cluster)?;
        for node in NODES {
            // As long as the load balancer takes to notice, and a deadline that nobody should reach.
            cluster.configure(node, |text| {
                text.replace("notice_seconds = 0", "notice_seconds = 1")
                    .replace("deadline_seconds = 10", "deadline_seconds = 120")
            })?;
            cluster.start(node)?;
        }
        cluster.wait_ready(&NODES).await?;
        let gateways = NODES.iter().map(|node| cluster.gateway(node)).collect::<Result<_>>()?;
        let balancer = LoadBalancer::start(gateways).await?;
        let url = balancer.url.clone();
        let through_balancer = |config: Config| Config { url: balancer.url.clone(), ..config };
        let crowd = Participants::join(through_balancer(load(&cluster, "cph-1", "crowd", 2))).await?;
        let mut meeting = tokio::task::spawn_blocking(move || {
            let mut meeting = Meeting::start(&url)?;
            meeting.all_see_and_hear_all()?;
            anyhow::Ok(meeting)
        })
        .await??;
        let before = sid(&cluster, "cph-1").await?;
        for node in NODES {
            let carried = cluster.counter(node, "systir_participants").await?;
            let relayed = cluster.counter(node, "systir_signal_streams").await?;
            let started = std::time::Instant::now();
            cluster.signal(node, "TERM")?;
            wait_until_ended(&mut cluster, node).await?;
            eprintln!(
                "{node}, with {carried} participants and {relayed} relayed streams, was drained in {:.1} s",
                started.elapsed().as_secs_f64()
            );
            meeting = tokio::task::spawn_blocking(move || {
                meeting.all_see_and_hear_all()?;
                anyhow::Ok(meeting)
            })
            .await??;
            wait_until_observer_receives(through_balancer(load(&cluster, node, "observer", 1)), 12, STEP)
                .await?;
            let other = NODES.into_iter().find(|other| *other != node).context("another node")?;
            assert_eq!(sid(&cluster, other).await?, before, "the same room goes on without {node}");
            cluster.start(node)?;
            cluster.wait_ready(&NODES).await?;
        }
        let (mut meeting, moves) = tokio::task::spawn_blocking(move || {
            let moves = meeting.moves()?;
            anyhow::Ok((meeting, moves))
        })
        .await??;
        let crowd = crowd.leave().await?;
        eprintln!(
            "away, ms, each time: {moves:?}; crowd p50 {:.0} p95 {:.0}",
            crowd.rejoin_p50_ms, crowd.rejoin_p95_ms
        );
        for (participant, times) in &moves {
            assert!(!times.is_empty() && times.iter().all(Value::is_number), "{participant}: {times:?}");
        }
        assert_eq!(crowd.joined, 2, "{crowd:?}");
        assert!(crowd.rejoined >= 2 && crowd.ended.is_empty(), "{crowd:?}");
        assert_eq!(crowd.tracks_received, crowd.tracks_expected, "{crowd:?}");
        assert_receives_video(&crowd);
        for node in NODES {
            assert_eq!(cluster.counter(node, "systir_draining").await?, 0, "{node} does not drain any more");
        }
        meeting.gus.send_line("leave")?;
        Ok(())
    })
}

/// Waits until a gateway shows that a node drains and carries nobody.
async fn wait_until_shown_as_drained(cluster: &Cluster, gateway: &str, node: &str) -> Result<()> {
    eventually(&format!("{gateway} shows that {node} is drained"), STEP, || async {
        let nodes = cluster.admin(gateway, "nodes").await.ok()?;
        let node = nodes["nodes"].as_array()?.iter().find(|shown| shown["node"] == node)?;
        (node["draining"] == true && node["participants"] == 0).then_some(())
    })
    .await
}

/// The commands of a page for operators: the lines of its `sh` blocks.
pub(crate) fn documented_commands(page: &str) -> Result<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// Runs a documented command in a shell, with the programs that were built and this cluster's addresses.
pub(crate) async fn run_documented(cluster: &Cluster, line: &str) -> Result<(bool, String)> {
    run_documented_with(cluster, line, |_| {}).await
}

/// The same after a change of the shell's environment.
pub(crate) async fn run_documented_with(
    cluster: &Cluster,
    line: &str,
    change: impl FnOnce(&mut Command),
) -> Result<(bool, String)> {
    let programs = built("systirctl")?.parent().context("no folder")?.to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-ec", line]).env("PATH", path);
    command.env("SYSTIR_URL", cluster.url("cph-1"));
    command.env("SYSTIR_API_KEY", "devkey").env("SYSTIR_API_SECRET", "secret");
    change(&mut command);
    let done = output(command, STEP).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    eprintln!("$ {line}\n{}{}", text(&done.stdout), text(&done.stderr));
    Ok((done.status.success(), text(&done.stdout)))
}

#[test]
fn the_documented_commands_drain_a_node_show_its_progress_and_undo_it() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 8), ("sto-1", 8)]).await?;
        let moved = Participants::join(load(&cluster, "sto-1", "moved", 2)).await?;
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 2).await?;
        let (mut drained, mut undone) = (0, 0);
        for line in documented_commands("drain.md")? {
            if line.starts_with("systirctl nodes") {
                for gateway in ["cph-1", "sto-1"] {
                    wait_until_shown_as_drained(&cluster, gateway, "cph-1").await?;
                }
            }
            let (succeeded, printed) = run_documented(&cluster, &line).await?;
            ensure!(succeeded, "{line} failed");
            if line.starts_with("systirctl drain") {
                drained += 1;
                let last = printed.lines().last().unwrap_or_default();
                ensure!(last.contains("drained"), "{line}: {printed}");
                assert_eq!(cluster.counter("cph-1", "systir_draining").await?, 1);
                assert_eq!(cluster.probe("cph-1", "/readyz").await?, 503);
                assert_eq!(cluster.probe("cph-1", "/healthz").await?, 200, "liveness stays");
                wait_for_gauge(&cluster, "sto-1", "systir_participants", 2).await?;
            } else if line.starts_with("systirctl undrain") {
                undone += 1;
                assert_eq!(cluster.counter("cph-1", "systir_draining").await?, 0);
                assert_eq!(cluster.probe("cph-1", "/readyz").await?, 200);
            } else if line.starts_with("systirctl nodes") {
                ensure!(printed.contains("drained"), "{printed}");
                // No new room: only cph-1 may be home of rooms of ku.dk.
                let (status, why) = cluster.validate("sto-1", "new", "late").await?;
                assert_eq!(status, 503, "{why}");
                assert!(why.contains("no-home"), "{why}");
            }
        }
        assert!(drained > 0 && undone > 0, "the page shows both");
        wait_until_complete(&cluster, "sto-1", 2).await?;
        let report = moved.leave().await?;
        eprintln!("away: {:?}", report.interruptions);
        assert_eq!((report.rejoined, report.ended.len()), (2, 0), "each was asked once: {report:?}");
        assert_eq!(report.nodes.get("sto-1"), Some(&2), "{report:?}");
        assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        Ok(())
    })
}

#[test]
fn a_second_signal_ends_a_drain_at_once() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[]).await?;
        cluster
            .configure("cph-1", |text| text.replace("deadline_seconds = 10", "deadline_seconds = 3600"))?;
        cluster.start("cph-1")?;
        cluster.wait_ready(&["cph-1"]).await?;
        let alone = Participants::join(load(&cluster, "cph-1", "alone", 2)).await?;
        cluster.signal("cph-1", "TERM")?;
        eventually("the operator is told", STEP, || async {
            let told = cluster.log("cph-1").ok()?.contains("no approved node has a free seat");
            told.then_some(())
        })
        .await?;
        assert_eq!(cluster.counter("cph-1", "systir_participants").await?, 2, "they stay");
        assert_eq!(cluster.counter_with("cph-1", "systir_drain_waiting", "what=\"seat\"").await?, 2);
        assert!(cluster.is_running("cph-1"));
        cluster.signal("cph-1", "TERM")?;
        wait_until_ended(&mut cluster, "cph-1").await?;
        assert!(cluster.log("cph-1")?.contains("a second signal"));
        drop(alone);
        Ok(())
    })
}
