//! Home and sister are full and a third machine stands idle: the next person is refused, and what
//! each client shows to its user names the reason.

use std::time::Duration;

use anyhow::{Context as _, Result};
use livekit_token::{AccessToken, VideoGrants};
use systir_load::Config;
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::process::eventually;
use systir_tests::raw_signalling::Signalling;
use systir_tests::scenario::play;
use tokio::task::JoinHandle;

const ROOM: &str = "lecture";

/// Two people who stay: one at home, one at the sister.
async fn fill(cluster: &Cluster) -> Result<JoinHandle<Result<systir_load::Report>>> {
    let people = Config {
        url: cluster.url("cph-1"),
        room: ROOM.to_owned(),
        participants: 2,
        audio: true,
        stay: true,
        ..Config::default()
    };
    let running = tokio::spawn(systir_load::run(people));
    eventually("home and sister are full", Duration::from_secs(30), || async {
        let home = cluster.counter("cph-1", "systir_participants").await.ok()?;
        let sister = cluster.counter("sto-1", "systir_participants").await.ok()?;
        (home == 1 && sister == 1).then_some(())
    })
    .await?;
    Ok(running)
}

/// The sentence that every client must show: whose decision, and what is full.
fn names_the_reason(what: &str, words: &str) {
    assert!(words.contains("ku.dk") && words.contains("full"), "{what} shows: {words}");
}

/// What livekit-client gives to the page that uses it, without ours around it.
fn livekit_client(browser: &mut Browser, door: &str, page: &str, token: &str) -> Result<String> {
    browser.open(page, door)?;
    let file = clients().join("node_modules/livekit-client/dist/livekit-client.umd.js");
    browser.carry_out(&serde_json::json!({"do": "script", "page": page, "file": file}))?;
    let code = format!(
        "new LivekitClient.Room().connect('{}', '{token}').then(() => 'joined', (error) => `${{error.name}}: ${{error.message}}`)",
        door.replace("http", "ws")
    );
    Ok(browser.eval(page, &code)?.as_str().context("no words")?.to_owned())
}

fn native_sdk(door: &str, token: &str) -> Result<String> {
    let mut native = Native::join(&door.replace("http", "ws"), token, &[])?;
    Ok(native.until("refused")?["reason"].as_str().context("no reason")?.to_owned())
}

#[test]
fn with_home_and_sister_full_every_client_shows_why_it_is_refused() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let _running = fill(&cluster).await?;
        let (status, words) = cluster.validate("cph-1", ROOM, "anna").await?;
        assert_eq!(status, 403);
        names_the_reason("/rtc/validate", &words);
        let door = cluster.url("cph-1");
        tokio::task::spawn_blocking(move || -> Result<()> {
            names_the_reason("the native SDK", &native_sdk(&door, &token(ROOM, "bo")?)?);
            let mut browser = Browser::start()?;
            names_the_reason(
                "livekit-client",
                &livekit_client(&mut browser, &door, "chen", &token(ROOM, "chen")?)?,
            );
            browser.try_join(&door, ROOM, "dina")?;
            browser.wait("dina", "!document.getElementById('problem').hidden", 30)?;
            let shown = browser.eval("dina", "document.getElementById('problem').innerText")?;
            names_the_reason("the meeting page", shown.as_str().unwrap_or_default());
            browser.shot("dina", "refused", (1280, 800))?;
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
fn at_the_door_of_a_machine_that_nobody_approved_every_client_shows_why() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("aws-sto-1");
        let controlled = |what: &str, words: &str| {
            assert!(words.contains("controlled from US"), "{what} shows: {words}");
        };
        let (status, words) = cluster.validate("aws-sto-1", ROOM, "anna").await?;
        assert_eq!(status, 403);
        controlled("/rtc/validate", &words);
        tokio::task::spawn_blocking(move || -> Result<()> {
            controlled("the native SDK", &native_sdk(&door, &token(ROOM, "bo")?)?);
            let mut browser = Browser::start()?;
            controlled(
                "livekit-client",
                &livekit_client(&mut browser, &door, "chen", &token(ROOM, "chen")?)?,
            );
            // There is no meeting page, which would ask for a name and a camera; the reason is there.
            browser.open("dina", &format!("{door}/?room={ROOM}&name=dina"))?;
            let shown = browser.eval("dina", "document.body.innerText")?;
            controlled("the page", shown.as_str().unwrap_or_default());
            let asks = "document.querySelectorAll('input, button, script').length";
            assert_eq!(browser.eval("dina", asks)?, 0, "it asks for nothing");
            browser.shot("dina", "no-meetings-here-phone", (390, 844))?;
            browser.shot("dina", "no-meetings-here-laptop", (1280, 800))?;
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
fn a_machine_that_nobody_approved_tells_nothing_and_mints_no_token() -> Result<()> {
    play(async {
        let cluster = Cluster::demo(&[("cph-1", 1), ("sto-1", 1)]).await?;
        let _running = fill(&cluster).await?;
        let (door, home) = (cluster.url("aws-sto-1"), cluster.url("cph-1"));
        let client = reqwest::Client::new();
        let said = async |request: reqwest::RequestBuilder| -> Result<(u16, String)> {
            let answer = request.send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        };
        let signalling = async || -> Result<()> {
            for counter in
                ["systir_signal_websockets", "systir_signal_streams", "systir_signal_messages_total"]
            {
                assert_eq!(cluster.counter("aws-sto-1", counter).await?, 0, "{counter}");
            }
            Ok(())
        };
        signalling().await?;
        // Whatever is asked, the answer is that of a join: the same status, sentence, reason and rule.
        let at_the_door = cluster.validate("aws-sto-1", ROOM, "anna").await?;
        assert_eq!(at_the_door.0, 403);
        assert!(at_the_door.1.contains("controlled from US"), "{at_the_door:?}");
        assert!(at_the_door.1.ends_with("[forbidden: ku-machine-controlled-from-eea]"), "{at_the_door:?}");
        let anna = token(ROOM, "anna")?;
        for query in ["", "&reconnect=1", "&reconnect=1&sid=PA_x"] {
            let away = Signalling::open(&door, &format!("{anna}{query}")).await?.err();
            let away = away.with_context(|| format!("let in with {query:?}"))?;
            assert_eq!((away.status, away.words), at_the_door, "{query:?}");
        }
        let operator = operator()?;
        for (path, token) in [
            (format!("rooms/{ROOM}/where"), &anna),
            (format!("rooms/{ROOM}/where"), &operator),
            ("nodes".to_owned(), &operator),
            ("rooms".to_owned(), &operator),
            (format!("rooms/{ROOM}/explain"), &operator),
        ] {
            let asked = client.get(format!("{door}/systir/v1/{path}")).bearer_auth(token);
            assert_eq!(said(asked).await?, at_the_door, "{path}");
        }
        let guest = |door: &str| {
            let asked = client.post(format!("{door}/systir/v1/guest-token"));
            asked.json(&serde_json::json!({"room": ROOM, "name": "Dina"}))
        };
        assert_eq!(said(guest(&door)).await?, at_the_door, "no token is made here");
        assert_eq!(said(client.get(format!("{door}/app.js"))).await?.0, 404, "no meeting page");
        assert_eq!(client.head(&door).send().await?.status().as_u16(), 200, "clients look whether it lives");
        signalling().await?;
        // At a door of the institution the same questions are answered.
        assert_eq!(said(guest(&home)).await?.0, 200);
        let asked = client.get(format!("{home}/systir/v1/rooms/{ROOM}/where")).bearer_auth(&anna);
        assert_eq!(said(asked).await?.0, 200);
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
