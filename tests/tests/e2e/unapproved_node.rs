//! A machine that nobody approved gets nothing, counted outside of every relay: the kernel counts
//! the packets at its ports, in a network that holds the three relays, their etcd and their people.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::cluster::{Cluster, token};
use systir_tests::network_namespace::{Counters, inside, play_inside};
use systir_tests::participants::Crowd;
use systir_tests::process::eventually;
use systir_tests::raw_signalling::Signalling;
use systir_tests::scenario::{play, play_within};

const CLOUD: &str = "aws-sto-1";

/// For each node, packets to and from its ports of links, of media and of signalling.
fn ruleset(cluster: &Cluster) -> String {
    let mut counters = String::new();
    let mut rules = String::new();
    for node in ["cph-1", "sto-1", CLOUD] {
        let name = node.replace('-', "_");
        let port = |offset| cluster.port(node, offset);
        let uses = [
            ("links", "udp", port(0)),
            ("control", "tcp", port(1)),
            ("media", "udp", port(12)),
            ("signalling", "tcp", port(10)),
        ];
        for (what, protocol, port) in uses {
            counters += &format!("counter {name}_{what} {{}}\n");
            for end in ["dport", "sport"] {
                rules += &format!("{protocol} {end} {port} counter name {name}_{what}\n");
            }
        }
    }
    format!(
        "table inet systir {{
            {counters}
            chain seen {{ type filter hook input priority 0; policy accept;
                {rules} }}
        }}"
    )
}

/// What must be zero at the cloud's machine whatever happens elsewhere.
async fn is_idle(cluster: &Cluster, packets: &Counters) -> Result<()> {
    for what in ["links", "control", "media"] {
        assert_eq!(packets.packets(&format!("aws_sto_1_{what}"))?, 0, "packets at its port of {what}");
    }
    for counter in [
        "systir_datagrams_in_total",
        "systir_datagrams_out_total",
        "systir_link_in_total",
        "systir_link_out_total",
        "systir_links",
        "systir_rooms",
        "systir_participants",
        "systir_signal_websockets",
        "systir_signal_streams",
        "systir_signal_messages_total",
    ] {
        assert_eq!(cluster.counter(CLOUD, counter).await?, 0, "its own counter {counter}");
    }
    Ok(())
}

async fn with_all_full_nothing_comes_to_the_cloud() -> Result<()> {
    let (_etcd, cluster) = Cluster::three(&[("cph-1", 2), ("sto-1", 2), (CLOUD, 50)]).await?;
    let packets = Counters::load(&ruleset(&cluster))?;
    let people = |prefix: &str, count, seconds| Config {
        url: cluster.url("cph-1"),
        room: "lecture".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        duration: Duration::from_secs(seconds),
        no_rejoin: true,
        ..Config::default()
    };
    let meeting = Crowd::come(people("first", 4, 8)).await?;
    eventually("home and sister are full", Duration::from_secs(30), || async {
        let home = cluster.counter("cph-1", "systir_participants").await.ok()?;
        let sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
        (home == 2 && sister == 2).then_some(())
    })
    .await?;
    // Ten more who would fit there easily.
    let late = systir_load::run(people("late", 10, 1)).await?;
    assert_eq!(late.joined, 0, "{late:?}");
    let reasons: Vec<&str> = late.refused.iter().map(|group| group.reason.as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("ku.dk") && reason.contains("full")), "{reasons:?}");
    let report = meeting.go().await?;
    assert_eq!(report.joined, 4, "{report:?}");
    assert_eq!(report.tracks_heard, report.tracks_expected, "{report:?}");

    // The counters count: the same kinds of packets were there at the approved nodes.
    for counter in ["cph_1_links", "cph_1_media", "cph_1_signalling", "sto_1_links", "sto_1_media"] {
        assert!(packets.packets(counter)? > 0, "{counter}: {}", packets.packets(counter)?);
    }
    // Either end may dial the link, so control packets are at the port of either node.
    assert!(packets.packets("cph_1_control")? + packets.packets("sto_1_control")? > 0);
    assert_eq!(packets.packets("aws_sto_1_signalling")?, 0, "nobody was sent to its door");
    is_idle(&cluster, &packets).await?;

    // Whoever goes there by itself is refused at the door, and nothing follows from it.
    let away = Signalling::open(&cluster.url(CLOUD), &token("lecture", "eve")?).await?.err();
    let away = away.context("let in by a machine that nobody approved")?;
    assert_eq!(away.status, 403);
    assert!(away.words.contains("controlled from US"), "{away:?}");
    assert!(packets.packets("aws_sto_1_signalling")? > 0, "its door was counted");
    let straight = Config { url: cluster.url(CLOUD), ..people("eve", 3, 1) };
    assert_eq!(systir_load::run(straight).await?.joined, 0);
    is_idle(&cluster, &packets).await
}

#[test]
fn a_machine_that_nobody_approved_gets_no_packet() -> Result<()> {
    let limit = Duration::from_secs(120);
    if inside() {
        return play_within(limit, with_all_full_nothing_comes_to_the_cloud());
    }
    play(async move {
        let name = "unapproved_node::a_machine_that_nobody_approved_gets_no_packet";
        tokio::task::spawn_blocking(move || play_inside(name, limit)).await?
    })
}
