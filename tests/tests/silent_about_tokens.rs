//! Whatever is logged, tokens and secrets are not in it.

use anyhow::Result;
use livekit_token::{AccessToken, VideoGrants};
use systir_tests::etcd::Etcd;
use systir_tests::process::port_block;
use systir_tests::scene;
use systir_tests::signal::Signal;
use systir_tests::site::Site;

const SECRET: &str = "0-very-long-word-that-nobody-guesses-0";

fn token(secret: &str, room: &str) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: room.to_owned(), ..Default::default() };
    Ok(AccessToken::with_api_key("devkey", secret).with_identity("anna").with_grants(grants).to_jwt()?)
}

#[test]
fn at_trace_level_no_token_and_no_secret_is_logged() -> Result<()> {
    scene::play(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let site = Site::new(base)?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let environment = [
            ("SYSTIR_REGISTRY__ETCD", etcd_url.as_str()),
            ("SYSTIR_KEYS__DEVKEY__SECRET", SECRET),
            ("SYSTIR_TELEMETRY__LOG", "trace"),
            ("SYSTIR_PAGE__GUEST_KEY", "devkey"),
            ("SYSTIR_NODE__CAPACITY", "1"),
        ];
        let home = site.start("cph-1", &environment)?;
        let sister = site.start("sto-1", &environment)?;
        home.ready().await?;
        sister.ready().await?;
        home.knows_with("sto-1", SECRET).await?;

        let mut tokens =
            vec![token(SECRET, "board")?, token(SECRET, "board")?, token("a wrong one", "board")?];
        let mut anna = Signal::join_plain(base + 10, &tokens[0]).await?;
        anna.is_alive().await?;
        // The home is full: this one's signalling is relayed.
        let mut bo = Signal::join_plain(base + 10, &tokens[1].clone()).await?;
        bo.is_alive().await?;
        assert!(Signal::join_plain(base + 10, &tokens[2]).await.is_err(), "it is signed with another secret");
        let client = reqwest::Client::new();
        for token in &tokens {
            let validate = format!("{}/rtc/validate?access_token={token}", home.url());
            client.get(validate).send().await?;
            client.get(format!("{}/rtc/validate", home.url())).bearer_auth(token).send().await?;
            client.get(format!("{}/rtc/v1?access_token={token}", home.url())).send().await?;
            client.get(format!("{}/nowhere?access_token={token}", home.url())).send().await?;
            client
                .get(format!("{}/systir/v1/rooms/board/where", home.url()))
                .bearer_auth(token)
                .send()
                .await?;
        }
        let guest = client
            .post(format!("{}/systir/v1/guest-token", home.url()))
            .header("content-type", "application/json")
            .body(r#"{"room":"board","name":"Guest"}"#)
            .send()
            .await?;
        let guest: serde_json::Value = guest.error_for_status()?.json().await?;
        tokens.push(guest["token"].as_str().unwrap_or_default().to_owned());
        drop((anna, bo));

        for log in [home.stop()?, sister.stop()?] {
            assert!(log.contains("TRACE"), "it was not said that everything is logged");
            assert!(!log.contains(SECRET), "a secret: {}", around(&log, SECRET));
            for token in &tokens {
                // Each part by itself: header, claims, signature.
                for part in token.split('.').skip(1) {
                    assert!(!log.contains(part), "a token: {}", around(&log, part));
                }
            }
        }
        Ok(())
    })
}

fn around<'a>(log: &'a str, what: &str) -> &'a str {
    log.lines().find(|line| line.contains(what)).unwrap_or_default()
}
