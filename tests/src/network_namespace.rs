//! A network of a test's own: the test plays again inside a network namespace that ends with it,
//! where packets are counted by the kernel and by nobody else.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process::{Owned, log_file};
use crate::scenario;

/// Set for the test that plays inside.
const INSIDE: &str = "INSIDE_A_NETWORK_OF_ITS_OWN";

/// Does this process play inside a namespace already?
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Plays the test of that name again, in a namespace in which only loopback is up.
///
/// # Errors
/// When it fails there, or when a program or a right for it is missing.
pub fn play_inside(test: &str, limit: Duration) -> Result<()> {
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux")] {
        let there = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(there.is_ok(), "{program} is missing: apt-get install {package}");
    }
    let made = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status()?;
    ensure!(made.success(), "a network namespace cannot be made: run this test as root");
    let script = r#"ip link set lo up && exec "$0" --exact "$1" --nocapture"#;
    let mut child = Owned::start(
        Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(std::env::current_exe()?)
            .arg(test)
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .stdout(log_file("outside")?)
            .stderr(log_file("inside")?),
        "apt-get install util-linux",
    )?;
    let _waiting = scenario::waiting("the test inside its own network");
    let status = child.wait(limit)?;
    ensure!(status.success(), "inside its own network: {status}; what it said is above");
    let said = std::fs::read_to_string(scenario::artefacts()?.join("outside.log"))?;
    ensure!(said.contains("1 passed"), "{test} was not played inside: {said}");
    Ok(())
}

/// Packet counters of the kernel, in a table of their own.
#[derive(Debug)]
pub struct Counters(());

impl Counters {
    /// Loads a ruleset in nftables' language. Works only inside: elsewhere it would change the
    /// machine's own rules.
    ///
    /// # Errors
    /// When nft refuses it.
    pub fn load(ruleset: &str) -> Result<Self> {
        ensure!(inside(), "packets are counted in a network of the test's own only");
        let loaded = Command::new("nft").arg(ruleset).output().context("apt-get install nftables")?;
        if !loaded.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&loaded.stderr));
        }
        Ok(Self(()))
    }

    /// Packets that a counter has seen.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn packets(&self, counter: &str) -> Result<u64> {
        let listed = Command::new("nft").args(["--json", "list", "counters"]).output()?;
        let listed: Value = serde_json::from_slice(&listed.stdout).context("nft's answer")?;
        let all = listed["nftables"].as_array().context("no counters")?;
        let one = all.iter().find(|entry| entry["counter"]["name"] == counter);
        one.and_then(|entry| entry["counter"]["packets"].as_u64())
            .with_context(|| format!("no counter {counter}"))
    }
}
