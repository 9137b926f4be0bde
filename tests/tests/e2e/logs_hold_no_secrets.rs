//! Logs and metrics contain no tokens, no secrets, and no names of participants or rooms.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use livekit_token::{AccessToken, VideoGrants};
use systir_tests::etcd::Etcd;
use systir_tests::process::port_block;
use systir_tests::relay::RelayConfigs;
use systir_tests::scenario;
use systir_tests::signal_client::SignalClient;

const SECRET: &str = "0-very-long-secret-that-nobody-guesses-0";
const ROOM: &str = "zz-room-of-the-board-zz";
/// Identities and display names.
const PARTICIPANTS: [(&str, &str); 3] =
    [("zz-anna-lind-zz", "Zz Anna Lind"), ("zz-bo-krag-zz", "Zz Bo Krag"), ("zz-eve-zz", "Zz Eve")];
const GUEST: &str = "Zz Guest of Honour";

fn token(secret: &str, (identity, name): (&str, &str)) -> Result<String> {
    let grants = VideoGrants { room_join: true, room: ROOM.to_owned(), ..Default::default() };
    let token = AccessToken::with_api_key("devkey", secret).with_identity(identity).with_name(name);
    Ok(token.with_grants(grants).to_jwt()?)
}

/// Names that must not occur, in each encoding that a log line might use.
fn names() -> Vec<String> {
    let participants = PARTICIPANTS.iter().flat_map(|(identity, name)| [*identity, *name]);
    let plain = participants.chain([ROOM, GUEST]);
    // As text, in a URL, and as bytes in hexadecimal or as a list.
    let hex = |name: &str| name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let list = |name: &str| name.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let mut names: Vec<String> = Vec::new();
    for name in plain {
        names.extend([name.to_owned(), name.replace(' ', "%20"), hex(name), list(name)]);
        names.extend((0..3).map(|before| within_base64(name, before)));
    }
    names
}

/// The base64 of a name inside a longer text: the characters that depend on the name alone, when
/// `before` bytes of a group of three precede it.
fn within_base64(name: &str, before: usize) -> String {
    let all = STANDARD.encode([&vec![0; before], name.as_bytes()].concat());
    let whole = (before + name.len()) * 8 / 6;
    all.get([0, 2, 3][before]..whole).unwrap_or_default().to_owned()
}

#[test]
fn at_trace_level_logs_and_metrics_hold_no_token_no_secret_and_no_name() -> Result<()> {
    scenario::run_scenario(async {
        let base = port_block()?;
        let etcd = Etcd::start(base + 20).await?;
        let configs = RelayConfigs::new(base)?;
        let etcd_url = format!("[\"{}\"]", etcd.url());
        let environment = [
            ("SYSTIR_REGISTRY__ETCD", etcd_url.as_str()),
            ("SYSTIR_KEYS__DEVKEY__SECRET", SECRET),
            ("SYSTIR_TELEMETRY__LOG", "trace"),
            ("SYSTIR_PAGE__GUEST_KEY", "devkey"),
            ("SYSTIR_NODE__CAPACITY", "1"),
        ];
        let home = configs.start("cph-1", &environment)?;
        let sister = configs.start("sto-1", &environment)?;
        home.wait_ready().await?;
        sister.wait_ready().await?;
        home.wait_until_sees_with("sto-1", SECRET).await?;

        // It holds no key of ku.dk, and is the gateway of nobody.
        let without_keys: Vec<_> = environment
            .into_iter()
            .filter(|(name, _)| !["SYSTIR_KEYS__DEVKEY__SECRET", "SYSTIR_PAGE__GUEST_KEY"].contains(name))
            .collect();
        let unapproved = configs.start("aws-sto-1", &without_keys)?;
        unapproved.wait_ready().await?;

        let [anna, bo, eve] = PARTICIPANTS;
        let mut tokens = vec![token(SECRET, anna)?, token(SECRET, bo)?, token("a wrong one", eve)?];
        let mut anna = SignalClient::join_plain(base + 10, &tokens[0]).await?;
        anna.ping().await?;
        // The home node is full: Bo's signalling is relayed to the sister.
        let mut bo = SignalClient::join_plain(base + 10, &tokens[1].clone()).await?;
        bo.ping().await?;
        assert!(SignalClient::join_plain(base + 10, &tokens[2]).await.is_err(), "signed with another secret");
        // With both full, the next join is refused, and so is a join at the unapproved node.
        let full = token(SECRET, eve)?;
        assert!(SignalClient::join_plain(base + 10, &full).await.is_err(), "home node and sister are full");
        assert!(SignalClient::join_plain(base + 210, &full).await.is_err(), "the node is not approved");
        tokens.push(full);
        let client = reqwest::Client::new();
        for token in &tokens {
            for gateway in [home.url(), sister.url(), unapproved.url()] {
                client.get(format!("{gateway}/rtc/validate?access_token={token}")).send().await?;
                client.get(format!("{gateway}/rtc/validate")).bearer_auth(token).send().await?;
                client.get(format!("{gateway}/rtc/v1?access_token={token}")).send().await?;
                client.get(format!("{gateway}/nowhere/{ROOM}?access_token={token}")).send().await?;
                client
                    .get(format!("{gateway}/systir/v1/rooms/{ROOM}/where"))
                    .bearer_auth(token)
                    .send()
                    .await?;
                client
                    .get(format!("{gateway}/systir/v1/rooms/{ROOM}/explain"))
                    .bearer_auth(token)
                    .send()
                    .await?;
            }
        }
        let guest = client
            .post(format!("{}/systir/v1/guest-token", home.url()))
            .header("content-type", "application/json")
            .body(serde_json::json!({"room": ROOM, "name": GUEST}).to_string())
            .send()
            .await?;
        let guest: serde_json::Value = guest.error_for_status()?.json().await?;
        tokens.push(guest["token"].as_str().unwrap_or_default().to_owned());
        let mut metrics = Vec::new();
        for node in [&home, &sister, &unapproved] {
            let (status, text) = node.telemetry("/metrics").await?;
            assert!(status == 200 && text.contains("systir_signal_messages_total"), "{status}");
            metrics.push(text);
        }
        assert!(metrics[0].contains("systir_participants 1"), "a participant was connected: {}", metrics[0]);
        drop((anna, bo));

        for text in metrics {
            for name in names() {
                assert!(!text.contains(&name), "a name in the metrics: {}", around(&text, &name));
            }
        }
        for log in [home.stop()?, sister.stop()?, unapproved.stop()?] {
            for name in names() {
                assert!(!log.contains(&name), "a name: {}", around(&log, &name));
            }
            assert!(log.contains("TRACE"), "the log level was not trace");
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
