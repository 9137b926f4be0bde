//! The commands of the page about upgrades.

use anyhow::{Result, ensure};
use systir_tests::cluster::Cluster;
use systir_tests::scenario::run_scenario;

use crate::drain::{documented_commands, run_documented_with};

#[test]
fn the_documented_commands_of_an_upgrade_work() -> Result<()> {
    run_scenario(async {
        let (etcd, cluster) = Cluster::three_nodes(&[]).await?;
        let folder = tempfile::tempdir()?;
        let release = env!("CARGO_PKG_VERSION");
        let (mut shown, mut lines) = (0, Vec::new());
        for line in documented_commands("upgrade.md")? {
            let (succeeded, printed) = run_documented_with(&cluster, &line, |shell| {
                shell.current_dir(folder.path()).env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", etcd.url());
            })
            .await?;
            ensure!(succeeded, "{line} failed");
            if line.starts_with("systirctl --version") || line.starts_with("systirctl nodes") {
                ensure!(printed.contains(release), "{line} does not show {release}: {printed}");
                shown += 1;
            }
            lines.push(line);
        }
        assert!(folder.path().join("systir-etcd.backup").exists(), "{lines:?}");
        assert!(shown >= 4 && lines.iter().any(|line| line.starts_with("systirctl undrain")), "{lines:?}");
        Ok(())
    })
}
