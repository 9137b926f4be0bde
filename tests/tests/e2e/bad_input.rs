//! What comes from strangers: each gets its clear answer, and the relay goes on serving.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use livekit_protocol::{request_response, signal_response};
use serde_json::{Value, json};
use systir_load::Config;
use systir_tests::cluster::{Cluster, token};
use systir_tests::process::eventually;
use systir_tests::raw_signalling::{Signalling, signed};
use systir_tests::scenario::play;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

/// The demonstration's process runs, nothing in it panicked, and two people still meet on it.
async fn it_still_serves(cluster: &mut Cluster) -> Result<()> {
    assert!(cluster.runs("demo"), "the process lives");
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
    assert_eq!((report.joined, report.tracks_heard), (2, 4), "{report:?}");
    Ok(())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Good claims with one of them changed.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "iss": "devkey", "sub": "mallory", "nbf": seconds() - 10, "exp": seconds() + 600,
        "video": {"room": "lecture", "roomJoin": true},
    });
    change(&mut claims);
    claims
}

#[test]
fn a_token_that_does_not_hold_opens_nothing_and_the_answer_says_why() -> Result<()> {
    play(async {
        let mut cluster = Cluster::demo(&[]).await?;
        let door = cluster.url("cph-1");
        let good = claims(|_| {});
        let cases = [
            ("none", String::new(), 401, "no access token"),
            ("garbage", "%21%21.%00.garbage".to_owned(), 401, "not a JWT"),
            ("another secret", signed(&good, "guessed"), 401, "signature does not fit"),
            (
                "an unknown API key",
                signed(&claims(|c| c["iss"] = json!("nokey")), "secret"),
                401,
                "invalid API key",
            ),
            ("expired", signed(&claims(|c| c["exp"] = json!(seconds() - 3600)), "secret"), 401, "expired"),
            (
                "not yet",
                signed(&claims(|c| c["nbf"] = json!(seconds() + 3600)), "secret"),
                401,
                "not valid yet",
            ),
            (
                "no roomJoin",
                signed(&claims(|c| c["video"]["roomJoin"] = json!(false)), "secret"),
                401,
                "roomJoin",
            ),
            ("no room", signed(&claims(|c| c["video"]["room"] = json!("")), "secret"), 400, "room name"),
            ("nobody", signed(&claims(|c| c["sub"] = json!("")), "secret"), 400, "identity"),
        ];
        let client = reqwest::Client::new();
        for (what, token, status, words) in cases {
            let away = Signalling::open(&door, &token).await?.err();
            let away = away.with_context(|| format!("a token with {what} was let in"))?;
            assert_eq!(away.status, status, "{what}: {away:?}");
            assert!(away.words.contains(words), "{what}: {away:?}");
            // The same where browsers look for the reason.
            let answer = client.get(format!("{door}/rtc/validate?access_token={token}")).send().await?;
            assert_eq!(answer.status().as_u16(), status, "{what}");
            let text = answer.text().await?;
            assert_eq!(text, away.words, "{what}");
            assert!(
                token.len() < 40 || !cluster.log("demo")?.contains(&token),
                "{what}: no token in the log"
            );
        }
        // A token without a signature, as a library once let through.
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJkZXZrZXkifQ.";
        let away = Signalling::open(&door, unsigned).await?.err().context("an unsigned token was let in")?;
        assert!(away.status == 401 && away.words.contains("HS256"), "{away:?}");
        // One for this room opens no other one.
        let here = token("lecture", "mallory")?;
        let elsewhere = format!("{door}/systir/v1/rooms/board/where");
        let answer = client.get(elsewhere).bearer_auth(&here).send().await?;
        assert_eq!(answer.status().as_u16(), 403);
        assert!(answer.text().await?.contains("another room"));
        let answer = client.get(format!("{door}/systir/v1/rooms")).bearer_auth(&here).send().await?;
        assert_eq!(answer.status().as_u16(), 403);
        assert!(answer.text().await?.contains("roomList"));
        it_still_serves(&mut cluster).await
    })
}

#[test]
fn garbage_on_the_signalling_socket_hurts_nobody() -> Result<()> {
    play(async {
        let mut cluster = Cluster::demo(&[("cph-1", 20)]).await?;
        let door = cluster.url("cph-1");
        let join = async |identity: &str| Signalling::join(&door, &token("lecture", identity)?).await;

        // What cannot be read is passed over, as a newer client's message would be.
        let (mut talker, _) = join("talker").await?;
        for garbage in ["", "{", "not json at all", r#"{"message":{"Offer":17}}"#, "\u{0}\u{fffd}"] {
            talker.send(Message::Text(garbage.into())).await?;
        }
        for garbage in [vec![], vec![0xff; 1000], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0; 100_000]]
        {
            talker.send(Message::Binary(garbage.into())).await?;
        }
        talker.is_answered().await.context("after garbage")?;

        // Too much ends the connection.
        let (mut flooder, _) = join("flooder").await?;
        let _ = flooder.send(Message::Binary(vec![0x12; 3 << 20].into())).await;
        flooder.is_closed().await.context("after 3 MiB in one message")?;
        let (boaster, _) = join("boaster").await?;
        let mut bytes = boaster.into_bytes()?;
        // A masked binary frame that announces 2^40 bytes.
        bytes.write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).await?;
        closed(bytes).await.context("after an announced frame of a terabyte")?;

        // A frame that is cut off, and frames that no WebSocket has.
        let (cut, _) = join("cut").await?;
        let mut bytes = cut.into_bytes()?;
        bytes.write_all(&[0x82, 0xfe, 0x04, 0x00, 1, 2, 3, 4, 5, 6, 7]).await?;
        drop(bytes);
        let (wild, _) = join("wild").await?;
        let mut bytes = wild.into_bytes()?;
        bytes.write_all(&[0xff; 64]).await?;
        closed(bytes).await.context("after reserved bits")?;

        // Whoever says nothing keeps its place while it answers pings, and disturbs nobody.
        let (mut silent, _) = join("silent").await?;
        talker.is_answered().await?;
        eventually("those who broke off are gone", Duration::from_secs(30), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(())
        })
        .await?;
        silent.is_answered().await?;
        it_still_serves(&mut cluster).await
    })
}

/// Waits until the other end has closed.
async fn closed(mut stream: TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await?;
    Ok(())
}

#[test]
fn a_description_that_makes_no_sense_is_refused_with_its_fault() -> Result<()> {
    play(async {
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
            ("text", "let me in".to_owned(), "not SDP"),
            ("a broken m-line", format!("{head}m=audio\r\n"), "not SDP"),
            ("huge", format!("{head}a={}\r\n", "x".repeat(1 << 20)), "bytes"),
            ("10,000 m-lines", format!("{head}{many}"), "m-lines"),
            ("600 m-lines", format!("{head}{few}"), "m-lines"),
            ("no fingerprint", bundle("0") + &section("0").replace(&print, ""), "fingerprint"),
            ("a fingerprint of nothing", bundle("0") + &section("0").replace("AB:", ""), "fingerprint"),
            (
                "no ICE password",
                bundle("0") + &section("0").replace("a=ice-pwd:0123456789012345678901\r\n", ""),
                "ice-pwd",
            ),
            ("two equal mids", bundle("0 0") + &section("0") + &section("0"), "mid"),
            ("a mid that is no token", bundle("0") + &section("\u{e9} \"0"), "mid"),
        ];
        let (mut client, _) = Signalling::join(&cluster.url("cph-1"), &token("lecture", "mallory")?).await?;
        for (what, sdp, fault) in cases {
            client.offer(&sdp).await?;
            let answer = client
                .until(&format!("the answer to a description: {what}"), |message| match message {
                    signal_response::Message::RequestResponse(response) => Some(response),
                    _ => None,
                })
                .await?;
            assert_eq!(answer.reason(), request_response::Reason::InvalidRequest, "{what}: {answer:?}");
            assert!(answer.message.contains(fault), "{what}: {answer:?}");
        }
        // An answer that nobody asked for, and one that is none.
        for kind in ["answer", "pranswer"] {
            let sdp = bundle("0") + &section("0");
            let description =
                livekit_protocol::SessionDescription { r#type: kind.into(), sdp, ..Default::default() };
            client.request(livekit_protocol::signal_request::Message::Answer(description)).await?;
        }
        client.is_answered().await?;
        // A good one still gets its answer.
        client.offer(&(bundle("0") + &section("0"))).await?;
        let answer = client.until("the answer to a good description", |message| match message {
            signal_response::Message::Answer(answer) => Some(answer),
            _ => None,
        });
        assert!(answer.await?.sdp.contains("a=fingerprint:sha-256"));
        it_still_serves(&mut cluster).await
    })
}

/// What no participant sends: STUN for nobody, RTP and RTCP of nobody, DTLS out of turn, noise.
fn nonsense(index: u32) -> Vec<u8> {
    let id = index.to_be_bytes();
    let mut packet = match index % 5 {
        0 => [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &id, &id, &id].concat(),
        // A STUN attribute that says it is longer than the message.
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
fn ten_thousand_unknown_packets_change_nothing() -> Result<()> {
    play(async {
        let mut cluster = Cluster::demo(&[]).await?;
        let media = cluster.port("cph-1", 12);
        let running = tokio::spawn(systir_load::run(Config {
            url: cluster.url("cph-1"),
            room: "lecture".to_owned(),
            participants: 2,
            duration: Duration::from_secs(6),
            ..Config::default()
        }));
        eventually("two people meet", Duration::from_secs(30), || async {
            (cluster.counter("cph-1", "systir_participants").await.ok()? == 2).then_some(())
        })
        .await?;
        let before = cluster.counter("cph-1", "systir_datagrams_in_total").await?;
        let strangers = [UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?];
        for index in 0..10_000_u32 {
            let socket = &strangers[index as usize % 2];
            socket.send_to(&nonsense(index), ("127.0.0.1", media)).await?;
            // No faster than the socket's buffer is emptied, so that they arrive.
            if index.is_multiple_of(50) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let after = cluster.counter("cph-1", "systir_datagrams_in_total").await?;
        assert!(after - before > 5_000, "they reached the worker: {before} -> {after}");
        // The ports of links get them too, and bytes that are no TLS.
        for port in [cluster.port("cph-1", 0), cluster.port("sto-1", 0)] {
            for index in 0..2_000 {
                strangers[0].send_to(&nonsense(index), ("127.0.0.1", port)).await?;
            }
        }
        for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut stream = TcpStream::connect(("127.0.0.1", cluster.port("cph-1", 1))).await?;
            stream.write_all(words).await?;
            closed(stream).await.context("bytes that are no TLS at the gRPC port")?;
        }
        let report = running.await??;
        assert_eq!((report.joined, report.tracks_heard), (2, 4), "{report:?}");
        assert_eq!(report.ended.len(), 0, "nobody was thrown out: {report:?}");
        // The link of the two nodes still comes up where it is needed.
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
        it_still_serves(&mut cluster).await
    })
}
