//! etcd with authentication, whose roles the commands of `systirctl etcd roles` make: a node can use the rooms of the
//! institutions that approve it, and no others.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::participants::Participants;
use systir_tests::process::{built, eventually, output, port_block};
use systir_tests::scenario::run_scenario;
use systir_tests::secure_etcd::SecureEtcd;

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];
/// The prefix of the rooms of `ku.dk`.
const ROOMS: &str = "/systir/v1/nordunet/rooms/a3UuZGs/";
const LIMIT: Duration = Duration::from_secs(45);

async fn roles(cluster: &Cluster, options: &[&str]) -> Result<String> {
    let mut command = Command::new(built("systirctl")?);
    command.args(options).args(["etcd", "roles", "--config"]).arg(cluster.folder().join("cph-1.toml"));
    let output = output(command, LIMIT).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

async fn is_denied(etcd: &SecureEtcd, node: &str, arguments: &[&str]) -> Result<()> {
    match etcd.etcdctl(node, arguments).await {
        Ok(output) => anyhow::bail!("{node} may do {arguments:?}: {output}"),
        Err(error) => {
            ensure!(error.to_string().contains("permission denied"), "{node} {arguments:?}: {error}");
            Ok(())
        }
    }
}

#[test]
fn nodes_meet_with_the_roles_that_systirctl_makes_and_can_use_no_more() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd = SecureEtcd::start("127.0.0.1", base + 20).await?;
        let mut cluster = Cluster::prepare(etcd.url(), base, &[("cph-1", 2), ("sto-1", 2)]).await?;
        cluster.use_certificates_of(&etcd)?;
        // Not its certificate yet: a user that etcd does not know.
        etcd.write_client("unknown", &cluster.folder(), "sto-1")?;
        etcd.enable_auth().await?;
        let script = roles(&cluster, &[]).await?;
        assert!(script.contains("#   a3UuZGs is ku.dk\n"), "{script}");
        etcd.run_script(&script).await?;
        // It can be run again, and removes what others added, and roles of nodes that are gone.
        for command in [
            &["role", "grant-permission", "--prefix=true", "systir/nordunet/aws-sto-1", "readwrite", "/"][..],
            &["role", "add", "systir/nordunet/osl-9"],
            &["role", "add", "by-hand"],
            &["role", "grant-permission", "--prefix=true", "by-hand", "readwrite", "/"],
            &["user", "grant-role", "aws-sto-1", "by-hand"],
        ] {
            etcd.etcdctl("root", command).await?;
        }
        etcd.run_script(&script).await?;
        let left = etcd.etcdctl("root", &["role", "list"]).await?;
        let mut left: Vec<&str> = left.lines().collect();
        left.sort_unstable();
        let expected = [
            "by-hand",
            "root",
            "systir/nordunet/aws-sto-1",
            "systir/nordunet/cph-1",
            "systir/nordunet/sto-1",
        ];
        assert_eq!(left, expected);

        for node in NODES {
            cluster.start(node)?;
        }
        cluster.wait_ready(&["cph-1", "aws-sto-1"]).await?;
        // Its certificate is replaced while it runs; wait_ready waits until the others see its lease.
        etcd.write_client("sto-1", &cluster.folder(), "sto-1")?;
        cluster.wait_ready(&NODES).await?;

        let load = Config {
            url: cluster.url("cph-1"),
            room: "board".to_owned(),
            participants: 4,
            audio: true,
            no_rejoin: true,
            ..Config::default()
        };
        // Two at home, two at the spill node: both write the room's record.
        let _meeting = Participants::join(load).await?;
        eventually("a record with the spill node", LIMIT, || async {
            let rooms =
                etcd.etcdctl("sto-1", &["get", "--prefix", "--print-value-only", ROOMS]).await.ok()?;
            let record: Value = serde_json::from_str(rooms.lines().next()?).ok()?;
            (record["home"] == "cph-1" && record["spill"][0] == "sto-1").then_some(())
        })
        .await?;
        let record = format!("{ROOMS}Ym9hcmQ");
        for arguments in [
            &["get", &record][..],
            &["get", "--prefix", ROOMS],
            &["get", "--prefix", "--keys-only", "/systir/v1/nordunet/"],
            &["put", &record, "{}"],
            &["del", &record],
            &["put", "/systir/v1/nordunet/nodes/cph-1", "{}"],
            &["role", "list"],
        ] {
            is_denied(&etcd, "aws-sto-1", arguments).await?;
        }
        let leases = &["get", "--prefix", "--keys-only", "/systir/v1/nordunet/nodes/"];
        assert!(etcd.etcdctl("aws-sto-1", leases).await?.contains("nodes/cph-1"));

        // ku.dk withdraws its approval of the node in Sweden; with the next run etcd refuses it too.
        cluster.publish_rules(2, |rules| {
            rules.replace("resource.country in Zone::\"Nordic\"", "resource.country == Country::\"DK\"")
        })?;
        let fields: Value = serde_json::from_str(&roles(&cluster, &["--json"]).await?)?;
        let approved = |node: &str| {
            let nodes = fields["nodes"].as_array().into_iter().flatten();
            nodes.filter(|one| one["node"] == node).map(|one| one["institutions"].clone()).next()
        };
        assert_eq!(approved("cph-1"), Some(serde_json::json!(["ku.dk"])), "{fields}");
        assert_eq!(approved("sto-1"), Some(serde_json::json!([])), "{fields}");
        etcd.run_script(fields["script"].as_str().unwrap_or_default()).await?;
        is_denied(&etcd, "sto-1", &["get", "--prefix", ROOMS]).await?;
        etcd.etcdctl("cph-1", &["get", "--prefix", ROOMS]).await?;
        // The node's lease goes on.
        cluster.wait_ready_as_seen_by("cph-1", &NODES).await
    })
}
