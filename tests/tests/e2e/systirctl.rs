//! `systirctl` on the command line, against relays on IPv4 and IPv6 with a real etcd.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::participants::Participants;
use systir_tests::process::{built, eventually, output, port_block};
use systir_tests::scenario::run_scenario;
use systir_tests::scripted::ScriptedClient;

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];
const LIMIT: Duration = Duration::from_secs(20);

async fn ctl(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(built("systirctl")?);
    command.args(arguments).env_remove("NO_COLOR");
    output(command, LIMIT).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that succeeds: its standard output.
async fn succeed(arguments: &[&str]) -> Result<String> {
    let output = ctl(arguments).await?;
    ensure!(output.status.code() == Some(0), "{arguments:?}: {}", text(&output.stderr));
    ensure!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Runs a command that fails with this status: its error message, one line except for usage errors.
async fn fail(status: i32, arguments: &[&str]) -> Result<String> {
    let output = ctl(arguments).await?;
    let stderr = text(&output.stderr);
    ensure!(output.status.code() == Some(status), "{arguments:?}: {:?} {stderr}", output.status);
    ensure!(output.stdout.is_empty() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    ensure!(
        status == 64 || stderr.trim_end().lines().count() == 1,
        "{arguments:?}: more than one line: {stderr}"
    );
    Ok(stderr)
}

/// The rows of a printed table, each as its cells; the first row holds the titles.
fn rows(table: &str) -> Vec<Vec<String>> {
    let is_rule = |line: &&str| line.chars().all(|c| "─═╌ ".contains(c));
    let lines = table.lines().filter(|line| !line.is_empty() && !is_rule(line));
    let cells = |line: &str| {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    lines.map(cells).collect()
}

fn row<'a>(rows: &'a [Vec<String>], with: &str) -> Result<&'a Vec<String>> {
    rows.iter()
        .find(|row| row.iter().any(|cell| cell == with))
        .with_context(|| format!("no {with} in {rows:?}"))
}

/// Configures media of the home node on IPv4 and IPv6: `[::]` listens on all addresses of both.
fn on_both_families(cluster: &Cluster) -> Result<()> {
    let file = cluster.folder().join("cph-1.toml");
    let media = cluster.port("cph-1", 12);
    let before = format!("listen = \"127.0.0.1:{media}\"");
    let after = format!(
        "listen = \"[::]:{media}\"\ntcp = \"[::]:{}\"\nadvertise = [\"::1\", \"127.0.0.1\"]",
        media - 1
    );
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(&before), "{text}");
    fs::write(file, text.replace(&before, &after))?;
    Ok(())
}

/// Replaces the harness's certificates with those of `systirctl ca`.
async fn issue_certificates(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    for node in NODES {
        fs::remove_file(folder.join(format!("{node}.key")))?;
    }
    fs::remove_file(folder.join("ca.key"))?;
    let folder = at("");
    let made = succeed(&["ca", "create", "--trust-domain", "nordu.net", "--out", &folder]).await?;
    ensure!(made.contains("ca.pem") && made.contains("ca.key"), "{made}");
    let twice = fail(1, &["ca", "create", "--trust-domain", "nordu.net", "--out", &folder]).await?;
    ensure!(twice.contains("ca.key"), "an existing key is not overwritten: {twice}");
    for node in NODES {
        let issue =
            ["ca", "issue", "--ca", &folder, "--trust-domain", "nordu.net", "--node", node, "--out", &folder];
        let issued = succeed(&issue).await?;
        ensure!(issued.contains(&format!("spiffe://nordu.net/relay/{node}")), "{issued}");
        let bad = [&issue[..], &["--hours", "18446744073709551615"]].concat();
        ensure!(fail(64, &bad).await?.contains("1..=8760"));
    }
    let nowhere = at("nowhere");
    let none =
        fail(1, &["ca", "issue", "--ca", &nowhere, "--trust-domain", "nordu.net", "--node", "x"]).await?;
    ensure!(none.contains("systirctl ca create"), "{none}");
    Ok(())
}

#[test]
fn systirctl_shows_nodes_and_rooms_explains_placement_and_creates_tokens() -> Result<()> {
    run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepare(&etcd.url(), base, &[("cph-1", 1), ("sto-1", 2)]).await?;
        issue_certificates(&cluster.folder()).await?;
        // The operator's directory names the new CA.
        let roots = fs::read_to_string(cluster.folder().join("ca.pem"))?;
        let directory = cluster.documents()?.directory(1, |directory| directory.roots = roots)?;
        cluster.publish("directory.note", &directory)?;
        on_both_families(&cluster)?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.wait_ready(&NODES).await?;
        let gateway = cluster.url("cph-1");

        // Nodes: site, operator, load.
        let table = succeed(&["--url", &gateway, "nodes"]).await?;
        ensure!(!table.contains('\x1b'), "colours only on a terminal: {table}");
        ensure!(table.trim_end().ends_with("registry: connected"), "{table}");
        let nodes = rows(&table);
        let titles = [
            "node",
            "site",
            "country",
            "operator",
            "host",
            "controlled from",
            "participants",
            "version",
            "state",
        ];
        ensure!(nodes[0] == titles, "{table}");
        ensure!(
            row(&nodes, "cph-1")?[1..]
                == [
                    "Copenhagen",
                    "DK",
                    "nordunet",
                    "nordunet",
                    "DK",
                    "0 of 1",
                    env!("CARGO_PKG_VERSION"),
                    "up"
                ],
            "{table}"
        );
        ensure!(row(&nodes, "aws-sto-1")?.contains(&"US".to_owned()), "{table}");
        let json: Value = serde_json::from_str(&succeed(&["--url", &gateway, "--json", "nodes"]).await?)?;
        ensure!(json["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{json}");

        // No rooms, and the placement of a first join.
        ensure!(rows(&succeed(&["--url", &gateway, "rooms"]).await?).len() == 1, "only the titles");
        let explained = succeed(&["--url", &gateway, "explain", "lecture"]).await?;
        ensure!(explained.starts_with("lecture: not assigned yet"), "{explained}");

        // A created token works. Its participant takes the only seat of the home node.
        let create = ["--url", &gateway, "token", "create", "--room", "lecture", "--identity", "anna"];
        let token = succeed(&create).await?;
        let _anna = ScriptedClient::join_and_connect(&gateway, token.trim(), "auto_subscribe=1").await?;
        let json: Value = serde_json::from_str(&succeed(&[&create[..], &["--json"]].concat()).await?)?;
        ensure!(json["identity"] == "anna" && json["room"] == "lecture", "{json}");
        let too_long = fail(64, &[&create[..], &["--minutes", "18446744073709551615"]].concat()).await?;
        ensure!(too_long.contains("1..=525600"), "{too_long}");

        // Two more fill the sister; `explain` shows why there is no further seat.
        let more = Config {
            url: gateway.clone(),
            room: "lecture".to_owned(),
            participants: 2,
            audio: true,
            ..Config::default()
        };
        let participants = Participants::join(more).await?;
        eventually("the gateway has the sister's load report", LIMIT, || async {
            let answer = cluster.admin("cph-1", "nodes").await.ok()?;
            let mut nodes = answer["nodes"].as_array()?.iter();
            nodes.any(|node| node["node"] == "sto-1" && node["participants"] == 2).then_some(())
        })
        .await?;
        let rooms = rows(&succeed(&["--url", &gateway, "rooms"]).await?);
        ensure!(rooms[0] == ["room", "sid", "home", "spill", "epoch", "policy", "room key"], "{rooms:?}");
        let lecture = row(&rooms, "lecture")?;
        ensure!(lecture[2..4] == ["cph-1", "sto-1"] && lecture[6] == "current", "{lecture:?}");
        let explained = succeed(&["--url", &gateway, "explain", "lecture"]).await?;
        ensure!(explained.starts_with("lecture: home cph-1, spill [sto-1], epoch 1, policy "), "{explained}");
        ensure!(explained.contains("Every approved node is full by its last report"), "{explained}");
        let candidates = rows(&explained);
        for (node, reason) in [("cph-1", "full"), ("sto-1", "full"), ("aws-sto-1", "policy-denied")] {
            let row = row(&candidates, node)?;
            ensure!(row.iter().any(|cell| cell.contains(reason)), "{node} is not {reason}: {row:?}");
        }
        ensure!(explained.contains("controlled from US"), "{explained}");
        participants.leave().await?;

        // A failure is one line of text and a status.
        ensure!(fail(1, &["--url", "http://127.0.0.1:1", "nodes"]).await?.contains("does not answer"));
        ensure!(fail(1, &["--url", "nowhere", "nodes"]).await?.contains("--url nowhere"));
        let key = fail(1, &["--url", &gateway, "--api-key", "nokey", "nodes"]).await?;
        ensure!(key.contains("401"), "{key}");
        let secret = fail(1, &["--url", &gateway, "--api-secret", "hunter2", "rooms"]).await?;
        ensure!(secret.contains("401") && !secret.contains("hunter2"), "{secret}");
        fail(64, &["--url", &gateway, "explain"]).await?;
        fail(64, &["nodez"]).await?;
        Ok(())
    })
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let command_line = format!("{} --url {} nodes", built("systirctl")?.display(), cluster.url("cph-1"));
        // `script` runs its command on a terminal.
        let on_a_terminal = |no_color: Option<&str>| {
            let mut command = Command::new("script");
            let command_line = format!("stty cols 80; {command_line}");
            command
                .args(["--quiet", "--return", "--command", &command_line, "/dev/null"])
                .env_remove("NO_COLOR");
            if let Some(value) = no_color {
                command.env("NO_COLOR", value);
            }
            output(command, LIMIT)
        };
        let (coloured, plain) = (on_a_terminal(None).await?, on_a_terminal(Some("1")).await?);
        for shown in [&coloured, &plain] {
            ensure!(shown.status.code() == Some(0), "{}", text(&shown.stdout));
            ensure!(text(&shown.stdout).contains("Copenhagen"), "{}", text(&shown.stdout));
        }
        ensure!(text(&coloured.stdout).contains("\x1b["), "{}", text(&coloured.stdout));
        ensure!(!text(&plain.stdout).contains('\x1b'), "{}", text(&plain.stdout));
        ensure!(
            rows(&text(&plain.stdout)).iter().flatten().any(|cell| cell == "aws-sto-1"),
            "names are not wrapped"
        );
        let widest = text(&plain.stdout).lines().map(|line| line.trim_end().chars().count()).max();
        ensure!(widest <= Some(80), "it fits the terminal: {}", text(&plain.stdout));
        Ok(())
    })
}
