//! A single node of the demo (`--only`), on an additional address (`--address`).

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use livekit_protocol::signal_response;
use systir_load::Config;
use systir_tests::cluster::token;
use systir_tests::output_lines::OutputLines;
use systir_tests::process::{ChildProcess, built, eventually, log_file, port_block};
use systir_tests::raw_signalling::RawSignalling;
use systir_tests::scenario::{artefacts, run_scenario};
use tokio::net::TcpStream;

/// Limit for the node to start, and to end.
const LIMIT: Duration = Duration::from_secs(45);
/// An address of this host other than 127.0.0.1.
const ADDRESS: &str = "127.0.0.2";

/// Starts a node; returns the lines that it printed, up to the page's address.
fn start(node: &str, base: u16, log: &str) -> Result<(ChildProcess, Vec<String>)> {
    let mut command = Command::new(built("systir-relay")?);
    command.args(["demo", "--only", node, "--address", ADDRESS, "--ports", &base.to_string()]);
    command.arg("--log").arg(artefacts()?.join(format!("{log}.log")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file("terminal")?);
    let mut node = ChildProcess::start(&mut command, "cargo build --workspace")?;
    let lines = OutputLines::of(node.0.stdout.take().context("no standard output")?);
    let mut printed = Vec::new();
    while let Some(line) = lines.next("the page's address", LIMIT)? {
        let last = line.contains("Meeting page: ");
        printed.push(line);
        if last {
            return Ok((node, printed));
        }
    }
    bail!("the node ended before it was ready: {}", text("terminal")?)
}

fn text(log: &str) -> Result<String> {
    let path = artefacts()?.join(format!("{log}.log"));
    std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

#[test]
fn one_node_serves_its_own_address_and_starts_no_other() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let (mut node, printed) = start("cph-1", base, "cph-1")?;
        let printed = printed.join("\n");
        ensure!(printed.contains("alone") && !printed.contains("aws-sto-1"), "{printed}");
        for port in [base + 110, base + 210] {
            ensure!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "port {port} answers");
        }
        let url = format!("http://{ADDRESS}:{}", base + 10);
        let page = reqwest::get(format!("{url}/?room=demo")).await?;
        ensure!(page.status().is_success(), "{}", page.status());
        let report = systir_load::run(Config {
            url: url.clone(),
            room: "demo".to_owned(),
            participants: 2,
            audio: true,
            duration: Duration::from_secs(1),
            ..Config::default()
        })
        .await?;
        ensure!(report.joined == 2 && report.tracks_received == report.tracks_expected, "{report:?}");
        // Media candidates have that address too.
        let (mut anna, _) = RawSignalling::join(&url, &token("demo", "anna")?).await?;
        let offer = anna
            .wait_for("the node's offer", |message| match message {
                signal_response::Message::Offer(offer) => Some(offer.sdp),
                _ => None,
            })
            .await?;
        ensure!(offer.contains(&format!(" {ADDRESS} {} ", base + 12)), "{offer}");
        node.signal("INT")?;
        ensure!(node.wait(LIMIT)?.success(), "it ends with status 0");
        Ok(())
    })
}

#[test]
fn the_log_goes_to_its_file_and_only_warnings_to_the_terminal() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let (mut node, printed) = start("sto-1", base, "first")?;
        let path = format!("{}", artefacts()?.join("first.log").display());
        ensure!(printed.iter().any(|line| line.contains(&path)), "it prints the log's path: {printed:?}");
        node.signal("INT")?;
        ensure!(node.wait(LIMIT)?.success(), "it ends with status 0");
        ensure!(text("first")?.contains(" INFO "), "{}", text("first")?);
        ensure!(!text("terminal")?.contains("INFO"), "{}", text("terminal")?);
        Ok(())
    })
}

#[test]
fn the_demo_serves_a_page_about_its_policy_whose_guarantees_are_proved() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let (mut node, _) = start("cph-1", base, "policy-page")?;
        let url = format!("http://{ADDRESS}:{}/systir/v1/policy/ku.dk", base + 10);
        // It is made while the node already runs.
        for (language, proved, never) in
            [("en", "proved", "What is never possible"), ("da", "bevist", "Hvad der aldrig er muligt")]
        {
            let page = eventually("the page", LIMIT, || async {
                let answer = reqwest::get(format!("{url}?lang={language}")).await.ok()?;
                let page = answer.error_for_status().ok()?.text().await.ok()?;
                page.contains(&format!("<html lang=\"{language}\">")).then_some(page)
            })
            .await?;
            let mark = format!("<span class=\"mark proved\">{proved}</span>");
            ensure!(page.matches(&mark).count() == 5 && page.contains(never), "{page}");
            ensure!(!page.contains("mark refuted") && !page.contains("<script"), "{page}");
        }
        node.signal("INT")?;
        ensure!(node.wait(LIMIT)?.success(), "it ends with status 0");
        Ok(())
    })
}
