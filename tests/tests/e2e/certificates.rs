//! Certificates are replaced while they carry a meeting: those of the links, their CA, those of etcd's clients, and
//! etcd's CA.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use systir_identity::{TrustDomain, ca};
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::operator_commands::publish_directory;
use systir_tests::participants::{Participants, publishers, wait_until_observer_receives};
use systir_tests::process::{eventually, port_block};
use systir_tests::scenario::run_scenario;
use systir_tests::secure_etcd::SecureEtcd;

use crate::policy_changes::wait_for_version;

const LIMIT: Duration = Duration::from_secs(45);
const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];
/// The two nodes of the meeting.
const MEETING: [&str; 2] = ["cph-1", "sto-1"];
/// Longer than that of the first certificates.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// Participants on both nodes. Each node is the gateway of some whose media is on the other one.
struct Meeting {
    groups: [Participants; 2],
    links_down: [usize; 2],
}

impl Meeting {
    async fn begin(cluster: &Cluster) -> Result<Self> {
        let at_home = Participants::join(publishers(cluster, "sto-1", "other", 1)).await?;
        let others = Participants::join(publishers(cluster, "cph-1", "home", 4)).await?;
        let meeting = Self { groups: [at_home, others], links_down: links_down(cluster)? };
        meeting.goes_on(cluster).await?;
        Ok(meeting)
    }

    /// Who joins at either gateway receives all others, and no link has ended.
    async fn goes_on(&self, cluster: &Cluster) -> Result<()> {
        for gateway in MEETING {
            wait_until_observer_receives(publishers(cluster, gateway, "observer", 1), 5, LIMIT).await?;
        }
        ensure!(links_down(cluster)? == self.links_down, "a link ended");
        Ok(())
    }

    async fn end(self, cluster: &Cluster) -> Result<()> {
        self.goes_on(cluster).await?;
        let [at_home, others] = self.groups;
        let (at_home, others) = (at_home.leave().await?, others.leave().await?);
        assert_eq!((at_home.nodes.get("cph-1"), others.nodes.get("sto-1")), (Some(&1), Some(&2)));
        for report in [at_home, others] {
            let nobody = report.ended.is_empty() && report.rejoined == 0 && report.interruptions.is_empty();
            assert!(nobody, "nobody was interrupted: {report:?}");
            assert_eq!(report.tracks_received, report.tracks_expected, "{report:?}");
        }
        Ok(())
    }
}

/// How often the link between the two nodes ended, as each of them logged it.
fn links_down(cluster: &Cluster) -> Result<[usize; 2]> {
    let count = |node, peer: &str| {
        let log = cluster.log(node)?;
        let lines = log.lines().filter(|line| line.contains(&format!("/relay/{peer}")));
        let (up, down): (Vec<_>, Vec<_>) =
            lines.filter(|line| line.contains("a link is ")).partition(|line| line.contains("a link is up"));
        ensure!(!up.is_empty(), "{node} logged no link with {peer}");
        Ok(down.len())
    };
    Ok([count("cph-1", "sto-1")?, count("sto-1", "cph-1")?])
}

/// Replaces a node's certificate and key in their files, as tools do: each file at once, one after the other.
fn replace_certificate(cluster: &Cluster, node: &str, authority: &ca::Pem) -> Result<()> {
    let id = TrustDomain::new("nordu.net")?.relay(node)?;
    let issued = ca::issue(authority, &id, SystemTime::now(), LIFE)?;
    replace(&cluster.folder().join(format!("{node}.pem")), &issued.certificate)?;
    replace(&cluster.folder().join(format!("{node}.key")), &issued.key)
}

fn replace(file: &Path, text: &str) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, file)?)
}

/// Replaces the certificates of both nodes, one after the other. A connection that the first node dialled in between stands
/// on the second one's old certificate, and would keep it for half of its life: the first node's is replaced once more.
async fn replace_certificates_in_turn(cluster: &Cluster, authority: &ca::Pem) -> Result<()> {
    let [first, second] = MEETING;
    for node in [first, second, first] {
        let reloads = || Some(cluster.log(node).ok()?.matches("a certificate was reloaded").count());
        let before = reloads().context("no log")?;
        replace_certificate(cluster, node, authority)?;
        eventually(&format!("{node} reloads its certificate"), LIMIT, || async {
            (reloads()? > before).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// The CA that issued the first certificates.
fn first_authority(cluster: &Cluster) -> Result<ca::Pem> {
    let read = |file| std::fs::read_to_string(cluster.folder().join(file));
    Ok(ca::Pem { certificate: read("ca.pem")?, key: read("ca.key")? })
}

/// When the first connection between the two nodes ends, as the node knows it, if its certificates are not replaced.
async fn end_of_connections(cluster: &Cluster, [node, peer]: [&str; 2]) -> Result<u64> {
    let peer = format!("peer=\"{peer}\"");
    cluster.counter_with(node, "systir_link_connections_end_seconds", &peer).await
}

/// Waits until all connections between the two nodes stand on certificates that end later than the first ones.
async fn wait_until_on_new_certificates(cluster: &Cluster, before: u64) -> Result<()> {
    for pair in [["cph-1", "sto-1"], ["sto-1", "cph-1"]] {
        eventually(&format!("connections of {pair:?} on new certificates"), LIMIT, || async {
            // Half an hour: more than the test takes, and less than the new certificates last longer.
            (end_of_connections(cluster, pair).await.ok()? > before + 1800).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Connections that the home refused because of a certificate. Without any, there is no such metric.
async fn refused_handshakes(cluster: &Cluster) -> u64 {
    let (name, reason) = ("systir_link_identities_refused_total", "reason=\"tls-handshake\"");
    cluster.counter_with("cph-1", name, reason).await.unwrap_or_default()
}

/// The operator publishes a directory with these files of roots through one gateway. Waits until both nodes use it.
async fn publish_roots(cluster: &Cluster, version: u64, roots: &[&str]) -> Result<()> {
    let (from, out) = match version {
        2 => ("documents/directory.note".to_owned(), "directory-2.note".to_owned()),
        _ => (format!("directory-{}.note", version - 1), format!("directory-{version}.note")),
    };
    let files = roots.iter().flat_map(|file| ["--roots", file]);
    let change: Vec<&str> = ["roots", &from].into_iter().chain(files).collect();
    publish_directory(cluster, "sto-1", &change, &out).await?;
    for node in MEETING {
        wait_for_version(cluster, node, "directory", version).await?;
    }
    Ok(())
}

#[test]
fn the_certificates_of_links_are_replaced_and_nobody_is_interrupted() -> Result<()> {
    run_scenario(async {
        let (_etcd, cluster) = Cluster::three_nodes(&[("cph-1", 3), ("sto-1", 6)]).await?;
        let meeting = Meeting::begin(&cluster).await?;
        let before = end_of_connections(&cluster, MEETING).await?;
        replace_certificates_in_turn(&cluster, &first_authority(&cluster)?).await?;
        wait_until_on_new_certificates(&cluster, before).await?;
        meeting.end(&cluster).await
    })
}

#[test]
fn the_ca_of_the_trust_domain_is_replaced_and_nobody_is_interrupted() -> Result<()> {
    run_scenario(async {
        let (_etcd, mut cluster) = Cluster::three_nodes(&[("cph-1", 3), ("sto-1", 6)]).await?;
        let meeting = Meeting::begin(&cluster).await?;
        let before = end_of_connections(&cluster, MEETING).await?;
        let new = ca::create(&TrustDomain::new("nordu.net")?, SystemTime::now())?;
        // 1. A directory with both roots.
        std::fs::write(cluster.folder().join("new-ca.pem"), &new.certificate)?;
        publish_roots(&cluster, 2, &["ca.pem", "new-ca.pem"]).await?;
        // 2. New certificates.
        for node in MEETING {
            replace_certificate(&cluster, node, &new)?;
        }
        wait_until_on_new_certificates(&cluster, before).await?;
        // 3. A directory with the new root alone.
        publish_roots(&cluster, 3, &["new-ca.pem"]).await?;
        meeting.goes_on(&cluster).await?;
        // A node that has its certificate from the old CA is refused, even on new connections.
        let before = refused_handshakes(&cluster).await;
        cluster.kill("aws-sto-1");
        cluster.start("aws-sto-1")?;
        eventually("the old CA's certificate is refused", LIMIT, || async {
            (refused_handshakes(&cluster).await > before).then_some(())
        })
        .await?;
        meeting.end(&cluster).await
    })
}

/// A room that nobody was in can be created: for this the home must write to etcd.
async fn registry_works(cluster: &Cluster, room: &str) -> Result<()> {
    for gateway in MEETING {
        let room = format!("{room}-{gateway}");
        let load = Config { room, ..publishers(cluster, gateway, "observer", 1) };
        wait_until_observer_receives(load, 0, LIMIT).await?;
        // Its copy of etcd is followed on another connection than rooms are written on.
        eventually(&format!("{gateway} follows etcd"), LIMIT, || async {
            let connected = cluster.counter(gateway, "systir_registry_connected").await.ok()?;
            (connected == 1).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until both nodes have connected with changed files once more.
async fn etcd_files_are_used(cluster: &Cluster, times: usize) -> Result<()> {
    for node in MEETING {
        eventually(&format!("{node} connects to etcd with its new files"), LIMIT, || async {
            let log = cluster.log(node).ok()?;
            (log.matches("etcd accepts the new certificate").count() >= times).then_some(())
        })
        .await?;
    }
    Ok(())
}

#[test]
fn etcds_ca_and_client_certificates_are_replaced_and_nobody_is_interrupted() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let mut etcd = SecureEtcd::start("127.0.0.1", base + 20).await?;
        let mut cluster = Cluster::prepare(etcd.url(), base, &[("cph-1", 3), ("sto-1", 6)]).await?;
        cluster.use_certificates_of(&etcd)?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.wait_ready(&NODES).await?;
        let meeting = Meeting::begin(&cluster).await?;
        let folder = cluster.folder();

        // The nodes' client certificates, of the same CA.
        for node in NODES {
            etcd.write_client(node, &folder, node)?;
        }
        etcd_files_are_used(&cluster, 1).await?;
        registry_works(&cluster, "new-certificates").await?;

        // The CA: 1. etcd and the nodes trust both.
        etcd.etcdctl("old", &["get", "any"]).await?;
        etcd.add_authority().await?;
        replace(&folder.join("etcd-ca.pem"), &etcd.roots())?;
        etcd_files_are_used(&cluster, 2).await?;
        // 2. Certificates of the new CA: etcd's, then the nodes'.
        etcd.issue_from_new_authority()?;
        for node in NODES {
            etcd.write_client(node, &folder, node)?;
        }
        etcd_files_are_used(&cluster, 3).await?;
        // 3. Both trust the new one alone.
        etcd.remove_old_authority().await?;
        replace(&folder.join("etcd-ca.pem"), &etcd.roots())?;
        etcd_files_are_used(&cluster, 4).await?;
        registry_works(&cluster, "new-ca").await?;
        let refused = etcd.etcdctl("old", &["get", "any"]).await;
        ensure!(refused.is_err(), "etcd still accepts a certificate of the old CA");
        cluster.wait_ready(&NODES).await.context("the leases of all nodes")?;
        meeting.end(&cluster).await
    })
}
