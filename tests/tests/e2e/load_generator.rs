//! `systir-load` as an operator types it: one person alone, results for programs, Ctrl-C, exit codes.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_tests::cluster::Cluster;
use systir_tests::process::{built, ended, eventually, output, spoken};
use systir_tests::scenario::play;

/// How long the program may take for what it is asked here.
const LIMIT: Duration = Duration::from_secs(60);

fn load(door: &str, room: &str) -> Result<Command> {
    let mut command = Command::new(built("systir-load")?);
    command.args(["--url", door, "--room", room, "--json"]);
    Ok(command)
}

fn report(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON, but {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_single_publisher_and_a_single_viewer_are_connected() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        for publishers in ["1", "0"] {
            let mut command = load(&cluster.url("cph-1"), "alone")?;
            command.args(["-n", "1", "--publishers", publishers, "--duration", "1s"]);
            let output = output(command, LIMIT).await?;
            let report = report(&output)?;
            ensure!(
                report["joined"] == 1 && output.status.code() == Some(0),
                "{publishers} publishing: {report}"
            );
        }
        Ok(())
    })
}

#[test]
fn the_exit_code_tells_who_is_missing() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let door = cluster.url("cph-1");
        let crowd = |door: &str, count: &str| {
            let mut command = load(door, "small")?;
            command.args(["-n", count, "--audio", "--duration", "500ms"]);
            anyhow::Ok(command)
        };
        ensure!(output(crowd(&door, "2")?, LIMIT).await?.status.code() == Some(0));
        let some = output(crowd(&door, "3")?, LIMIT).await?;
        ensure!(some.status.code() == Some(2), "{}", report(&some)?);
        let reason = report(&some)?["refused"][0]["reason"].clone();
        ensure!(reason.as_str().is_some_and(|reason| reason.contains("full")), "{reason}");
        ensure!(output(crowd(&cluster.url("aws-sto-1"), "1")?, LIMIT).await?.status.code() == Some(1));
        ensure!(output(crowd("ftp://nowhere", "1")?, LIMIT).await?.status.code() == Some(64));
        let mut typo = Command::new(built("systir-load")?);
        typo.arg("--participant");
        ensure!(output(typo, LIMIT).await?.status.code() == Some(64));
        Ok(())
    })
}

#[test]
fn ctrl_c_ends_in_good_order_with_the_result() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let mut command = load(&cluster.url("cph-1"), "long")?;
        command.args(["-n", "2", "--stay"]);
        let child = spoken(&mut command)?;
        eventually("media flows", LIMIT, || async {
            let out = cluster.counter("cph-1", "systir_media_out_total").await.ok()?;
            (out > 100).then_some(())
        })
        .await?;
        child.signal("INT")?;
        let output = ended(child, LIMIT).await?;
        let report = report(&output)?;
        ensure!(output.status.code() == Some(0) && report["joined"] == 2, "{report}");
        ensure!(report["packets_in"].as_u64() > Some(0), "{report}");
        eventually("they said goodbye", LIMIT, || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 0).then_some(())
        })
        .await
    })
}
