//! A node that policy does not approve gets no packet. The kernel counts packets at its ports, outside
//! of every relay, in a network namespace with the three relays, their etcd and their clients.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::cluster::{Cluster, token};
use systir_tests::network_namespace::{PacketCounters, in_namespace, run_in_namespace};
use systir_tests::participants::Participants;
use systir_tests::process::eventually;
use systir_tests::raw_signalling::RawSignalling;
use systir_tests::scenario::{run_scenario, run_scenario_within};

pub(crate) const UNAPPROVED: &str = "aws-sto-1";

/// nftables rules that count, for each node, packets to and from its ports of links, media and
/// signalling, and all packets to and from the address of its links, where it has one of its own.
pub(crate) fn ruleset(cluster: &Cluster) -> String {
    let mut counters = String::new();
    let mut rules = String::new();
    for node in ["cph-1", "sto-1", UNAPPROVED] {
        let name = node.replace('-', "_");
        let port = |offset| cluster.port(node, offset);
        let uses = [
            ("links", "udp", port(0)),
            ("control", "tcp", port(1)),
            ("media", "udp", port(12)),
            ("signalling", "tcp", port(10)),
        ];
        counters += &format!("counter {name}_address {{}}\n");
        for end in ["daddr", "saddr"] {
            rules += &format!("ip {end} {} counter name {name}_address\n", Cluster::link_address(node));
        }
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

/// Checks the counters that must stay zero at the unapproved node.
pub(crate) async fn assert_idle(cluster: &Cluster, packets: &PacketCounters) -> Result<()> {
    for what in ["links", "control", "media"] {
        assert_eq!(packets.packets(&format!("aws_sto_1_{what}"))?, 0, "packets at its {what} port");
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
        assert_eq!(cluster.counter(UNAPPROVED, counter).await?, 0, "its own counter {counter}");
    }
    Ok(())
}

async fn with_all_approved_nodes_full_the_unapproved_node_gets_no_packet() -> Result<()> {
    let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 2), ("sto-1", 2), (UNAPPROVED, 50)]).await?;
    let packets = PacketCounters::load(&ruleset(&cluster))?;
    let load = |prefix: &str, count, seconds| Config {
        url: cluster.url("cph-1"),
        room: "lecture".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        duration: Duration::from_secs(seconds),
        no_rejoin: true,
        ..Config::default()
    };
    let meeting = Participants::join(load("first", 4, 8)).await?;
    eventually("home and sister are full", Duration::from_secs(30), || async {
        let home = cluster.counter("cph-1", "systir_participants").await.ok()?;
        let sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
        (home == 2 && sister == 2).then_some(())
    })
    .await?;
    // Ten more participants, for whom the unapproved node has seats.
    let late = systir_load::run(load("late", 10, 1)).await?;
    assert_eq!(late.joined, 0, "{late:?}");
    let reasons: Vec<&str> = late.refused.iter().map(|group| group.reason.as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("ku.dk") && reason.contains("full")), "{reasons:?}");
    let report = meeting.leave().await?;
    assert_eq!(report.joined, 4, "{report:?}");
    assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");

    // The counters work: the approved nodes have such packets.
    for counter in ["cph_1_links", "cph_1_media", "cph_1_signalling", "sto_1_links", "sto_1_media"] {
        assert!(packets.packets(counter)? > 0, "{counter}: {}", packets.packets(counter)?);
    }
    // Either end may dial the link, so control packets are at one of the two ports.
    assert!(packets.packets("cph_1_control")? + packets.packets("sto_1_control")? > 0);
    assert_eq!(packets.packets("aws_sto_1_signalling")?, 0, "no client was sent to its gateway");
    assert_idle(&cluster, &packets).await?;

    // A client that connects to it directly is refused at its gateway, with no further effect.
    let refusal = RawSignalling::open(&cluster.url(UNAPPROVED), &token("lecture", "eve")?).await?.err();
    let refusal = refusal.context("an unapproved node accepted a join")?;
    assert_eq!(refusal.status, 403);
    assert!(refusal.text.contains("controlled from US"), "{refusal:?}");
    assert!(packets.packets("aws_sto_1_signalling")? > 0, "its gateway's packets are counted");
    let direct = Config { url: cluster.url(UNAPPROVED), ..load("eve", 3, 1) };
    assert_eq!(systir_load::run(direct).await?.joined, 0);
    assert_idle(&cluster, &packets).await
}

#[test]
fn an_unapproved_node_gets_no_packet() -> Result<()> {
    let limit = Duration::from_secs(120);
    if in_namespace() {
        return run_scenario_within(limit, with_all_approved_nodes_full_the_unapproved_node_gets_no_packet());
    }
    run_scenario(async move {
        let name = "unapproved_node::an_unapproved_node_gets_no_packet";
        tokio::task::spawn_blocking(move || run_in_namespace(name, limit)).await?
    })
}
