//! `systirctl` as an operator types it, against relays on both address families with a real etcd.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use systir_load::Config;
use systir_tests::cluster::Cluster;
use systir_tests::etcd::Etcd;
use systir_tests::participants::Crowd;
use systir_tests::process::{built, eventually, output, port_block};
use systir_tests::scenario::play;
use systir_tests::scripted::Scripted;

const NODES: [&str; 3] = ["cph-1", "sto-1", "aws-sto-1"];
const LIMIT: Duration = Duration::from_secs(20);

async fn ctl(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(built("systirctl")?);
    command.args(arguments).env_remove("NO_COLOR");
    output(command, LIMIT).await
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints when all is well.
async fn says(arguments: &[&str]) -> Result<String> {
    let output = ctl(arguments).await?;
    ensure!(output.status.code() == Some(0), "{arguments:?}: {}", words(&output.stderr));
    ensure!(output.stderr.is_empty(), "{arguments:?}: {}", words(&output.stderr));
    Ok(words(&output.stdout))
}

/// What it complains of, in one line.
async fn complains(status: i32, arguments: &[&str]) -> Result<String> {
    let output = ctl(arguments).await?;
    let said = words(&output.stderr);
    ensure!(output.status.code() == Some(status), "{arguments:?}: {:?} {said}", output.status);
    ensure!(output.stdout.is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    ensure!(status == 64 || said.trim_end().lines().count() == 1, "{arguments:?}: more than a line: {said}");
    Ok(said)
}

/// The table's rows, each as its cells; the titles come first.
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

/// The home's media is on both families: `[::]` listens on all addresses of both.
fn on_both_families(cluster: &Cluster) -> Result<()> {
    let file = cluster.folder().join("cph-1.toml");
    let media = cluster.port("cph-1", 12);
    let was = format!("listen = \"127.0.0.1:{media}\"");
    let is = format!(
        "listen = \"[::]:{media}\"\ntcp = \"[::]:{}\"\nadvertise = [\"::1\", \"127.0.0.1\"]",
        media - 1
    );
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(&was), "{text}");
    fs::write(file, text.replace(&was, &is))?;
    Ok(())
}

/// Certificates that `systirctl ca` made take the place of those of the harness.
async fn certify(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    for node in NODES {
        fs::remove_file(folder.join(format!("{node}.key")))?;
    }
    fs::remove_file(folder.join("ca.key"))?;
    let folder = at("");
    let made = says(&["ca", "create", "--trust-domain", "nordu.net", "--out", &folder]).await?;
    ensure!(made.contains("ca.pem") && made.contains("ca.key"), "{made}");
    let twice = complains(1, &["ca", "create", "--trust-domain", "nordu.net", "--out", &folder]).await?;
    ensure!(twice.contains("ca.key"), "a key is never overwritten: {twice}");
    for node in NODES {
        let issue =
            ["ca", "issue", "--ca", &folder, "--trust-domain", "nordu.net", "--node", node, "--out", &folder];
        let issued = says(&issue).await?;
        ensure!(issued.contains(&format!("spiffe://nordu.net/relay/{node}")), "{issued}");
        let bad = [&issue[..], &["--hours", "18446744073709551615"]].concat();
        ensure!(complains(64, &bad).await?.contains("1..=8760"));
    }
    let nowhere = at("nowhere");
    let none = complains(1, &["ca", "issue", "--ca", &nowhere, "--trust-domain", "nordu.net", "--node", "x"])
        .await?;
    ensure!(none.contains("systirctl ca create"), "{none}");
    Ok(())
}

#[test]
fn an_operator_sees_and_does_with_systirctl_what_its_words_say() -> Result<()> {
    play(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let mut cluster = Cluster::prepared(&etcd.url(), base, &[("cph-1", 1), ("sto-1", 2)]).await?;
        certify(&cluster.folder()).await?;
        on_both_families(&cluster)?;
        for node in NODES {
            cluster.start(node)?;
        }
        cluster.ready(&NODES).await?;
        let door = cluster.url("cph-1");

        // The nodes: where they stand, whose they are, how full.
        let table = says(&["--url", &door, "nodes"]).await?;
        ensure!(!table.contains('\x1b'), "colours are for a terminal: {table}");
        ensure!(table.trim_end().ends_with("registry: connected"), "{table}");
        let nodes = rows(&table);
        let titles =
            ["node", "site", "country", "operator", "machine of", "controlled from", "people", "state"];
        ensure!(nodes[0] == titles, "{table}");
        ensure!(
            row(&nodes, "cph-1")?[1..] == ["Copenhagen", "DK", "nordunet", "nordunet", "DK", "0 of 1", "up"],
            "{table}"
        );
        ensure!(row(&nodes, "aws-sto-1")?.contains(&"US".to_owned()), "{table}");
        let json: Value = serde_json::from_str(&says(&["--url", &door, "--json", "nodes"]).await?)?;
        ensure!(json["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{json}");

        // A room that nobody is in, and what its next join would meet.
        ensure!(rows(&says(&["--url", &door, "rooms"]).await?).len() == 1, "titles alone");
        let explained = says(&["--url", &door, "explain", "lecture"]).await?;
        ensure!(explained.starts_with("lecture: not assigned yet"), "{explained}");

        // A token lets its bearer in, who is the only one for whom the home has room.
        let create = ["--url", &door, "token", "create", "--room", "lecture", "--identity", "anna"];
        let token = says(&create).await?;
        let _anna = Scripted::meet(&door, token.trim(), "auto_subscribe=1").await?;
        let json: Value = serde_json::from_str(&says(&[&create[..], &["--json"]].concat()).await?)?;
        ensure!(json["identity"] == "anna" && json["room"] == "lecture", "{json}");
        let year = complains(64, &[&create[..], &["--minutes", "18446744073709551615"]].concat()).await?;
        ensure!(year.contains("1..=525600"), "{year}");

        // Two more fill the sister; nobody else has a seat, and it says why.
        let more = Config {
            url: door.clone(),
            room: "lecture".to_owned(),
            participants: 2,
            audio: true,
            ..Config::default()
        };
        let crowd = Crowd::come(more).await?;
        eventually("the door hears how full the sister is", LIMIT, || async {
            let answer = cluster.admin("cph-1", "nodes").await.ok()?;
            let mut nodes = answer["nodes"].as_array()?.iter();
            nodes.any(|node| node["node"] == "sto-1" && node["participants"] == 2).then_some(())
        })
        .await?;
        let rooms = rows(&says(&["--url", &door, "rooms"]).await?);
        ensure!(rooms[0] == ["room", "sid", "home", "spill", "epoch", "policy"], "{rooms:?}");
        let lecture = row(&rooms, "lecture")?;
        ensure!(lecture[2..4] == ["cph-1", "sto-1"], "{lecture:?}");
        let explained = says(&["--url", &door, "explain", "lecture"]).await?;
        ensure!(explained.starts_with("lecture: home cph-1, spill [sto-1], epoch 1, policy "), "{explained}");
        ensure!(explained.contains("Every approved node is full, by its last word"), "{explained}");
        let candidates = rows(&explained);
        for (node, reason) in [("cph-1", "full"), ("sto-1", "full"), ("aws-sto-1", "policy-denied")] {
            let row = row(&candidates, node)?;
            ensure!(row.iter().any(|cell| cell.contains(reason)), "{node} is not {reason}: {row:?}");
        }
        ensure!(explained.contains("controlled from US"), "{explained}");
        crowd.go().await?;

        // What goes wrong is told in one line, and by the status.
        ensure!(complains(1, &["--url", "http://127.0.0.1:1", "nodes"]).await?.contains("does not answer"));
        ensure!(complains(1, &["--url", "nowhere", "nodes"]).await?.contains("--url nowhere"));
        let key = complains(1, &["--url", &door, "--api-key", "nokey", "nodes"]).await?;
        ensure!(key.contains("401"), "{key}");
        let secret = complains(1, &["--url", &door, "--api-secret", "hunter2", "rooms"]).await?;
        ensure!(secret.contains("401") && !secret.contains("hunter2"), "{secret}");
        complains(64, &["--url", &door, "explain"]).await?;
        complains(64, &["nodez"]).await?;
        Ok(())
    })
}

#[test]
fn a_terminal_gets_colours_and_no_color_takes_them_away() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let typed = format!("{} --url {} nodes", built("systirctl")?.display(), cluster.url("cph-1"));
        // `script` gives its command a terminal.
        let on_a_terminal = |colourless: Option<&str>| {
            let mut command = Command::new("script");
            let typed = format!("stty cols 80; {typed}");
            command.args(["--quiet", "--return", "--command", &typed, "/dev/null"]).env_remove("NO_COLOR");
            if let Some(value) = colourless {
                command.env("NO_COLOR", value);
            }
            output(command, LIMIT)
        };
        let (coloured, plain) = (on_a_terminal(None).await?, on_a_terminal(Some("1")).await?);
        for shown in [&coloured, &plain] {
            ensure!(shown.status.code() == Some(0), "{}", words(&shown.stdout));
            ensure!(words(&shown.stdout).contains("Copenhagen"), "{}", words(&shown.stdout));
        }
        ensure!(words(&coloured.stdout).contains("\x1b["), "{}", words(&coloured.stdout));
        ensure!(!words(&plain.stdout).contains('\x1b'), "{}", words(&plain.stdout));
        ensure!(
            rows(&words(&plain.stdout)).iter().flatten().any(|cell| cell == "aws-sto-1"),
            "names are whole"
        );
        let widest = words(&plain.stdout).lines().map(|line| line.trim_end().chars().count()).max();
        ensure!(widest <= Some(80), "it is as wide as the terminal: {}", words(&plain.stdout));
        Ok(())
    })
}
