//! The API of whole nodes: who may administer, and documents that are too long.

use livekit_token::{AccessToken, VideoGrants};
use systir_documents::MAX_NOTE_BYTES;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::documents::until_version;
use super::*;

/// An administrator's token of ku.dk.
fn token() -> String {
    let grants = VideoGrants {
        room_list: true,
        room_admin: true,
        room: "lecture".to_owned(),
        ..VideoGrants::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret").with_identity("admin").with_grants(grants);
    token.with_ttl(Duration::from_secs(60)).to_jwt().unwrap()
}

/// Status and text of the node's answer.
pub(super) async fn request(node: &Node, request: &str, body: &[u8]) -> (u16, String) {
    request_by(node, &format!("authorization: Bearer {}\r\n", token()), request, body.len(), body).await
}

/// The same with this header, and a body of which perhaps only a part is sent.
async fn request_by(
    node: &Node,
    authorization: &str,
    request: &str,
    length: usize,
    body: &[u8],
) -> (u16, String) {
    let address = node.http.listening().await.unwrap();
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: {length}\r\n\r\n"
    );
    let (mut read, mut write) = socket.into_split();
    let mut answer = Vec::new();
    // The node may answer and close before it has read all.
    let sent = async {
        write.write_all(head.as_bytes()).await?;
        write.write_all(body).await
    };
    let _ = tokio::join!(sent, read.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer:?}")), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_policy_forbids_to_administer_the_api_refuses_with_the_reason() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let _anna = TestParticipant::join(&node, "anna").await;
    let next = cluster.documents.bundle(3, |_| {}).unwrap();
    let calls = [
        ("GET /systir/v1/nodes", ""),
        ("GET /systir/v1/documents", ""),
        ("GET /systir/v1/documents/bundle/ku.dk", ""),
        ("GET /systir/v1/rooms/lecture/explain", ""),
        ("POST /systir/v1/documents", next.as_str()),
    ];
    for (call, body) in &calls[..4] {
        assert_eq!(request(&node, call, body.as_bytes()).await.0, 200, "{call}");
    }
    let forbidden = cluster.documents.bundle(2, |bundle| {
        bundle.policy = bundle.policy.replace(
            r#"permit (principal in Institution::"ku.dk", action == Action::"administer", resource in Institution::"ku.dk");"#,
            r#"forbid (principal in Institution::"ku.dk", action == Action::"administer", resource);"#,
        );
        bundle.policy = bundle.policy.replace(
            "@id(\"ku-administer\")\n@why(\"the token was signed with a key of {participant_institution}\")",
            "@id(\"ku-administers-nothing\")\n@why(\"ku.dk is administered elsewhere\")",
        );
    });
    let _ = node.parts.documents.take(&forbidden.unwrap()).unwrap();
    for (call, body) in &calls {
        let (status, answer) = request(&node, call, body.as_bytes()).await;
        assert_eq!(status, 403, "{call}: {answer}");
        assert!(answer.contains("ku.dk is administered elsewhere"), "{call}: {answer}");
    }
    until_version(&node, 2).await;
    node.stop().await;
}

/// Asks for a token as a guest of the meeting page. Status and text of the answer.
async fn guest_token(node: &Node, room: &str) -> (u16, String) {
    let call = "POST /systir/v1/guest-token HTTP/1.1\r\ncontent-type: application/json\r\nx-rest:";
    let (status, answer) =
        request(node, call, format!(r#"{{"room":"{room}","name":"Gina"}}"#).as_bytes()).await;
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_get_a_token_only_for_rooms_in_which_policy_permits_them() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let (status, answer) = guest_token(&node, "lecture").await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = guest_token(&node, "exam-1").await;
    assert_eq!(
        (status, answer.as_str()),
        (403, "no rule of ku.dk permits join-guest to participants of ku.dk [no-rule]")
    );
    // With a token of another gateway, or of an earlier policy.
    let guest = |room: &str| Grants { guest: true, room: room.to_owned(), ..grants("gina") };
    let refused = TestParticipant::try_join(&node, guest("exam-1")).await.err().unwrap();
    assert_eq!(refused.reason, Reason::NoRule, "{refused}");
    let _gina = TestParticipant::try_join(&node, guest("lecture")).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_10_mb_is_refused_by_folder_and_over_http_and_the_node_goes_on() {
    let cluster = TestCluster::new();
    let node = cluster.node("cph-1", 5).await;
    let comment = format!("\n// {}\n", "x".repeat(10 << 20));
    let big = cluster.documents.bundle(1, |_| {}).unwrap().replacen('\n', &comment, 1);
    assert!(big.len() > MAX_NOTE_BYTES);
    let (status, answer) = request(&node, "POST /systir/v1/documents", big.as_bytes()).await;
    assert_eq!(status, 413, "{answer}");
    // The folder is read in the order of the names.
    cluster.publish("a-big.note", &big);
    cluster.publish("ku.dk.note", &cluster.documents.bundle(2, |_| {}).unwrap());
    until_version(&node, 2).await;
    let _anna = TestParticipant::join(&node, "anna").await;
    let third = cluster.documents.bundle(3, |_| {}).unwrap();
    let (status, answer) = request(&node, "POST /systir/v1/documents", third.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    until_version(&node, 3).await;
    node.stop().await;
}

/// Routes of this API, of documents and of draining that need a token.
const ROUTES: [&str; 9] = [
    "GET /systir/v1/rooms/lecture/where",
    "GET /systir/v1/rooms/lecture/explain",
    "GET /systir/v1/rooms",
    "GET /systir/v1/nodes",
    "GET /systir/v1/documents",
    "GET /systir/v1/documents/bundle/ku.dk",
    "POST /systir/v1/documents",
    "GET /systir/v1/drain",
    "POST /systir/v1/drain",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_address_tries_invalid_tokens_a_bounded_number_of_times_at_all_routes_and_valid_ones_go_on() {
    let cluster = TestCluster::new();
    let mut config = cluster.config("cph-1", 5);
    (config.drain.api_key, config.drain.secret) = (Some("ops".to_owned()), Some("a secret".to_owned()));
    let node = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    let forged = format!("authorization: Bearer {}x\r\n", token());
    for call in ROUTES {
        for authorization in [forged.as_str(), ""] {
            let (status, answer) = request_by(&node, authorization, call, 0, b"").await;
            assert_eq!(status, 401, "{call}: {answer}");
        }
    }
    // All of this address, and those of an hour to come.
    let later = Instant::now() + Duration::from_secs(3600);
    while node.parts.join_limits.address(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), later).is_ok() {}
    for call in ROUTES {
        for authorization in [forged.as_str(), ""] {
            let (status, answer) = request_by(&node, authorization, call, 0, b"").await;
            assert_eq!(status, 429, "{call}: {answer}");
            assert!(answer.ends_with("[too-many-attempts]"), "{call}: {answer}");
        }
    }
    let (status, answer) = guest_token(&node, "lecture").await;
    assert_eq!(status, 429, "{answer}");
    assert_eq!(request(&node, "GET /systir/v1/nodes", b"").await.0, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_read_before_the_token_is_checked_and_that_of_a_guest_is_short() {
    let cluster = TestCluster::new();
    let mut config = cluster.config("cph-1", 5);
    (config.drain.api_key, config.drain.secret) = (Some("ops".to_owned()), Some("a secret".to_owned()));
    let node = Node::start(config, Arc::new(cluster.store.registry())).await.unwrap();
    // None of these bodies arrives.
    for call in ["POST /systir/v1/documents", "POST /systir/v1/drain", "POST /systir/v1/undrain"] {
        let (status, answer) = request_by(&node, "", call, 4_000, b"").await;
        assert_eq!(status, 401, "{call}: {answer}");
    }
    let call = "POST /systir/v1/guest-token HTTP/1.1\r\ncontent-type: application/json\r\nx-rest:";
    let (status, answer) = request_by(&node, "", call, 5_000, &[b' '; 5_000]).await;
    assert_eq!(status, 413, "{answer}");
    node.stop().await;
}
