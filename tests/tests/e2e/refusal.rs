//! Refused joins: with home node and sister full, the next participant is refused although an unapproved
//! node is idle, and each client shows the reason.

use std::time::Duration;

use anyhow::{Context as _, Result};
use livekit_token::{AccessToken, VideoGrants};
use systir_load::Config;
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::NativeClient;
use systir_tests::process::eventually;
use systir_tests::raw_signalling::RawSignalling;
use systir_tests::scenario::run_scenario;
use tokio::task::JoinHandle;

const ROOM: &str = "lecture";

/// Two participants who stay: one on the home node, one on the sister.
async fn fill(cluster: &Cluster) -> Result<JoinHandle<Result<systir_load::Report>>> {
    let load = Config {
        url: cluster.url("cph-1"),
        room: ROOM.to_owned(),
        participants: 2,
        audio: true,
        stay: true,
        ..Config::default()
    };
    let running = tokio::spawn(systir_load::run(load));
    eventually("home and sister are full", Duration::from_secs(30), || async {
        let home = cluster.counter("cph-1", "systir_participants").await.ok()?;
        let sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
        (home == 1 && sister == 1).then_some(())
    })
    .await?;
    Ok(running)
}

/// Checks the sentence that every client must show: whose decision, and what is full.
fn assert_names_the_reason(what: &str, text: &str) {
    assert!(text.contains("ku.dk") && text.contains("full"), "{what} shows: {text}");
}

/// The error that livekit-client reports to a page, without the meeting page.
fn livekit_client(browser: &mut Browser, gateway: &str, page: &str, token: &str) -> Result<String> {
    browser.open(page, gateway)?;
    let file = clients().join("node_modules/livekit-client/dist/livekit-client.umd.js");
    browser.command(&serde_json::json!({"do": "script", "page": page, "file": file}))?;
    let code = format!(
        "new LivekitClient.Room().connect('{}', '{token}').then(() => 'joined', (error) => `${{error.name}}: ${{error.message}}`)",
        gateway.replace("http", "ws")
    );
    Ok(browser.eval(page, &code)?.as_str().context("no text")?.to_owned())
}

fn native_sdk(gateway: &str, token: &str) -> Result<String> {
    let mut native = NativeClient::join(&gateway.replace("http", "ws"), token, &[])?;
    Ok(native.wait_for("refused")?["reason"].as_str().context("no reason")?.to_owned())
}

#[test]
fn with_home_and_sister_full_every_client_shows_why_it_is_refused() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let _running = fill(&cluster).await?;
        let (status, text) = cluster.validate("cph-1", ROOM, "anna").await?;
        assert_eq!(status, 403);
        assert_names_the_reason("/rtc/validate", &text);
        let gateway = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            assert_names_the_reason("the native SDK", &native_sdk(&gateway, &token(ROOM, "bo")?)?);
            let mut browser = Browser::start()?;
            assert_names_the_reason(
                "livekit-client",
                &livekit_client(&mut browser, &gateway, "chen", &token(ROOM, "chen")?)?,
            );
            browser.try_join(&gateway, ROOM, "dina")?;
            browser.wait("dina", "!document.getElementById('problem').hidden", 30)?;
            let shown = browser.eval("dina", "document.getElementById('problem').innerText")?;
            assert_names_the_reason("the meeting page", shown.as_str().unwrap_or_default());
            browser.screenshot("dina", "refused", (1280, 800))?;
            assert_eq!(browser.eval("dina", "document.getElementById('meeting').hidden")?, true);
            Ok(())
        })
        .await??;
        let refused = cluster.counter_with("cph-1", "systir_joins_total", "outcome=\"refused\"").await?;
        assert!(refused >= 3, "each refusal is counted: {refused}");
        for counter in ["systir_datagrams_in_total", "systir_link_in_total", "systir_links", "systir_rooms"] {
            assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
        }
        Ok(())
    })
}

#[test]
fn at_an_unapproved_gateway_every_client_shows_why_it_is_refused() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("aws-sto-1");
        let assert_names_the_reason = |what: &str, text: &str| {
            assert!(text.contains("controlled from US"), "{what} shows: {text}");
        };
        let (status, text) = cluster.validate("aws-sto-1", ROOM, "anna").await?;
        assert_eq!(status, 403);
        assert_names_the_reason("/rtc/validate", &text);
        tokio::task::spawn_blocking(move || -> Result<()> {
            assert_names_the_reason("the native SDK", &native_sdk(&gateway, &token(ROOM, "bo")?)?);
            let mut browser = Browser::start()?;
            assert_names_the_reason(
                "livekit-client",
                &livekit_client(&mut browser, &gateway, "chen", &token(ROOM, "chen")?)?,
            );
            // Instead of the meeting page, which asks for a name and a camera, it serves the reason.
            browser.open("dina", &format!("{gateway}/?room={ROOM}&name=dina"))?;
            let shown = browser.eval("dina", "document.body.innerText")?;
            assert_names_the_reason("the page", shown.as_str().unwrap_or_default());
            let asks = "document.querySelectorAll('input, button, script').length";
            assert_eq!(browser.eval("dina", asks)?, 0, "it asks for nothing");
            browser.screenshot("dina", "no-meetings-here-phone", (390, 844))?;
            browser.screenshot("dina", "no-meetings-here-laptop", (1280, 800))?;
            Ok(())
        })
        .await??;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            assert_eq!(cluster.counter(node, "systir_rooms").await?, 0, "no room was opened on {node}");
        }
        Ok(())
    })
}

#[test]
fn an_unapproved_gateway_reveals_nothing_and_issues_no_token() -> Result<()> {
    run_scenario(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let _running = fill(&cluster).await?;
        let (unapproved, home) = (cluster.url("aws-sto-1"), cluster.url("cph-1"));
        let client = reqwest::Client::new();
        let response = async |request: reqwest::RequestBuilder| -> Result<(u16, String)> {
            let answer = request.send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        };
        let assert_no_signalling = async || -> Result<()> {
            for counter in
                ["systir_signal_websockets", "systir_signal_streams", "systir_signal_messages_total"]
            {
                assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
            }
            Ok(())
        };
        assert_no_signalling().await?;
        // Every request is answered like a join: the same status, sentence, reason and rule.
        let of_a_join = cluster.validate("aws-sto-1", ROOM, "anna").await?;
        assert_eq!(of_a_join.0, 403);
        assert!(of_a_join.1.contains("controlled from US"), "{of_a_join:?}");
        assert!(of_a_join.1.ends_with("[forbidden: ku-host-controlled-from-eea]"), "{of_a_join:?}");
        let anna = token(ROOM, "anna")?;
        for query in ["", "&reconnect=1", "&reconnect=1&sid=PA_x"] {
            let refusal = RawSignalling::open(&unapproved, &format!("{anna}{query}")).await?.err();
            let refusal = refusal.with_context(|| format!("accepted with {query:?}"))?;
            assert_eq!((refusal.status, refusal.text), of_a_join, "{query:?}");
        }
        let operator = operator()?;
        for (path, token) in [
            (format!("rooms/{ROOM}/where"), &anna),
            (format!("rooms/{ROOM}/where"), &operator),
            ("nodes".to_owned(), &operator),
            ("rooms".to_owned(), &operator),
            (format!("rooms/{ROOM}/explain"), &operator),
        ] {
            let request = client.get(format!("{unapproved}/systir/v1/{path}")).bearer_auth(token);
            assert_eq!(response(request).await?, of_a_join, "{path}");
        }
        let guest = |url: &str| {
            let request = client.post(format!("{url}/systir/v1/guest-token"));
            request.json(&serde_json::json!({"room": ROOM, "name": "Dina"}))
        };
        assert_eq!(response(guest(&unapproved)).await?, of_a_join, "no guest token");
        assert_eq!(response(client.get(format!("{unapproved}/app.js"))).await?.0, 403, "no meeting page");
        assert_eq!(client.head(&unapproved).send().await?.status().as_u16(), 200, "clients probe with HEAD");
        assert_no_signalling().await?;
        // An approved gateway answers the same requests.
        assert_eq!(response(guest(&home)).await?.0, 200);
        let request = client.get(format!("{home}/systir/v1/rooms/{ROOM}/where")).bearer_auth(&anna);
        assert_eq!(response(request).await?.0, 200);
        for counter in ["systir_signal_websockets", "systir_signal_streams", "systir_signal_messages_total"] {
            assert!(cluster.counter("cph-1", counter).await? > 0, "{counter}");
        }
        Ok(())
    })
}

fn operator() -> Result<String> {
    let grants = VideoGrants { room_list: true, room_admin: true, ..Default::default() };
    Ok(AccessToken::with_api_key("devkey", "secret")
        .with_identity("operator")
        .with_grants(grants)
        .to_jwt()?)
}
