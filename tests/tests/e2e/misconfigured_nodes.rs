//! What an operator or a false neighbour gets wrong: a misspelt configuration, nodes whose
//! certificates nobody trusts, an etcd that is not where it should be.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use systir_identity::{TrustDomain, ca};
use systir_load::{Config, Report};
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::process::{built, eventually, port_block};
use systir_tests::scenario::play;

fn people(door: &str, room: &str, count: usize) -> Config {
    Config {
        url: door.to_owned(),
        room: room.to_owned(),
        participants: count,
        audio: true,
        duration: Duration::from_secs(1),
        no_rejoin: true,
        ..Config::default()
    }
}

fn reasons(report: &Report) -> String {
    report.refused.iter().map(|group| group.reason.as_str()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_misspelt_configuration_is_refused_by_the_name_of_the_fault() -> Result<()> {
    play(async {
        let cluster = Cluster::prepared("http://127.0.0.1:1", port_block()?, &[]).await?;
        let good = std::fs::read_to_string(cluster.folder().join("cph-1.toml"))?;
        let cases = [
            ("a misspelt key", good.replace("capacity =", "capasity ="), "capasity"),
            ("a misspelt section", good.replace("[media]", "[medai]"), "medai"),
            ("no TOML", good.replace("[http]", "[http"), "unclosed table"),
            (
                "a port of no number",
                good.replace("listen = \"127.0.0.1:", "listen = \"127.0.0.1:x"),
                "listen",
            ),
            ("a file that is not there", good.replace("zones.toml", "zoens.toml"), "zoens.toml"),
            ("rules that are none", good.replace("floor.cedar", "nodes.toml"), "it does not parse"),
            ("another node's certificate", good.replace("cph-1.pem", "sto-1.pem"), "certificate"),
            ("a key of nobody", good.replace("institution = \"ku.dk\"", "institution = \"ku.kd\""), "ku.kd"),
        ];
        let file = cluster.folder().join("changed.toml");
        for (what, text, fault) in cases {
            assert_ne!(text, good, "{what}");
            std::fs::write(&file, text)?;
            let check = ["check", "--config"];
            let run =
                Command::new(built("systir-relay")?).args(check).arg(&file).stdin(Stdio::null()).output()?;
            let words = String::from_utf8_lossy(&run.stderr).into_owned();
            assert_eq!(run.status.code(), Some(64), "{what}: {words}");
            assert!(words.contains(fault), "{what}: {words}");
            assert!(!words.contains("panicked"), "{what}: {words}");
        }
        std::fs::write(&file, &good)?;
        let run = Command::new(built("systir-relay")?).args(["check", "--config"]).arg(&file).output()?;
        assert!(run.status.success(), "the good one is good: {run:?}");
        // The node itself refuses to start, too.
        std::fs::write(&file, good.replace("capacity =", "capasity ="))?;
        let run = Command::new(built("systir-relay")?).arg("--config").arg(&file).output()?;
        assert_eq!(run.status.code(), Some(64), "{run:?}");
        Ok(())
    })
}

/// A cluster in which the sister has another certificate than the home expects, and the home has
/// room for two. Nobody may come to be on both.
async fn with_false_sister(mend: impl FnOnce(&std::path::Path) -> Result<()>) -> Result<Cluster> {
    let base = port_block()?;
    let etcd = Etcd::start(base + 20).await?;
    let mut cluster = Cluster::prepared(&etcd.url(), base, &[("cph-1", 2)]).await?;
    mend(&cluster.folder())?;
    for node in ["cph-1", "sto-1"] {
        cluster.start(node)?;
    }
    cluster.ready(&["cph-1", "sto-1"]).await?;

    // The home asks the false sister for a seat and does not believe who answers.
    let report = systir_load::run(people(&cluster.url("cph-1"), "board", 3)).await?;
    assert_eq!(report.joined, 2, "{report:?}");
    assert!(!report.nodes.contains_key("sto-1"), "{report:?}");
    assert!(!reasons(&report).is_empty(), "the third one hears why: {report:?}");
    // The false sister asks the home, and the home does not believe it either.
    let report = systir_load::run(people(&cluster.url("sto-1"), "council", 1)).await?;
    assert!(!report.nodes.contains_key("cph-1"), "{report:?}");
    for node in ["cph-1", "sto-1"] {
        // Packets of media; a link may stand, and no room is opened on it.
        for counter in ["systir_link_in_total", "systir_link_out_total"] {
            assert_eq!(cluster.counter(node, counter).await?, 0, "{node}: {counter}");
        }
        assert!(cluster.runs(node), "{node} lives");
        assert!(!cluster.log(node)?.contains("panicked"), "{node}");
    }
    // The home goes on, once the seats of those who left are free.
    eventually("the home is empty", Duration::from_secs(30), || async {
        (cluster.counter("cph-1", "systir_seats_used").await.ok()? == 0).then_some(())
    })
    .await?;
    let report = systir_load::run(people(&cluster.url("cph-1"), "later", 2)).await?;
    assert_eq!(report.joined, 2, "{report:?}");
    Ok(cluster)
}

#[test]
fn a_node_with_a_certificate_of_an_unknown_ca_gets_no_link() -> Result<()> {
    play(async {
        let cluster = with_false_sister(|folder| {
            let domain = TrustDomain::new("nordu.net")?;
            // It calls itself what it should; only nobody knows who signed that.
            let stranger = ca::create(&domain, SystemTime::now())?;
            let lifetime = Duration::from_secs(3600);
            let issued = ca::issue(&stranger, &domain.relay("sto-1")?, SystemTime::now(), lifetime)?;
            std::fs::write(folder.join("sto-1.pem"), issued.certificate)?;
            std::fs::write(folder.join("sto-1.key"), issued.key)?;
            Ok(())
        })
        .await?;
        for node in ["cph-1", "sto-1"] {
            assert_eq!(cluster.counter(node, "systir_links").await?, 0, "{node}");
        }
        Ok(())
    })
}

#[test]
fn a_node_with_another_id_than_the_operator_wrote_down_gets_no_room() -> Result<()> {
    play(async {
        let cluster = with_false_sister(|folder| {
            // The cluster's own CA did issue it, to a machine that is on nobody's list.
            let authority = ca::Pem {
                certificate: std::fs::read_to_string(folder.join("ca.pem"))?,
                key: std::fs::read_to_string(folder.join("ca.key"))?,
            };
            let id = TrustDomain::new("nordu.net")?.relay("stranger")?;
            let issued = ca::issue(&authority, &id, SystemTime::now(), Duration::from_secs(3600))?;
            std::fs::write(folder.join("sto-1.pem"), issued.certificate)?;
            std::fs::write(folder.join("sto-1.key"), issued.key)?;
            // Only its own list says that this is the sister.
            let nodes = std::fs::read_to_string(folder.join("nodes.toml"))?;
            let lie = nodes.replace("spiffe://nordu.net/relay/sto-1", id.as_str());
            std::fs::write(folder.join("own-nodes.toml"), lie)?;
            let config = std::fs::read_to_string(folder.join("sto-1.toml"))?;
            std::fs::write(folder.join("sto-1.toml"), config.replace("nodes.toml", "own-nodes.toml"))?;
            Ok(())
        })
        .await?;
        let log = cluster.log("cph-1")?;
        assert!(log.contains("relay/stranger's, and spiffe://nordu.net/relay/sto-1 was to answer"), "{log}");
        assert!(!log.contains("a link is up"), "not for a moment: {log}");
        Ok(())
    })
}

#[test]
fn a_node_whose_etcd_is_not_there_starts_says_so_and_goes_on_asking() -> Result<()> {
    play(async {
        let base = port_block()?;
        let etcd_port = base + 20;
        let address = format!("http://127.0.0.1:{etcd_port}");
        let mut cluster = Cluster::prepared(&address, base, &[]).await?;
        cluster.start("cph-1")?;
        let health = format!("http://127.0.0.1:{}/healthz", cluster.port("cph-1", 2));
        eventually("the node lives", Duration::from_secs(30), || async {
            reqwest::get(&health).await.ok().filter(|answer| answer.status().is_success())
        })
        .await?;
        eventually("the log says that etcd is away", Duration::from_secs(30), || async {
            cluster.log("cph-1").ok()?.contains("etcd does not answer").then_some(())
        })
        .await?;
        let answer = eventually("operators hear it", Duration::from_secs(30), || async {
            cluster.admin("cph-1", "nodes").await.ok()
        })
        .await?;
        assert!(answer["registry"].as_str().context("no state")?.starts_with("away"), "{answer}");
        let report = systir_load::run(people(&cluster.url("cph-1"), "early", 1)).await?;
        assert_eq!(report.joined, 0, "{report:?}");
        assert!(reasons(&report).contains("registry"), "whoever comes hears it: {report:?}");

        // It was only late.
        let _etcd = Etcd::start(etcd_port).await?;
        cluster.ready(&["cph-1"]).await?;
        let report = systir_load::run(people(&cluster.url("cph-1"), "later", 2)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        assert!(cluster.runs("cph-1") && !cluster.log("cph-1")?.contains("panicked"));
        Ok(())
    })
}
