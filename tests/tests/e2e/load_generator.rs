//! `systir-load` on the command line: a single participant, JSON results, Ctrl-C, exit codes.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_tests::cluster::Cluster;
use systir_tests::process::{built, eventually, output, start_with_output, wait_with_output};
use systir_tests::scenario::run_scenario;

/// Limit of each run.
const LIMIT: Duration = Duration::from_secs(60);

fn load(gateway: &str, room: &str) -> Result<Command> {
    let mut command = Command::new(built("systir-load")?);
    command.args(["--url", gateway, "--room", room, "--json"]);
    Ok(command)
}

fn report(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON, but {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_single_publisher_and_a_single_viewer_are_connected() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        for publishers in ["1", "0"] {
            let mut command = load(&cluster.url("cph-1"), "single")?;
            command.args(["-n", "1", "--publishers", publishers, "--duration", "1s"]);
            let output = output(command, LIMIT).await?;
            let report = report(&output)?;
            ensure!(
                report["joined"] == 1 && output.status.code() == Some(0),
                "{publishers} publishers: {report}"
            );
        }
        Ok(())
    })
}

#[test]
fn the_exit_code_shows_whether_all_some_or_none_joined() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let gateway = cluster.url("cph-1");
        let command = |gateway: &str, count: &str| {
            let mut command = load(gateway, "small")?;
            command.args(["-n", count, "--audio", "--duration", "500ms"]);
            anyhow::Ok(command)
        };
        ensure!(output(command(&gateway, "2")?, LIMIT).await?.status.code() == Some(0));
        let some = output(command(&gateway, "3")?, LIMIT).await?;
        ensure!(some.status.code() == Some(2), "{}", report(&some)?);
        let reason = report(&some)?["refused"][0]["reason"].clone();
        ensure!(reason.as_str().is_some_and(|reason| reason.contains("full")), "{reason}");
        ensure!(output(command(&cluster.url("aws-sto-1"), "1")?, LIMIT).await?.status.code() == Some(1));
        ensure!(output(command("ftp://nowhere", "1")?, LIMIT).await?.status.code() == Some(64));
        let mut typo = Command::new(built("systir-load")?);
        typo.arg("--participant");
        ensure!(output(typo, LIMIT).await?.status.code() == Some(64));
        Ok(())
    })
}

#[test]
fn ctrl_c_ends_the_run_with_the_result() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let mut command = load(&cluster.url("cph-1"), "long")?;
        command.args(["-n", "2", "--stay"]);
        let child = start_with_output(&mut command)?;
        eventually("media flows", LIMIT, || async {
            let out = cluster.counter("cph-1", "systir_media_out_total").await.ok()?;
            (out > 100).then_some(())
        })
        .await?;
        child.signal("INT")?;
        let output = wait_with_output(child, LIMIT).await?;
        let report = report(&output)?;
        ensure!(output.status.code() == Some(0) && report["joined"] == 2, "{report}");
        ensure!(report["packets_in"].as_u64() > Some(0), "{report}");
        eventually("the participants have left", LIMIT, || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 0).then_some(())
        })
        .await
    })
}
