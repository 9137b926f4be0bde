//! Home and sister are full and a third machine stands idle: the next person is refused, and what
//! each client shows to its user names the reason.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::Config;
use systir_tests::browser::{Browser, clients};
use systir_tests::cluster::{Cluster, token};
use systir_tests::native::Native;
use systir_tests::process::eventually;
use systir_tests::scene::play;
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
            browser.try_join(&door, ROOM, "dina")?;
            browser.wait("dina", "!document.getElementById('problem').hidden", 30)?;
            let shown = browser.eval("dina", "document.getElementById('problem').innerText")?;
            controlled("the meeting page", shown.as_str().unwrap_or_default());
            browser.shot("dina", "refused-at-the-door", (390, 844))?;
            Ok(())
        })
        .await??;
        for node in ["cph-1", "sto-1", "aws-sto-1"] {
            assert_eq!(cluster.counter(node, "systir_rooms").await?, 0, "no room was opened on {node}");
        }
        Ok(())
    })
}
