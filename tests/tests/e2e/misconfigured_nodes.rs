//! Misconfigured nodes: a misspelt configuration, certificates that the other nodes do not accept, an
//! etcd that does not run, a machine that is not set up.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use systir_documents::{Directory, SigningKey};
use systir_identity::{TrustDomain, ca};
use systir_load::{Config, Report};
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::process::{ChildProcess, built, eventually, log_file, output, port_block};
use systir_tests::scenario::{artefacts, run_scenario};
use systir_tests::wrong_clock::WrongClock;

fn load(gateway: &str, room: &str, count: usize) -> Config {
    Config {
        url: gateway.to_owned(),
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
fn a_misspelt_configuration_is_refused_and_the_error_names_the_fault() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::prepare("http://127.0.0.1:1", port_block()?, &[]).await?;
        let good = std::fs::read_to_string(cluster.folder().join("cph-1.toml"))?;
        let documents = cluster.documents()?;
        let (institution, operator) =
            (documents.institution_key().public().to_string(), documents.operator_key().public().to_string());
        let cases = [
            ("a misspelt key", good.replace("capacity =", "capasity ="), "capasity"),
            ("a misspelt section", good.replace("[media]", "[medai]"), "medai"),
            ("invalid TOML", good.replace("[http]", "[http"), "unclosed table"),
            (
                "a port that is no number",
                good.replace("listen = \"127.0.0.1:", "listen = \"127.0.0.1:x"),
                "listen",
            ),
            ("a file that is not there", good.replace("cph-1.node-key", "cph-l.node-key"), "cph-l.node-key"),
            ("a folder without documents", good.replace("\"documents\"", "\"dokuments\""), "dokuments"),
            (
                "the key of another institution",
                good.replace(&institution, &operator),
                "no key that this node",
            ),
            ("another node's key", good.replace("cph-1.node-key", "sto-1.node-key"), "node.key"),
            ("another node's certificate", good.replace("cph-1.pem", "sto-1.pem"), "certificate"),
            (
                "a key of an unknown institution",
                good.replace("institution = \"ku.dk\"", "institution = \"ku.kd\""),
                "ku.kd",
            ),
        ];
        let file = cluster.folder().join("changed.toml");
        for (what, text, fault) in cases {
            assert_ne!(text, good, "{what}");
            std::fs::write(&file, text)?;
            let check = ["check", "--config"];
            let run =
                Command::new(built("systir-relay")?).args(check).arg(&file).stdin(Stdio::null()).output()?;
            let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
            assert_eq!(run.status.code(), Some(64), "{what}: {stderr}");
            assert!(stderr.contains(fault), "{what}: {stderr}");
            assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        }
        std::fs::write(&file, &good)?;
        let run = Command::new(built("systir-relay")?).args(["check", "--config"]).arg(&file).output()?;
        assert!(run.status.success(), "the unchanged configuration is valid: {run:?}");
        // The node does not start with a faulty one either.
        std::fs::write(&file, good.replace("capacity =", "capasity ="))?;
        let run = Command::new(built("systir-relay")?).arg("--config").arg(&file).output()?;
        assert_eq!(run.status.code(), Some(64), "{run:?}");
        Ok(())
    })
}

/// Starts a cluster in which the sister's certificate is not the one that the home node expects, and
/// checks that no room is carried by both. The home node has two seats.
async fn with_rejected_sister(change: impl FnOnce(&Cluster) -> Result<()>) -> Result<Cluster> {
    let base = port_block()?;
    let etcd = Etcd::start(base + 20).await?;
    let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 2)]).await?;
    change(&cluster)?;
    for node in ["cph-1", "sto-1"] {
        cluster.start(node)?;
    }
    cluster.wait_ready(&["cph-1", "sto-1"]).await?;

    // The home node asks the sister for a seat and rejects its certificate.
    let report = systir_load::run(load(&cluster.url("cph-1"), "board", 3)).await?;
    assert_eq!(report.joined, 2, "{report:?}");
    assert!(!report.nodes.contains_key("sto-1"), "{report:?}");
    assert!(!reasons(&report).is_empty(), "the third participant gets a reason: {report:?}");
    // The sister asks the home node, which rejects it too.
    let report = systir_load::run(load(&cluster.url("sto-1"), "council", 1)).await?;
    assert!(!report.nodes.contains_key("cph-1"), "{report:?}");
    for node in ["cph-1", "sto-1"] {
        // Media packets: a link may be up, but no room is opened on it.
        for counter in ["systir_link_in_total", "systir_link_out_total"] {
            assert_eq!(cluster.counter(node, counter).await?, 0, "{node}: {counter}");
        }
        assert!(cluster.is_running(node), "{node} runs");
        assert!(!cluster.log(node)?.contains("panicked"), "{node}");
    }
    // The home node accepts joins again once its seats are free.
    eventually("the home node's seats are free", Duration::from_secs(30), || async {
        (cluster.counter("cph-1", "systir_seats_used").await.ok()? == 0).then_some(())
    })
    .await?;
    let report = systir_load::run(load(&cluster.url("cph-1"), "later", 2)).await?;
    assert_eq!(report.joined, 2, "{report:?}");
    Ok(cluster)
}

/// Gives `sto-1` a folder of documents with another directory of the same version.
fn own_documents(cluster: &Cluster, change: impl FnOnce(&mut Directory)) -> Result<()> {
    let (folder, own) = (cluster.folder(), cluster.folder().join("own-documents"));
    std::fs::create_dir(&own)?;
    for file in ["ku.dk.note", "floor.note"] {
        std::fs::copy(folder.join("documents").join(file), own.join(file))?;
    }
    std::fs::write(own.join("directory.note"), cluster.documents()?.directory(1, change)?)?;
    let config = std::fs::read_to_string(folder.join("sto-1.toml"))?;
    std::fs::write(folder.join("sto-1.toml"), config.replace("\"documents\"", "\"own-documents\""))?;
    Ok(())
}

#[test]
fn a_node_with_a_certificate_of_an_unknown_ca_gets_no_link() -> Result<()> {
    run_scenario(async {
        let cluster = with_rejected_sister(|cluster| {
            let folder = cluster.folder();
            let domain = TrustDomain::new("nordu.net")?;
            // The SPIFFE id is right, but no other node trusts the CA.
            let unknown_ca = ca::create(&domain, SystemTime::now())?;
            let lifetime = Duration::from_secs(3600);
            let issued = ca::issue(&unknown_ca, &domain.relay("sto-1")?, SystemTime::now(), lifetime)?;
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
fn a_node_with_another_id_than_in_the_operators_node_list_gets_no_room() -> Result<()> {
    run_scenario(async {
        let cluster = with_rejected_sister(|cluster| {
            let folder = cluster.folder();
            // Issued by the cluster's CA, to an id that is in no directory of the other nodes.
            let authority = ca::Pem {
                certificate: std::fs::read_to_string(folder.join("ca.pem"))?,
                key: std::fs::read_to_string(folder.join("ca.key"))?,
            };
            let id = TrustDomain::new("nordu.net")?.relay("unlisted")?;
            let issued = ca::issue(&authority, &id, SystemTime::now(), Duration::from_secs(3600))?;
            std::fs::write(folder.join("sto-1.pem"), issued.certificate)?;
            std::fs::write(folder.join("sto-1.key"), issued.key)?;
            // Only its own copy of the directory names this id as the sister.
            own_documents(cluster, |directory| {
                for node in directory.nodes.iter_mut().filter(|node| node.id == "sto-1") {
                    id.as_str().clone_into(&mut node.spiffe_id);
                }
            })?;
            Ok(())
        })
        .await?;
        let log = cluster.log("cph-1")?;
        assert!(log.contains("relay/unlisted, and spiffe://nordu.net/relay/sto-1 was expected"), "{log}");
        assert!(!log.contains("a link is up"), "the link never comes up: {log}");
        Ok(())
    })
}

#[test]
fn a_node_with_the_certificate_of_a_listed_node_and_without_its_node_key_gets_no_room() -> Result<()> {
    run_scenario(async {
        let cluster = with_rejected_sister(|cluster| {
            // Whoever controls the CA can issue a certificate for sto-1, and cannot sign as sto-1.
            let key = SigningKey::from_seed("nordu.net/forged", [7; 32])?;
            std::fs::write(cluster.folder().join("sto-1.node-key"), key.to_text().as_bytes())?;
            own_documents(cluster, |directory| {
                for node in directory.nodes.iter_mut().filter(|node| node.id == "sto-1") {
                    node.keys = vec![key.public()];
                }
            })
        })
        .await?;
        for node in ["cph-1", "sto-1"] {
            assert_eq!(cluster.counter(node, "systir_links").await?, 0, "{node}");
        }
        Ok(())
    })
}

#[test]
fn a_node_starts_without_etcd_logs_that_and_keeps_trying() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd_port = base + 20;
        let address = format!("http://127.0.0.1:{etcd_port}");
        let mut cluster = Cluster::prepare(&address, base, &[]).await?;
        cluster.start("cph-1")?;
        let health = format!("http://127.0.0.1:{}/healthz", cluster.port("cph-1", 2));
        eventually("the node is alive", Duration::from_secs(30), || async {
            reqwest::get(&health).await.ok().filter(|answer| answer.status().is_success())
        })
        .await?;
        eventually("the log says that etcd does not answer", Duration::from_secs(30), || async {
            cluster.log("cph-1").ok()?.contains("etcd does not answer").then_some(())
        })
        .await?;
        let answer = eventually("the node answers operators", Duration::from_secs(30), || async {
            cluster.admin("cph-1", "nodes").await.ok()
        })
        .await?;
        assert!(answer["registry"].as_str().context("no state")?.starts_with("unavailable"), "{answer}");
        let report = systir_load::run(load(&cluster.url("cph-1"), "early", 1)).await?;
        assert_eq!(report.joined, 0, "{report:?}");
        assert!(reasons(&report).contains("registry"), "the reason names the registry: {report:?}");

        // etcd starts later.
        let _etcd = Etcd::start(etcd_port).await?;
        cluster.wait_ready(&["cph-1"]).await?;
        let report = systir_load::run(load(&cluster.url("cph-1"), "later", 2)).await?;
        assert_eq!(report.joined, 2, "{report:?}");
        assert!(cluster.is_running("cph-1") && !cluster.log("cph-1")?.contains("panicked"));
        Ok(())
    })
}

#[test]
fn each_fault_at_a_start_is_one_line() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::prepare("http://127.0.0.1:1", port_block()?, &[]).await?;
        let folder = cluster.folder();
        let good = std::fs::read_to_string(folder.join("cph-1.toml"))?;
        let file = folder.join("changed.toml");
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?;
        let (http, own) = (format!("127.0.0.1:{}", cluster.port("cph-1", 10)), std::process::id());

        // Nothing runs: one line on standard error.
        for (old, new, status, line) in [
            (
                "capacity = 6",
                "capacity = 0",
                64,
                "node.capacity: a node with 0 seats admits no participant".to_owned(),
            ),
            (
                "secret = \"secret\"\n        allow",
                "secret_file = \"no.secret\"\n        allow",
                64,
                "no.secret cannot be read".to_owned(),
            ),
            (&http, &port.to_string(), 1, format!("systir-relay: http.listen: TCP {port} is taken by ")),
            (&http, &port.to_string(), 1, format!("(process {own}); stop it, or choose another port")),
        ] {
            let text = good.replace(old, new);
            assert_ne!(text, good, "{old}");
            std::fs::write(&file, text)?;
            let mut command = Command::new(built("systir-relay")?);
            command.arg("--config").arg(&file);
            let run = output(command, Duration::from_secs(30)).await?;
            let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
            assert_eq!(run.status.code(), Some(status), "{new}: {stderr}");
            let lines =
                stderr.lines().filter(|found| found.contains(&line) && found.starts_with("systir-relay: "));
            assert_eq!(lines.count(), 1, "{line}: {stderr}");
        }

        // The node runs: one line in its log.
        let authority = ca::Pem {
            certificate: std::fs::read_to_string(folder.join("ca.pem"))?,
            key: std::fs::read_to_string(folder.join("ca.key"))?,
        };
        let id = TrustDomain::new("nordu.net")?.relay("cph-1")?;
        let hour = Duration::from_secs(3600);
        let issued = ca::issue(&authority, &id, SystemTime::now() - 3 * hour, hour)?;
        std::fs::write(folder.join("old.pem"), issued.certificate)?;
        std::fs::write(folder.join("old.key"), issued.key)?;
        let clock = WrongClock::new(folder.join("clock"), -86_400 * 40)?;
        let old = good.replace("cph-1.pem", "old.pem").replace("\"cph-1.key\"", "\"old.key\"");
        for (what, text, limit, behind, lines) in [
            ("etcd-away", &good, "", false, &["etcd does not answer yet"][..]),
            ("low-limit", &good, "ulimit -n 300;", false, &["open files: 300 for the node, but"]),
            ("expired", &old, "", false, &["old.pem expired 2 hours ago; replace it"]),
            ("behind", &good, "", true, &["cph-1.pem is valid only in ", ": it was issued "]),
        ] {
            std::fs::write(&file, text)?;
            let script = format!("{limit} exec \"$0\" --config \"$1\"");
            let mut command = Command::new("sh");
            command.args(["-ec", &script]).arg(built("systir-relay")?).arg(&file);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(what)?);
            if behind {
                clock.give_to(&mut command);
            }
            let _node = ChildProcess::start(&mut command, "cargo build --workspace")?;
            let log = artefacts()?.join(format!("{what}.log"));
            eventually("the node has started", Duration::from_secs(30), || async {
                std::fs::read_to_string(&log).ok()?.contains("the node has started").then_some(())
            })
            .await?;
            for line in lines {
                let found = eventually(line, Duration::from_secs(30), || async {
                    let text = std::fs::read_to_string(&log).ok()?;
                    let found: Vec<String> =
                        text.lines().filter(|found| found.contains(line)).map(str::to_owned).collect();
                    (!found.is_empty()).then_some(found)
                })
                .await?;
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found.iter().all(|line| !line.contains("transport::Error")), "{found:?}");
            }
        }
        drop(taken);
        Ok(())
    })
}
