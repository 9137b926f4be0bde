//! Invalid and hostile input: each sender gets a clear error, and the relay keeps serving.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use livekit_protocol::{request_response, signal_response};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::cluster::{Cluster, token};
use systir_tests::process::eventually;
use systir_tests::raw_signalling::{RawSignalling, sign_token};
use systir_tests::scenario::run_scenario;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

/// The demo's process runs, nothing in it panicked, and two participants can still meet.
async fn still_serves(cluster: &mut Cluster) -> Result<()> {
    assert!(cluster.is_running("demo"), "the process runs");
    let log = cluster.log("demo")?;
    assert!(!log.contains("panicked"), "nothing panics: {log}");
    let report = systir_load::run(Config {
        url: cluster.url("cph-1"),
        room: "afterwards".to_owned(),
        participants: 2,
        duration: Duration::from_secs(1),
        ..Config::default()
    })
    .await?;
    assert_eq!((report.joined, report.tracks_received), (2, 4), "{report:?}");
    Ok(())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Valid claims with a change.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "iss": "devkey", "sub": "mallory", "nbf": seconds() - 10, "exp": seconds() + 600,
        "video": {"room": "lecture", "roomJoin": true},
    });
    change(&mut claims);
    claims
}

#[test]
fn an_invalid_token_is_refused_with_the_reason() -> Result<()> {
    run_scenario(async {
        let mut cluster = Cluster::demo(&[]).await?;
        let gateway = cluster.url("cph-1");
        let good = claims(|_| {});
        let cases = [
            ("none", String::new(), 401, "no access token"),
            ("garbage", "%21%21.%00.garbage".to_owned(), 401, "not a JWT"),
            ("another secret", sign_token(&good, "guessed"), 401, "signature does not fit"),
            (
                "an unknown API key",
                sign_token(&claims(|c| c["iss"] = json!("nokey")), "secret"),
                401,
                "invalid API key",
            ),
            (
                "expired",
                sign_token(&claims(|c| c["exp"] = json!(seconds() - 3600)), "secret"),
                401,
                "expired",
            ),
            (
                "not yet",
                sign_token(&claims(|c| c["nbf"] = json!(seconds() + 3600)), "secret"),
                401,
                "not valid yet",
            ),
            (
                "no roomJoin",
                sign_token(&claims(|c| c["video"]["roomJoin"] = json!(false)), "secret"),
                401,
                "roomJoin",
            ),
            ("no room", sign_token(&claims(|c| c["video"]["room"] = json!("")), "secret"), 400, "room name"),
            ("no identity", sign_token(&claims(|c| c["sub"] = json!("")), "secret"), 400, "identity"),
        ];
        let client = reqwest::Client::new();
        for (what, token, status, reason) in cases {
            let refusal = RawSignalling::open(&gateway, &token).await?.err();
            let refusal = refusal.with_context(|| format!("a token with {what} was accepted"))?;
            assert_eq!(refusal.status, status, "{what}: {refusal:?}");
            assert!(refusal.text.contains(reason), "{what}: {refusal:?}");
            // Browser SDKs read the reason from here.
            let answer = client.get(format!("{gateway}/rtc/validate?access_token={token}")).send().await?;
            assert_eq!(answer.status().as_u16(), status, "{what}");
            let text = answer.text().await?;
            assert_eq!(text, refusal.text, "{what}");
            assert!(
                token.len() < 40 || !cluster.log("demo")?.contains(&token),
                "{what}: no token in the log"
            );
        }
        // A token with `alg: none`, which some libraries accepted.
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJkZXZrZXkifQ.";
        let refusal =
            RawSignalling::open(&gateway, unsigned).await?.err().context("an unsigned token was accepted")?;
        assert!(refusal.status == 401 && refusal.text.contains("HS256"), "{refusal:?}");
        // A token for one room gives no access to another room.
        let here = token("lecture", "mallory")?;
        let elsewhere = format!("{gateway}/systir/v1/rooms/board/where");
        let answer = client.get(elsewhere).bearer_auth(&here).send().await?;
        assert_eq!(answer.status().as_u16(), 403);
        assert!(answer.text().await?.contains("another room"));
        let answer = client.get(format!("{gateway}/systir/v1/rooms")).bearer_auth(&here).send().await?;
        assert_eq!(answer.status().as_u16(), 403);
        assert!(answer.text().await?.contains("roomList"));
        still_serves(&mut cluster).await
    })
}

#[test]
fn garbage_on_the_signalling_socket_affects_no_other_participant() -> Result<()> {
    run_scenario(async {
        let mut cluster = Cluster::demo(&[("cph-1", 20)]).await?;
        let gateway = cluster.url("cph-1");
        let join = async |identity: &str| RawSignalling::join(&gateway, &token("lecture", identity)?).await;

        // A message that cannot be decoded is ignored, like an unknown message of a newer client.
        let (mut garbling, _) = join("garbling").await?;
        for garbage in ["", "{", "not json at all", r#"{"message":{"Offer":17}}"#, "\u{0}\u{fffd}"] {
            garbling.send(Message::Text(garbage.into())).await?;
        }
        for garbage in [vec![], vec![0xff; 1000], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0; 100_000]]
        {
            garbling.send(Message::Binary(garbage.into())).await?;
        }
        garbling.ping().await.context("after garbage")?;

        // A message that is too long ends the connection.
        let (mut flooder, _) = join("flooder").await?;
        let _ = flooder.send(Message::Binary(vec![0x12; 3 << 20].into())).await;
        flooder.wait_until_closed().await.context("after 3 MiB in one message")?;
        let (announcing, _) = join("announcing").await?;
        let mut bytes = announcing.into_stream()?;
        // A masked binary frame that announces 2^40 bytes.
        bytes.write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).await?;
        closed(bytes).await.context("after an announced frame of a terabyte")?;

        // A truncated frame, and frames with reserved bits.
        let (truncated, _) = join("truncated").await?;
        let mut bytes = truncated.into_stream()?;
        bytes.write_all(&[0x82, 0xfe, 0x04, 0x00, 1, 2, 3, 4, 5, 6, 7]).await?;
        drop(bytes);
        let (reserved, _) = join("reserved").await?;
        let mut bytes = reserved.into_stream()?;
        bytes.write_all(&[0xff; 64]).await?;
        closed(bytes).await.context("after reserved bits")?;

        // A participant that sends nothing keeps its session while it answers pings.
        let (mut silent, _) = join("silent").await?;
        garbling.ping().await?;
        eventually("the closed sessions are removed", Duration::from_secs(30), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(())
        })
        .await?;
        silent.ping().await?;
        still_serves(&mut cluster).await
    })
}

/// Waits until the relay has closed the connection.
async fn closed(mut stream: TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    // A reset counts too.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await?;
    Ok(())
}

#[test]
fn an_invalid_description_is_refused_with_the_fault() -> Result<()> {
    run_scenario(async {
        let mut cluster = Cluster::demo(&[]).await?;
        let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
        let ice = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
        let print = format!("a=fingerprint:sha-256 {}\r\n", vec!["AB"; 32].join(":"));
        let setup = "a=setup:actpass\r\n";
        let section = |mid: &str| {
            format!(
                "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{ice}{print}{setup}a=mid:{mid}\r\na=sctp-port:5000\r\n"
            )
        };
        let bundle = |mids: &str| format!("{head}a=group:BUNDLE {mids}\r\n");
        let many: String = (0..10_000)
            .map(|index| format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{index}\r\n"))
            .collect();
        let few: String = (0..600).map(|_| "m=audio 9 X 0\r\n").collect();
        let cases = [
            ("empty", String::new(), "not SDP"),
            ("text", "hello".to_owned(), "not SDP"),
            ("a broken m-line", format!("{head}m=audio\r\n"), "not SDP"),
            ("huge", format!("{head}a={}\r\n", "x".repeat(1 << 20)), "bytes"),
            ("10,000 m-lines", format!("{head}{many}"), "m-lines"),
            ("600 m-lines", format!("{head}{few}"), "m-lines"),
            ("no fingerprint", bundle("0") + &section("0").replace(&print, ""), "fingerprint"),
            ("an empty fingerprint", bundle("0") + &section("0").replace("AB:", ""), "fingerprint"),
            (
                "no ICE password",
                bundle("0") + &section("0").replace("a=ice-pwd:0123456789012345678901\r\n", ""),
                "ice-pwd",
            ),
            ("two equal mids", bundle("0 0") + &section("0") + &section("0"), "mid"),
            ("a mid that is no token", bundle("0") + &section("\u{e9} \"0"), "mid"),
        ];
        let (mut client, _) =
            RawSignalling::join(&cluster.url("cph-1"), &token("lecture", "mallory")?).await?;
        for (what, sdp, fault) in cases {
            client.offer(&sdp).await?;
            let answer = client
                .wait_for(&format!("the answer to a description: {what}"), |message| match message {
                    signal_response::Message::RequestResponse(response) => Some(response),
                    _ => None,
                })
                .await?;
            assert_eq!(answer.reason(), request_response::Reason::InvalidRequest, "{what}: {answer:?}");
            assert!(answer.message.contains(fault), "{what}: {answer:?}");
        }
        // An answer without an offer, and a description of type `pranswer`.
        for kind in ["answer", "pranswer"] {
            let sdp = bundle("0") + &section("0");
            let description =
                livekit_protocol::SessionDescription { r#type: kind.into(), sdp, ..Default::default() };
            client.request(livekit_protocol::signal_request::Message::Answer(description)).await?;
        }
        client.ping().await?;
        // A valid offer is still answered.
        client.offer(&(bundle("0") + &section("0"))).await?;
        let answer = client.wait_for("the answer to a valid offer", |message| match message {
            signal_response::Message::Answer(answer) => Some(answer),
            _ => None,
        });
        assert!(answer.await?.sdp.contains("a=fingerprint:sha-256"));
        still_serves(&mut cluster).await
    })
}

/// Datagrams that belong to no participant: STUN, RTP, DTLS and random bytes, some of them truncated.
fn unknown_datagram(index: u32) -> Vec<u8> {
    let id = index.to_be_bytes();
    let mut packet = match index % 5 {
        0 => [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &id, &id, &id].concat(),
        // A STUN attribute that claims to be longer than the message.
        1 => [&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42][..], &id, &id, &id, &[0, 6, 0xff, 0xff], &id].concat(),
        2 => [&[0x80, 111][..], &id, &id, &id, &[0x55; 160]].concat(),
        3 => [&[22, 254, 253, 0, 0, 0, 0][..], &id, &[0, 12, 1, 0, 0, 0, 0, 0]].concat(),
        _ => vec![index as u8; index as usize % 1400],
    };
    if index.is_multiple_of(7) {
        packet.truncate(packet.len() / 2);
    }
    packet
}

#[test]
fn ten_thousand_unknown_datagrams_change_nothing() -> Result<()> {
    run_scenario(async {
        let mut cluster = Cluster::demo(&[]).await?;
        let media = cluster.port("cph-1", 12);
        let running = tokio::spawn(systir_load::run(Config {
            url: cluster.url("cph-1"),
            room: "lecture".to_owned(),
            participants: 2,
            duration: Duration::from_secs(6),
            ..Config::default()
        }));
        eventually("two participants have joined", Duration::from_secs(30), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(())
        })
        .await?;
        let before = cluster.counter("cph-1", "systir_datagrams_in_total").await?;
        let senders = [UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?];
        for index in 0..10_000_u32 {
            let socket = &senders[index as usize % 2];
            socket.send_to(&unknown_datagram(index), ("127.0.0.1", media)).await?;
            // Not faster than the worker empties its socket buffer, so that they arrive.
            if index.is_multiple_of(50) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let after = cluster.counter("cph-1", "systir_datagrams_in_total").await?;
        assert!(after - before > 5_000, "they reached the worker: {before} -> {after}");
        // The QUIC ports get them too, and may answer; the gRPC port gets bytes that are no TLS.
        let other = UdpSocket::bind("127.0.0.1:0").await?;
        for port in [cluster.port("cph-1", 0), cluster.port("sto-1", 0)] {
            for index in 0..2_000 {
                other.send_to(&unknown_datagram(index), ("127.0.0.1", port)).await?;
            }
        }
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut stream = TcpStream::connect(("127.0.0.1", cluster.port("cph-1", 1))).await?;
            stream.write_all(bytes).await?;
            closed(stream).await.context("no TLS at the gRPC port")?;
        }
        let report = running.await??;
        assert_eq!((report.joined, report.tracks_received), (2, 4), "{report:?}");
        assert_eq!(report.ended.len(), 0, "every session goes on: {report:?}");
        // The link between the two nodes still comes up when a room needs it.
        let spilled = systir_load::run(Config {
            url: cluster.url("cph-1"),
            room: "large".to_owned(),
            participants: 6,
            publishers: Some(1),
            duration: Duration::from_secs(1),
            ..Config::default()
        })
        .await?;
        assert_eq!((spilled.joined, spilled.nodes.len()), (6, 2), "{spilled:?}");
        for socket in senders {
            // Whatever the media port sent back waits here since.
            let came_back = socket.into_std()?.recv_from(&mut [0; 2_048]);
            let nothing = came_back.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            ensure!(nothing, "the media port answered: {came_back:?}");
        }
        still_serves(&mut cluster).await
    })
}
