//! Nodes whose wall clock is wrong: by less than 5 min nobody notices it; by more, the node is refused, with the reason.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use systir_tests::cluster::{Cluster, token};
use systir_tests::etcd::Etcd;
use systir_tests::meeting::{Member, wait_until_all_hear};
use systir_tests::ports::port_block;
use systir_tests::process::{built, eventually, output};
use systir_tests::scenario::run_scenario;
use systir_tests::scripted::{ScriptedClient, ScriptedCodec};
use systir_tests::wrong_clock::WrongClock;

use crate::node_failure::wait_for_gauge;
use crate::revoked_home::{any_nordic_home, room_at_home};

const LIMIT: Duration = Duration::from_secs(45);
/// The two nodes of the meetings.
const MEETING: [&str; 2] = ["cph-1", "sto-1"];

/// Meetings that may be interrupted.
const MEETINGS: u32 = 3;

/// Seconds. Clocks may differ by 5 min.
const LESS_THAN_5_MIN: i64 = 290;
const MORE_THAN_5_MIN: i64 = 310;
const DAYS_30: i64 = 30 * 24 * 3600;
const STEPS_BACK: [i64; 2] = [MORE_THAN_5_MIN, DAYS_30];

/// A node for each of these seats, not started.
async fn prepare(seats: &[(&str, u32)]) -> Result<(Etcd, Cluster)> {
    let base = port_block()?;
    let etcd = Etcd::start(base + 20).await?;
    let cluster = Cluster::prepare(&etcd.url(), base, seats).await?;
    Ok((etcd, cluster))
}

/// Starts the nodes of the meetings. The clock of the first one is right.
async fn start(cluster: &mut Cluster, nodes: [&str; 2]) -> Result<()> {
    for node in nodes {
        cluster.start(node)?;
    }
    cluster.wait_ready_as_seen_by(nodes[0], &nodes).await?;
    // Until then, the first node may still count the participants of the processes before.
    eventually("all seats are free", LIMIT, || async {
        let answer = cluster.admin(nodes[0], "nodes").await.ok()?;
        let mut all = answer["nodes"].as_array()?.iter();
        let is_ours = |one: &serde_json::Value| nodes.iter().any(|node| one["node"] == *node);
        all.all(|one| !is_ours(one) || one["participants"] == 0).then_some(())
    })
    .await
}

async fn speaker(cluster: &Cluster, gateway: &str, room: &str, identity: &str) -> Result<Member> {
    Member::join(cluster, gateway, room, identity, &[ScriptedCodec::Opus]).await
}

/// Epoch and home of the room's grant, as a node follows it.
async fn home(cluster: &Cluster, node: &str, room: &str) -> Result<(u64, String)> {
    let residency = cluster.residency(node, room).await?;
    let grant = &residency["grant"];
    let home = grant["home"].as_str().context("no grant")?;
    Ok((grant["epoch"].as_u64().context("no epoch")?, home.to_owned()))
}

/// All receive each other's media now, and nobody was interrupted.
async fn goes_on(members: &mut [Member]) -> Result<()> {
    for member in members.iter() {
        member.client.clear_packets();
    }
    wait_until_all_hear(members).await?;
    for member in members {
        ensure!(!member.was_interrupted(), "{} was interrupted", member.identity);
    }
    Ok(())
}

/// A token that was made when the wrong clock was right.
async fn token_of_then(cluster: &Cluster, seconds: i64, room: &str, identity: &str) -> Result<String> {
    let mut command = Command::new(built("systirctl")?);
    command.args(["token", "create", "--room", room, "--identity", identity]);
    WrongClock::new(cluster.folder().join("token.clock"), seconds)?.give_to(&mut command);
    let output = output(command, LIMIT).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What a node counts under this reason. Before the first time there is no such metric.
async fn counted(cluster: &Cluster, node: &str, metric: &str, reason: &str) -> u64 {
    cluster.counter_with(node, metric, &format!("reason=\"{reason}\"")).await.unwrap_or_default()
}

async fn refused_tickets(cluster: &Cluster, node: &str) -> u64 {
    counted(cluster, node, "systir_ticket_refusals_total", "ticket-not-current").await
}

async fn assert_refused(cluster: &Cluster, node: &str, token: &str, status: u16, reason: &str) -> Result<()> {
    let refused = ScriptedClient::join(&cluster.url(node), token, "").await;
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(text.starts_with(&status.to_string()) && text.contains(reason), "{reason} at {node}: {text:?}");
    Ok(())
}

/// Participants of two nodes meet, through the gateway with the right clock and, if tokens count there, through the other
/// one. False: one was interrupted.
async fn meet(cluster: &Cluster, right: &str, wrong: &str, seconds: i64, meeting: u32) -> Result<bool> {
    let room = format!("meeting{seconds}-{wrong}-{meeting}");
    let mut members =
        vec![speaker(cluster, right, &room, "anna").await?, speaker(cluster, right, &room, "bob").await?];
    let at = [0, 1].map(|index| members[index].client.node.as_str());
    assert_eq!(at, MEETING, "{wrong} {seconds}");
    if seconds > 0 {
        members.push(speaker(cluster, wrong, &room, "chen").await?);
    } else {
        // A token counts from its time of issue; as in LiveKit, clocks may differ by a minute.
        assert_refused(cluster, wrong, &token(&room, "chen")?, 401, "token-not-yet-valid").await?;
    }
    let met = wait_until_all_hear(&members).await;
    if members.iter_mut().any(Member::was_interrupted) {
        drop(members);
        wait_for_gauge(cluster, "cph-1", "systir_participants", 0).await?;
        return Ok(false);
    }
    met.map(|()| true)
}

#[test]
fn a_node_whose_clock_is_less_than_5_min_off_meets_the_others_as_usual() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = prepare(&[("cph-1", 1), ("sto-1", 4)]).await?;
        let cases = MEETING.map(|node| [(node, LESS_THAN_5_MIN), (node, -LESS_THAN_5_MIN)]).concat();
        for (node, seconds) in cases {
            let right = if node == "cph-1" { "sto-1" } else { "cph-1" };
            MEETING.iter().for_each(|node| cluster.kill(node));
            cluster.set_clock(node, seconds)?;
            cluster.set_clock(right, 0)?;
            start(&mut cluster, [right, node]).await?;
            // A machine that stalls for over a second ends relayed signalling, as a lost node does: they meet again.
            let mut meetings = 0;
            while !meet(&cluster, right, node, seconds, meetings).await? {
                meetings += 1;
                ensure!(meetings < MEETINGS, "{node} {seconds}: interrupted each time");
            }
            for node in MEETING {
                assert_eq!(refused_tickets(&cluster, node).await, 0, "{node} {seconds}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_node_whose_clock_is_30_days_back_gets_nothing_until_it_is_right() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = prepare(&[("cph-1", 3), ("sto-1", 4)]).await?;
        // The wrong node is a possible home, too.
        cluster.publish_rules(1, any_nordic_home)?;
        cluster.set_clock("sto-1", -DAYS_30)?;
        start(&mut cluster, MEETING).await?;
        // The first choice for the home of one room is the wrong node.
        let at_home = async |node| room_at_home(node, async |path| cluster.admin("cph-1", path).await).await;
        let rooms = [at_home("cph-1").await?, at_home("sto-1").await?];
        let mut members = vec![
            speaker(&cluster, "cph-1", &rooms[0], "anna").await?,
            speaker(&cluster, "cph-1", &rooms[0], "bob").await?,
        ];
        let mut dora = [speaker(&cluster, "cph-1", &rooms[1], "dora").await?];
        for room in &rooms {
            assert_eq!(home(&cluster, "cph-1", room).await?, (1, "cph-1".to_owned()));
            // The home is full, and the other node takes no connection: certificates are not valid yet by its clock.
            let fresh = token(room, "chen")?;
            assert_refused(&cluster, "cph-1", &fresh, 503, "approved-unavailable").await?;
            assert_refused(&cluster, "sto-1", &fresh, 401, "token-not-yet-valid").await?;
            // A participant has a token of that time.
            let old = token_of_then(&cluster, -DAYS_30, room, "eve").await?;
            assert_refused(&cluster, "sto-1", &old, 503, "approved-unavailable").await?;
            assert_eq!(home(&cluster, "cph-1", room).await?, (1, "cph-1".to_owned()), "no other home");
        }
        let identities = "systir_link_identities_refused_total";
        ensure!(counted(&cluster, "sto-1", identities, "tls-handshake").await > 0, "it counts why");
        ensure!(cluster.log("sto-1")?.contains("certificate not valid yet"), "its log says why");
        assert_eq!(cluster.counter("sto-1", "systir_participants").await?, 0);
        ensure!(!cluster.log("cph-1")?.contains("a link is up"), "no link with it");
        goes_on(&mut members).await?;
        goes_on(&mut dora).await?;

        cluster.set_clock("sto-1", 0)?;
        eventually("the node is used as soon as its clock is right", LIMIT, || async {
            (cluster.validate("cph-1", &rooms[0], "chen").await.ok()?.0 == 200).then_some(())
        })
        .await?;
        cluster.kill("sto-1");
        cluster.start("sto-1")?;
        cluster.wait_ready_as_seen_by(MEETING[0], &MEETING).await?;
        members.push(speaker(&cluster, "cph-1", &rooms[0], "chen").await?);
        assert_eq!(members[2].client.node, "sto-1");
        goes_on(&mut members).await?;
        assert_eq!(home(&cluster, "sto-1", &rooms[0]).await?, (1, "cph-1".to_owned()));
        Ok(())
    })
}

#[test]
fn a_clock_that_steps_back_during_a_meeting_interrupts_nobody() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = prepare(&[("cph-1", 3), ("sto-1", 6)]).await?;
        cluster.set("policy", "grant_seconds", "10")?;
        for node in MEETING {
            cluster.set_clock(node, 0)?;
        }
        start(&mut cluster, MEETING).await?;
        let room = "senate";
        let mut members = Vec::new();
        for identity in ["anna", "filler-1", "filler-2", "bob"] {
            members.push(speaker(&cluster, "cph-1", room, identity).await?);
        }
        assert_eq!(members[3].client.node, "sto-1");
        members.drain(1..3);
        wait_for_gauge(&cluster, "cph-1", "systir_participants", 1).await?;
        // The clock of neither node is wrong before each has seen the other's participants.
        goes_on(&mut members).await?;

        // The spill node. Its home still has a seat for those who join.
        for seconds in STEPS_BACK {
            cluster.set_clock("sto-1", -seconds)?;
            goes_on(&mut members).await?;
            assert_refused(&cluster, "sto-1", &token(room, "chen")?, 401, "token-not-yet-valid").await?;
            let refused = refused_tickets(&cluster, "sto-1").await;
            let chen = speaker(&cluster, "cph-1", room, "chen").await?;
            assert_eq!(chen.client.node, "cph-1");
            chen.wait_until_hears(&members[0]).await?;
            chen.wait_until_hears(&members[1]).await?;
            // The node with the wrong clock does not show it.
            eventually("sto-1 refuses the ticket of chen", LIMIT, || async {
                (refused_tickets(&cluster, "sto-1").await > refused).then_some(())
            })
            .await?;
            drop(chen);
            wait_for_gauge(&cluster, "cph-1", "systir_participants", 1).await?;
            goes_on(&mut members).await?;
        }
        cluster.set_clock("sto-1", 0)?;

        // The home, which renews the grant with the wrong time. The other node counts it from its receipt.
        for seconds in STEPS_BACK {
            cluster.set_clock("cph-1", -seconds)?;
            let signed = cluster.counter("cph-1", "systir_grants_signed_total").await?;
            assert_refused(&cluster, "cph-1", &token(room, "chen")?, 401, "token-not-yet-valid").await?;
            let refused = refused_tickets(&cluster, "cph-1").await;
            assert_refused(&cluster, "sto-1", &token(room, "chen")?, 503, "approved-unavailable").await?;
            ensure!(refused_tickets(&cluster, "cph-1").await > refused, "cph-1 counts the reason");
            eventually("the grant is renewed twice", LIMIT, || async {
                (cluster.counter("cph-1", "systir_grants_signed_total").await.ok()? > signed + 1)
                    .then_some(())
            })
            .await?;
            goes_on(&mut members).await?;
            assert_eq!(home(&cluster, "sto-1", room).await?, (1, "cph-1".to_owned()));
            assert_eq!(cluster.counter("sto-1", "systir_grants_ended").await?, 0);
        }
        cluster.set_clock("cph-1", 0)?;
        members.push(speaker(&cluster, "sto-1", room, "dora").await?);
        goes_on(&mut members).await
    })
}
