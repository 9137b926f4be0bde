//! How long joins take, client by client. Each client joins the same room again and again, in which one participant publishes
//! video and audio, and leaves; pion's join one a second and stay.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::token;
use systir_tests::driven_client::DrivenClient;
use systir_tests::impaired_path::{At, Condition, ImpairedPath, SERVER};
use systir_tests::server_process::PORT;

use crate::load::{FIRST_ROOM, Kind, Load, join_figures};
use crate::servers::{Programs, Server};
use crate::table::Figure;

/// Joins of each client.
const JOINS: u32 = 20;
/// For a browser to make all of them.
const SECONDS: u32 = 120;

/// Video of 100 kbit/s and audio: the joins are measured, not the decoders.
const LOAD: Load = Load {
    name: "joins",
    rooms: 1,
    publishers: 1,
    kbps: 100,
    audio: true,
    subscribers: JOINS,
    kind: Kind::Media,
    seconds: 0,
};

/// Measures the joins of all clients to one server.
pub(crate) async fn measure(path: &ImpairedPath, programs: &Programs, server: Server) -> Result<Vec<Figure>> {
    path.set(Condition::Free)?;
    let _running = server.start(path, programs).await?;
    tokio::task::block_in_place(|| {
        let mut publisher = Load::join(LOAD.client(path, programs).arg("-rate=1"))?;
        let mut figures = Vec::new();
        for (client, joined) in [
            ("Chromium", chromium(path)?),
            ("Firefox, two peer connections", firefox(path)?),
            ("libwebrtc (Python SDK)", python(path)?),
            ("pion (Go SDK)", Load::subscribe(&mut publisher)?),
        ] {
            figures.extend(join_figures(client, &joined)?);
        }
        Ok(figures)
    })
}

fn url() -> String {
    format!("ws://{SERVER}:{PORT}")
}

fn tokens(client: &str) -> Result<Vec<String>> {
    (0..JOINS).map(|number| token(FIRST_ROOM, &format!("{client}-{number}"))).collect()
}

/// What a browser does: it opens the page, and the page joins, with these options of the room.
fn commands(client: &str, options: &Value) -> Result<[Value; 2]> {
    let page = format!("file://{}", clients().join("joins.html").display());
    let code = format!("joins({}, {}, {options})", json!(url()), json!(tokens(client)?));
    Ok([
        json!({"do": "open", "page": client, "url": page}),
        json!({"do": "eval", "page": client, "code": code, "seconds": SECONDS}),
    ])
}

fn chromium(path: &ImpairedPath) -> Result<Value> {
    let mut browser = Browser::with(path.command(At::Server, "node"), &[])?;
    let [open, join] = commands("chromium", &json!({}))?;
    browser.command(&open)?;
    browser.command(&join)
}

/// With its default options LiveKit's client tries a path first that Systir refuses
/// (`docs/decisions/13-two-peer-connections.md`), and Firefox delays the next attempt after each one that failed.
fn firefox(path: &ImpairedPath) -> Result<Value> {
    let mut browser = DrivenClient::firefox_with(path.command(At::Server, "node"))?;
    let [open, join] = commands("firefox", &json!({"singlePeerConnection": false}))?;
    browser.browser_command(&open)?;
    browser.browser_command(&join)
}

fn python(path: &ImpairedPath) -> Result<Value> {
    let mut command = path.command(At::Server, clients().join(".venv/bin/python"));
    command.arg(clients().join("python_joins.py")).arg(url()).args(tokens("python")?);
    let mut client = DrivenClient::start(&mut command, "python-joins", "run tests/clients/python-client")?;
    client
        .wait_for("joined", |event| (event["event"] == "joined").then(|| event.clone()))
        .context("libwebrtc")
}
