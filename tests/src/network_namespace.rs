//! Runs a test again inside its own network namespace, so that the kernel's packet counters see only
//! the packets of that test.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::{ChildProcess, log_file};
use crate::scenario;

/// Set in the environment of the test that runs inside the namespace.
const IN_NAMESPACE: &str = "TEST_IN_NETWORK_NAMESPACE";

/// Does this process run inside such a namespace?
#[must_use]
pub fn in_namespace() -> bool {
    std::env::var_os(IN_NAMESPACE).is_some()
}

/// Runs the test of that name again, in a namespace with the loopback interface only.
///
/// # Errors
/// When the test fails there, or when a program or the permission is missing.
pub fn run_in_namespace(test: &str, limit: Duration) -> Result<()> {
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux")] {
        let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(found.is_ok(), "{program} is missing: apt-get install {package}");
    }
    let made = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status()?;
    ensure!(made.success(), "cannot create a network namespace: run this test as root");
    let script = r#"ip link set lo up && exec "$0" --exact "$1" --nocapture"#;
    let mut child = ChildProcess::start(
        Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(std::env::current_exe()?)
            .arg(test)
            .env(IN_NAMESPACE, "1")
            .stdin(Stdio::null())
            .stdout(log_file("namespace-stdout")?)
            .stderr(log_file("namespace-stderr")?),
        "apt-get install util-linux",
    )?;
    let _waiting = scenario::waiting("the test in its network namespace");
    let status = child.wait(limit)?;
    ensure!(status.success(), "the test in its network namespace ended with {status}; its output is above");
    let stdout = std::fs::read_to_string(scenario::artefacts()?.join("namespace-stdout.log"))?;
    ensure!(stdout.contains("1 passed"), "{test} did not run in its network namespace: {stdout}");
    Ok(())
}

/// Packet counters of nftables.
#[derive(Debug)]
pub struct PacketCounters(());

impl PacketCounters {
    /// Loads a ruleset in nftables' language. Only inside the namespace: elsewhere it would change the
    /// host's rules.
    ///
    /// # Errors
    /// When nft refuses it.
    pub fn load(ruleset: &str) -> Result<Self> {
        ensure!(in_namespace(), "packet counters need the test's own network namespace");
        let loaded = Command::new("nft").arg(ruleset).output().context("apt-get install nftables")?;
        if !loaded.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&loaded.stderr));
        }
        Ok(Self(()))
    }

    /// The packets that a counter has counted.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn packets(&self, counter: &str) -> Result<u64> {
        Self::read(counter, "packets")
    }

    /// The bytes that a counter has counted, IP headers included.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn bytes(&self, counter: &str) -> Result<u64> {
        Self::read(counter, "bytes")
    }

    fn read(counter: &str, unit: &str) -> Result<u64> {
        let listed = Command::new("nft").args(["--json", "list", "counters"]).output()?;
        let listed: Value = serde_json::from_slice(&listed.stdout).context("output of nft")?;
        let all = listed["nftables"].as_array().context("no counters")?;
        let one = all.iter().find(|entry| entry["counter"]["name"] == counter);
        one.and_then(|entry| entry["counter"][unit].as_u64()).with_context(|| format!("no counter {counter}"))
    }
}
