//! `systirctl doctor`: a node that is as it should be, and one fault after the other, each with its line and the exit code.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_documents::Directory;
use systir_identity::{TrustDomain, ca};
use systir_tests::cluster::Cluster;
use systir_tests::process::{built, eventually, output, port_block};
use systir_tests::scenario::run_scenario;
use systir_tests::secure_etcd::SecureEtcd;
use systir_tests::wrong_clock::WrongClock;

const LIMIT: Duration = Duration::from_secs(45);
/// Lines about this machine, which differ from machine to machine.
const OF_MACHINE: [&str; 3] = ["socket buffers", "conntrack", "ephemeral ports"];

/// What the doctor printed.
struct Diagnosed {
    status: Option<i32>,
    report: Value,
}

impl Diagnosed {
    /// Subject, level and text of each line that is not ok, without those of the machine.
    fn not_ok(&self) -> Vec<(String, String, String)> {
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let lines = self.report["findings"].as_array().into_iter().flatten();
        let lines = lines.filter(|line| line["level"] != "ok");
        let lines = lines.filter(|line| !OF_MACHINE.contains(&line["subject"].as_str().unwrap_or_default()));
        lines
            .map(|line| {
                let what = format!("{}; {}", text(line, "what"), text(line, "do"));
                (text(line, "subject"), text(line, "level"), what)
            })
            .collect()
    }

    /// The line about a subject: its level and its text.
    fn line(&self, subject: &str) -> Result<(String, String)> {
        let lines = self.report["findings"].as_array().into_iter().flatten();
        let line = lines.clone().find(|line| line["subject"] == subject);
        let line = line.with_context(|| format!("no line about {subject}: {}", self.report))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Ok((text("level"), text("what")))
    }

    /// Checks the line about a subject, and the exit code.
    fn expect(&self, subject: &str, level: &str, part: &str, status: i32) -> Result<()> {
        let (found, what) = self.line(subject)?;
        ensure!(
            found == level && what.contains(part),
            "{subject}: {found}: {what}, expected {level}: {part}"
        );
        ensure!(self.status == Some(status), "{subject}: exit code {:?}: {:?}", self.status, self.not_ok());
        Ok(())
    }
}

/// The doctor with a `timedatectl` that says what it is told, and `prefix` before it.
fn command(folder: &Path, prefix: &[&str], config: &Path) -> Result<Command> {
    let programs = folder.join("programs");
    std::fs::create_dir_all(&programs)?;
    let timedatectl = programs.join("timedatectl");
    std::fs::write(&timedatectl, "#!/bin/sh\necho \"${SYNCHRONIZED:-yes}\"\n")?;
    std::fs::set_permissions(&timedatectl, std::fs::Permissions::from_mode(0o755))?;
    let systirctl = built("systirctl")?;
    let mut command = match prefix {
        [] => Command::new(&systirctl),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&systirctl);
            command
        }
    };
    command.args(["doctor", "--json", "--config"]).arg(config);
    command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH")?));
    Ok(command)
}

async fn run(command: Command) -> Result<Diagnosed> {
    let output = output(command, LIMIT).await?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(Diagnosed { status: output.status.code(), report })
}

async fn diagnose(cluster: &Cluster, node: &str) -> Result<Diagnosed> {
    let folder = cluster.folder();
    run(command(&folder, &[], &folder.join(format!("{node}.toml")))?).await
}

/// A cluster with an etcd that demands certificates, and files that only their user may read. Nothing runs yet.
async fn prepare() -> Result<(SecureEtcd, Cluster)> {
    let base = port_block()?;
    let etcd = SecureEtcd::start("127.0.0.1", base + 20).await?;
    let cluster = Cluster::prepare(etcd.url(), base, &[]).await?;
    cluster.use_certificates_of(&etcd)?;
    // Few enough for the open files of any shell; a lease that outlives its node for the length of a test.
    cluster.set("http", "connections", "200")?;
    for node in ["cph-1", "sto-1", "aws-sto-1"] {
        cluster.configure(node, |text| text.replace("lease_seconds = 3", "lease_seconds = 60"))?;
    }
    for entry in std::fs::read_dir(cluster.folder())? {
        let path = entry?.path();
        if path.is_file() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok((etcd, cluster))
}

async fn roles(cluster: &Cluster, etcd: &SecureEtcd) -> Result<()> {
    let mut command = Command::new(built("systirctl")?);
    command.args(["etcd", "roles", "--config"]).arg(cluster.folder().join("cph-1.toml"));
    let output = output(command, LIMIT).await?;
    etcd.run_script(&String::from_utf8(output.stdout)?).await
}

/// The demo's secrets can be guessed, which the doctor says, and that nodes do not run, and nothing else.
fn only_the_weak_secrets(diagnosed: &Diagnosed) -> Result<()> {
    let mut found = diagnosed.not_ok();
    found.retain(|(_, level, what)| level != "warning" || !what.contains("has no lease"));
    let mut subjects: Vec<&str> = found.iter().map(|(subject, ..)| subject.as_str()).collect();
    subjects.sort_unstable();
    ensure!(subjects == ["drain.secret", "keys.devkey"], "{found:?}");
    ensure!(diagnosed.status == Some(0), "{:?}", diagnosed.status);
    Ok(())
}

#[test]
fn a_node_that_is_as_it_should_be_is_ok_before_its_start_and_while_it_runs() -> Result<()> {
    run_scenario(async {
        let (etcd, mut cluster) = prepare().await?;
        // Without access control each client may do everything.
        let open = diagnose(&cluster, "cph-1").await?;
        open.expect("access control", "warning", "off", 0)?;
        etcd.enable_auth().await?;
        let unknown = diagnose(&cluster, "cph-1").await?;
        unknown.expect("role of cph-1", "wrong", "etcd refuses this node to read the leases of nodes", 1)?;
        roles(&cluster, &etcd).await?;
        let before = diagnose(&cluster, "cph-1").await?;
        only_the_weak_secrets(&before)?;
        before.expect("links.quic", "ok", "free", 0)?;
        before.expect("sto-1", "warning", "has no lease", 0)?;

        for node in ["cph-1", "sto-1"] {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "sto-1"]).await?;
        let running = diagnose(&cluster, "cph-1").await?;
        only_the_weak_secrets(&running)?;
        for port in ["http.listen", "media.listen", "links.quic", "links.grpc", "telemetry.listen"] {
            running.expect(port, "ok", "the running node listens", 0)?;
        }
        running.expect("sto-1", "ok", "gRPC and QUIC answer, version", 0)?;
        running.expect("wall clock", "ok", "as on one other node", 0)?;
        running.expect("synchronization", "ok", "synchronized", 0)?;
        running.expect("access control", "ok", "on", 0)?;
        running.expect("role of cph-1", "ok", "reads leases", 0)?;
        running.expect("directory of nordunet", "ok", "version 1", 0)?;
        running.expect("links.certificate", "ok", "expires in", 0)?;
        running.expect("node.key", "ok", "which the directory lists", 0)?;
        running.expect("links.advertise", "ok", "127.0.0.1 is in the directory's prefixes", 0)?;
        ensure!(running.report["node"] == "cph-1", "{}", running.report);
        // The node was not disturbed.
        assert!(cluster.is_running("cph-1") && !cluster.log("cph-1")?.contains("panicked"));

        // The table.
        let config = cluster.folder().join("cph-1.toml");
        let mut table = Command::new(built("systirctl")?);
        table.args(["doctor", "--config"]).arg(config);
        let printed = String::from_utf8(output(table, LIMIT).await?.stdout)?;
        ensure!(printed.contains("links.quic") && printed.contains("0 wrong, "), "{printed}");

        // Its process ends, its lease does not yet.
        cluster.kill("sto-1");
        let killed = diagnose(&cluster, "cph-1").await?;
        killed.expect("sto-1", "wrong", "gRPC: the node cannot be reached", 1)
    })
}

/// Writes another configuration beside those of the nodes.
fn write(cluster: &Cluster, text: &str) -> Result<PathBuf> {
    let file = cluster.folder().join("changed.toml");
    std::fs::write(&file, text)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A folder of documents with another directory.
fn with_directory(cluster: &Cluster, change: impl FnOnce(&mut Directory)) -> Result<()> {
    let (folder, own) = (cluster.folder(), cluster.folder().join("own-documents"));
    std::fs::create_dir_all(&own)?;
    for file in ["ku.dk.note", "floor.note"] {
        std::fs::copy(folder.join("documents").join(file), own.join(file))?;
    }
    Ok(std::fs::write(own.join("directory.note"), cluster.documents()?.directory(1, change)?)?)
}

#[test]
fn each_fault_of_a_node_has_its_line_and_the_exit_code_says_so() -> Result<()> {
    run_scenario(async {
        let (etcd, cluster) = prepare().await?;
        etcd.enable_auth().await?;
        roles(&cluster, &etcd).await?;
        let folder = cluster.folder();
        let good = std::fs::read_to_string(folder.join("cph-1.toml"))?;
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let taken = taken.local_addr()?;
        // Certificates and documents of another time.
        let authority = ca::Pem {
            certificate: std::fs::read_to_string(folder.join("ca.pem"))?,
            key: std::fs::read_to_string(folder.join("ca.key"))?,
        };
        let id = TrustDomain::new("nordu.net")?.relay("cph-1")?;
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3_600));
        let issued = ca::issue(&authority, &id, now - 3 * hour, hour)?;
        std::fs::write(folder.join("old.pem"), issued.certificate)?;
        std::fs::write(folder.join("old.key"), issued.key)?;
        std::fs::set_permissions(folder.join("old.key"), std::fs::Permissions::from_mode(0o600))?;
        std::fs::copy(folder.join("cph-1.key"), folder.join("open.key"))?;
        std::fs::set_permissions(folder.join("open.key"), std::fs::Permissions::from_mode(0o644))?;
        let day = 86_400;
        with_directory(&cluster, |directory| {
            directory.lifetime.issued -= 40 * day;
            directory.lifetime.renew_by -= 40 * day;
        })?;
        let http = format!("127.0.0.1:{}", cluster.port("cph-1", 10));
        let key = "key = \"cph-1.key\"";
        let documents = "documents = \"documents\"";
        for (old, new, subject, level, part, status) in [
            (
                "capacity =",
                "capasity =".to_owned(),
                "file",
                "wrong",
                "node.capasity: there is no such field",
                64,
            ),
            ("cph-1.node-key", "cph-l.node-key".to_owned(), "node.key", "wrong", "cannot be read", 1),
            (
                "cph-1.node-key",
                "sto-1.node-key".to_owned(),
                "node.key",
                "wrong",
                "does not list its public key",
                1,
            ),
            (&http, taken.to_string(), "http.listen", "wrong", "is taken by ", 1),
            (
                &http,
                "192.0.2.10:7880\"\nbehind_proxy = true #\"".to_owned(),
                "http.listen",
                "wrong",
                "no address of this machine",
                1,
            ),
            (
                "cph-1.pem\"\n        key = \"cph-1.key",
                "old.pem\"\n        key = \"old.key".to_owned(),
                "links.certificate",
                "wrong",
                "expired 2 hours ago",
                1,
            ),
            (
                key,
                "key = \"open.key\"".to_owned(),
                "links.key",
                "wrong",
                "every user of this machine may read",
                1,
            ),
            (
                etcd.url(),
                "https://127.0.0.1:1".to_owned(),
                "https://127.0.0.1:1",
                "wrong",
                "does not answer",
                1,
            ),
            (
                documents,
                "documents = \"own-documents\"".to_owned(),
                "directory of nordunet",
                "wrong",
                "should have been renewed 17 days ago",
                1,
            ),
            ("etcd-cph-1", "etcd-unknown".to_owned(), "registry.certificate", "wrong", "cannot be read", 1),
            (
                "[links]\n",
                "[links]\nadvertise = \"192.0.2.10\"\n".to_owned(),
                "links.advertise",
                "wrong",
                "outside the directory's prefixes (127.0.0.0/8)",
                1,
            ),
        ] {
            let text = good.replace(old, &new);
            ensure!(text != good, "{old} is not in {good}");
            let text = match subject {
                // At another machine's address the node must not be a weak one.
                "http.listen" => text
                    .replace("allow_weak_secret = true", "")
                    .replace("\"secret\"", "\"2c1f0b7d9e3a48655acd1e7f80b93624\""),
                _ => text,
            };
            let diagnosed = run(command(&folder, &[], &write(&cluster, &text)?)?).await?;
            diagnosed.expect(subject, level, part, status).with_context(|| format!("{old} → {new}"))?;
        }
        // The process that has the port is named.
        let file = write(&cluster, &good.replace(&http, &taken.to_string()))?;
        let named = run(command(&folder, &[], &file)?).await?.line("http.listen")?.1;
        ensure!(named.contains(&format!("(process {})", std::process::id())), "{named}");
        // Without etcd the addresses of other nodes are unknown.
        let away = write(&cluster, &good.replace(etcd.url(), "https://127.0.0.1:1"))?;
        run(command(&folder, &[], &away)?).await?.expect(
            "other nodes",
            "warning",
            "which did not tell them",
            1,
        )?;

        // Low limits and a clock that nobody sets are warnings.
        let limited = ["sh", "-c", "ulimit -n 300; exec \"$0\" \"$@\""];
        let config = folder.join("cph-1.toml");
        let low = run(command(&folder, &limited, &config)?).await?;
        low.expect("open files", "warning", "300 for this shell, but 520 are needed", 0)?;
        let mut unsynchronized = command(&folder, &[], &config)?;
        unsynchronized.env("SYNCHRONIZED", "no");
        run(unsynchronized).await?.expect("synchronization", "warning", "no NTP client", 0)
    })
}

#[test]
fn a_wrong_clock_and_other_pins_are_seen_by_asking_other_nodes() -> Result<()> {
    run_scenario(async {
        let (etcd, mut cluster) = prepare().await?;
        etcd.enable_auth().await?;
        roles(&cluster, &etcd).await?;
        // The other node pins a second key of ku.dk, and holds what that key signed.
        let folder = cluster.folder();
        let other = cluster.documents()?.with_new_owner_keys(rand::random)?;
        let first = cluster.documents()?.institution_key().public().to_string();
        let second = other.institution_key().public().to_string();
        std::fs::create_dir(folder.join("own-documents"))?;
        for file in ["directory.note", "floor.note"] {
            std::fs::copy(folder.join("documents").join(file), folder.join("own-documents").join(file))?;
        }
        std::fs::write(folder.join("own-documents/ku.dk.note"), other.bundle(2, |_| {})?)?;
        cluster.configure("sto-1", |text| {
            let both = format!("\"{first}\", \"{second}\"]\n        threshold = 1 #");
            text.replace(&format!("\"{first}\"]"), &format!("{both}]"))
                .replace("\"documents\"", "\"own-documents\"")
        })?;
        cluster.start("sto-1")?;
        eventually("sto-1 is ready", LIMIT, || async {
            (cluster.probe("sto-1", "/readyz").await.ok()? == 200).then_some(())
        })
        .await?;
        let pins = diagnose(&cluster, "cph-1").await?;
        pins.expect(
            "sto-1",
            "wrong",
            "its documents do not verify under the pins here: bundle of ku.dk version 2",
            1,
        )?;

        // Ahead by 7 min: other nodes have another time. Behind by 40 days: certificates and documents are of the future.
        let config = folder.join("cph-1.toml");
        let clock = WrongClock::new(folder.join("clock"), 0)?;
        for (seconds, subject, part) in [
            (450, "wall clock", "7 minutes ahead of one other node"),
            (-40 * 86_400, "wall clock", "days in the future"),
            (-40 * 86_400, "links.certificate", "is valid only in "),
        ] {
            clock.set(seconds)?;
            let mut command = command(&folder, &[], &config)?;
            clock.give_to(&mut command);
            run(command).await?.expect(subject, "wrong", part, 1)?;
        }
        Ok(())
    })
}
