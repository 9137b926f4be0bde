//! One node of the demonstration by itself, at an address of its own besides loopback.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use livekit_protocol::signal_response;
use systir_load::Config;
use systir_tests::cluster::token;
use systir_tests::output_lines::Lines;
use systir_tests::process::{Owned, built, log_file, port_block};
use systir_tests::raw_signalling::Signalling;
use systir_tests::scenario::{artefacts, play};
use tokio::net::TcpStream;

/// How long the node may take to start, and to end.
const LIMIT: Duration = Duration::from_secs(45);
/// An address that this machine has, and that is not the usual one.
const ADDRESS: &str = "127.0.0.2";

/// Starts a node; what it printed up to the page's address.
fn start(node: &str, base: u16, log: &str) -> Result<(Owned, Vec<String>)> {
    let mut command = Command::new(built("systir-relay")?);
    command.args(["demo", "--only", node, "--address", ADDRESS, "--ports", &base.to_string()]);
    command.arg("--log").arg(artefacts()?.join(format!("{log}.log")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file("terminal")?);
    let mut node = Owned::start(&mut command, "cargo build --workspace")?;
    let lines = Lines::of(node.0.stdout.take().context("no standard output")?);
    let mut said = Vec::new();
    while let Some(line) = lines.next("the page's address", LIMIT)? {
        let last = line.contains("Meeting page: ");
        said.push(line);
        if last {
            return Ok((node, said));
        }
    }
    bail!("the node ended before it began: {}", text("terminal")?)
}

fn text(log: &str) -> Result<String> {
    let path = artefacts()?.join(format!("{log}.log"));
    std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

#[test]
fn one_node_serves_its_own_address_and_starts_no_other() -> Result<()> {
    play(async {
        let base = port_block()?;
        let (mut node, said) = start("cph-1", base, "cph-1")?;
        let said = said.join("\n");
        ensure!(said.contains("alone") && !said.contains("aws-sto-1"), "{said}");
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
        ensure!(report.joined == 2 && report.tracks_heard == report.tracks_expected, "{report:?}");
        // Media is offered at the address too.
        let (mut anna, _) = Signalling::join(&url, &token("demo", "anna")?).await?;
        let offer = anna
            .until("the node's offer", |message| match message {
                signal_response::Message::Offer(offer) => Some(offer.sdp),
                _ => None,
            })
            .await?;
        ensure!(offer.contains(&format!(" {ADDRESS} {} ", base + 12)), "{offer}");
        node.signal("INT")?;
        ensure!(node.wait(LIMIT)?.success(), "it ends in good order");
        Ok(())
    })
}

#[test]
fn the_log_goes_to_its_file_and_warnings_to_the_terminal_too() -> Result<()> {
    play(async {
        let base = port_block()?;
        let (mut node, said) = start("sto-1", base, "first")?;
        let named = format!("{}", artefacts()?.join("first.log").display());
        ensure!(said.iter().any(|line| line.contains(&named)), "the log is named: {said:?}");
        node.signal("INT")?;
        ensure!(node.wait(LIMIT)?.success(), "it ends in good order");
        ensure!(text("first")?.contains(" INFO "), "{}", text("first")?);
        ensure!(!text("terminal")?.contains("INFO"), "{}", text("terminal")?);
        Ok(())
    })
}
