//! Raw sockets against the limits.

use std::time::Duration;

use axum::Json;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

struct Served {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    refused: Counter,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn start(connections: usize) -> Served {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (handle, refused) = (Handle::new(), Counter::default());
    let port = Port { listener, connections, refused: refused.clone(), tls: None, handle: handle.clone() };
    let body = in_time(
        Router::new()
            .route("/body", post(|Json(body): Json<serde_json::Value>| async move { body.to_string() })),
    );
    let app = Router::new().route("/", get(|| async { "here" })).merge(body);
    tokio::spawn(serve(port, app));
    Served { address, handle, refused }
}

/// What is answered to these bytes until the server closes or falls silent.
async fn answered(served: &Served, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(url: &str, headers: &str) -> Vec<u8> {
    format!("GET {url} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn long_urls_are_read_and_longer_ones_are_told_so() {
    let served = start(8);
    let token = |length: usize| format!("/?access_token={}", "x".repeat(length));
    assert!(answered(&served, &request(&token(16 << 10), "")).await.starts_with("HTTP/1.1 200"));
    assert!(answered(&served, &request(&token(URL_BYTES), "")).await.starts_with("HTTP/1.1 414"));
    let far = answered(&served, &request(&token(HEAD_BYTES * 2), "")).await;
    assert!(far.is_empty() || far.starts_with("HTTP/1.1 431") || far.starts_with("HTTP/1.1 414"), "{far}");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let served = start(8);
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    assert!(answered(&served, &request("/", &headers(HEADERS - 3))).await.starts_with("HTTP/1.1 200"));
    assert!(answered(&served, &request("/", &headers(HEADERS + 1))).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let served = start(8);
    // HTTP/2 without TLS is not spoken.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0\r\n\r\n"]
    {
        let answer = answered(&served, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn bodies_are_small() {
    let served = start(8);
    let length = BODY_BYTES + 1;
    let head = format!(
        "POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b' ');
    assert!(answered(&served, &bytes).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn beyond_the_last_place_connections_are_closed_and_counted() {
    let served = start(2);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        socket.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(socket);
    }
    assert_eq!(answered(&served, &request("/", "")).await, "");
    assert_eq!(served.refused.get(), 1);
    // A place that is given back is taken by the next.
    held.clear();
    loop {
        if answered(&served, &request("/", "")).await.starts_with("HTTP/1.1 200") {
            break;
        }
        tokio::task::yield_now().await;
    }
}

// Time goes by at once where nothing else is to be done.
async fn ends(bytes: &'static [u8]) -> (String, Duration) {
    let served = start(8);
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let begin = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    (String::from_utf8_lossy(&answer).into_owned(), begin.elapsed())
}

#[tokio::test(start_paused = true)]
async fn half_a_request_ends_after_a_while() {
    for bytes in [&b"GET /rtc?access_tok"[..], b"", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let (answer, lasted) = ends(bytes).await;
        assert!(!answer.contains("200"), "{answer}");
        assert!(lasted >= HEAD_TIME, "not before its time");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_body_ends_after_a_while() {
    let (answer, _) = ends(
        b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"room\":",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_a_while() {
    let (answer, lasted) = ends(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(lasted >= HEAD_TIME, "kept alive until then");
}
