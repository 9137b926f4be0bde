//! Tests the limits with raw sockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, WebSocketUpgrade};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

struct TestServer {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    refused: Counter,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn start(connections: usize) -> TestServer {
    start_with(3 * connections, connections)
}

fn start_with(connections: usize, per_address: usize) -> TestServer {
    start_behind(TrustedProxies::default(), connections, per_address)
}

fn start_behind(proxies: TrustedProxies, connections: usize, per_address: usize) -> TestServer {
    start_port(proxies, connections, per_address, None)
}

fn start_port(
    proxies: TrustedProxies,
    connections: usize,
    per_address: usize,
    tls: Option<RustlsConfig>,
) -> TestServer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (handle, refused) = (Handle::new(), Counter::default());
    let port = HttpPort {
        listener,
        connections,
        per_address,
        proxies,
        refused: refused.clone(),
        tls,
        handle: handle.clone(),
    };
    let body = with_body_timeout(
        Router::new()
            .route("/body", post(|Json(body): Json<serde_json::Value>| async move { body.to_string() })),
    );
    let upgrade = get(|upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move { while socket.recv().await.is_some() {} })
    });
    let from = get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.ip().to_string() });
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/ws", upgrade)
        .route("/from", from)
        .route("/long", get(|| async { &LONG[..] }))
        .merge(body);
    tokio::spawn(serve(port, app));
    TestServer { address, handle, refused }
}

/// A page that no buffer of the kernel takes whole while its client does not read.
static LONG: [u8; 4 << 20] = [b' '; 4 << 20];

/// Sends these bytes and returns everything that the server sends until it closes.
async fn response_to(server: &TestServer, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request to open a WebSocket.
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn request(url: &str, headers: &str) -> Vec<u8> {
    format!("GET {url} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn a_url_up_to_the_limit_is_accepted_and_a_longer_one_gets_414() {
    let server = start(8);
    let token = |length: usize| format!("/?access_token={}", "x".repeat(length));
    assert!(response_to(&server, &request(&token(16 << 10), "")).await.starts_with("HTTP/1.1 200"));
    assert!(response_to(&server, &request(&token(URL_BYTES), "")).await.starts_with("HTTP/1.1 414"));
    let far = response_to(&server, &request(&token(HEAD_BYTES * 2), "")).await;
    assert!(far.is_empty() || far.starts_with("HTTP/1.1 431") || far.starts_with("HTTP/1.1 414"), "{far}");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = start(8);
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    assert!(response_to(&server, &request("/", &headers(HEADERS - 3))).await.starts_with("HTTP/1.1 200"));
    assert!(response_to(&server, &request("/", &headers(HEADERS + 1))).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn anything_but_http_1_is_refused() {
    let server = start(8);
    // HTTP/2 without TLS, a TLS record, garbage.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0\r\n\r\n"]
    {
        let answer = response_to(&server, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413() {
    let server = start(8);
    let length = BODY_BYTES + 1;
    let head = format!(
        "POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b' ');
    assert!(response_to(&server, &bytes).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_counted() {
    let server = start_with(2, 2);
    // Of admitted participants, who leave their places to others.
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(answer_on(&mut socket, UPGRADE).await, "HTTP/1.1 101");
        open.push(socket);
    }
    assert_eq!(response_to(&server, &request("/", "")).await, "");
    assert_eq!(server.refused.get(), 1);
    // A closed connection frees its permit.
    open.clear();
    loop {
        if response_to(&server, &request("/", "")).await.starts_with("HTTP/1.1 200") {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// A connection from this address of loopback.
async fn connect_from(last: u8, server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// The begin of the answer to a request on this connection; empty when it is closed.
async fn answer_on(socket: &mut TcpStream, bytes: &[u8]) -> String {
    let _ = socket.write_all(bytes).await;
    let mut first = [0; 12];
    let _ = socket.read_exact(&mut first).await;
    String::from_utf8_lossy(&first).trim_end_matches('\0').to_owned()
}

#[tokio::test]
async fn half_open_connections_of_one_address_leave_places_for_others() {
    let server = start_with(48, 8);
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut socket = connect_from(1, &server).await;
        let _ = socket.write_all(b"GET / HT").await;
        silent.push(socket);
    }
    let mut other = connect_from(2, &server).await;
    assert_eq!(answer_on(&mut other, &request("/", "")).await, "HTTP/1.1 200");
    assert_eq!(server.refused.get(), 0);
    // Its own oldest have ended.
    for mut socket in silent.drain(..92) {
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn admitted_participants_take_no_places_of_their_address() {
    let server = start_with(96, 4);
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut socket = connect_from(1, &server).await;
        assert_eq!(answer_on(&mut socket, UPGRADE).await, "HTTP/1.1 101");
        open.push(socket);
    }
    assert_eq!(server.refused.get(), 0);
}

/// A figure of this process in /proc, in its unit.
fn proc_figure(file: &str, line: &str, column: usize) -> usize {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.split_whitespace().nth(column).unwrap().parse().unwrap_or(usize::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open_connections_take_little_memory_and_others_are_answered() {
    /// Both ends of them.
    const MEMORY: usize = 100_000_000;
    let count = 10_000;
    need_open_files(count);
    let server = start_with(8_192, 2_048);
    let before = proc_figure("status", "VmRSS:", 0);
    let mut silent = Vec::new();
    for number in 0..count {
        let mut socket = connect_from(10 + (number % 20) as u8, &server).await;
        let _ = socket.write_all(b"GET /rtc?access_token=").await;
        silent.push(socket);
    }
    let mut times = Vec::new();
    for number in 0..200 {
        let begun = std::time::Instant::now();
        let mut other = connect_from(100 + (number % 100) as u8, &server).await;
        if answer_on(&mut other, &request("/", "")).await == "HTTP/1.1 200" {
            times.push(begun.elapsed());
        }
    }
    let grown = proc_figure("status", "VmRSS:", 0).saturating_sub(before) * 1024;
    times.sort_unstable();
    println!("{count} half-open connections: {grown} bytes; others answered: p99 {:?}", times.get(198));
    assert_eq!(times.len(), 200, "all others were answered");
    assert!(grown < MEMORY, "{grown} bytes for {count} connections");
}

/// So many clients' ends are open files of this process, and those at the server that have a place or are about to end.
fn need_open_files(clients: usize) {
    let (needed, files) = (clients + 5_000, proc_figure("limits", "Max open files", 0));
    assert!(
        files >= needed,
        "this test needs {needed} open files, and {files} are allowed: run `ulimit -n {needed}` before"
    );
}

/// What each connection of a flood does.
#[derive(Debug, Clone, Copy)]
enum Flood {
    /// Sends all but the end of the longest head of a request.
    LongHead,
    /// The same over TLS.
    LongHeadOverTls,
    /// Sends all but the end of the longest handshake message.
    LongHandshake,
    /// Over TLS, asks for a long page and reads nothing.
    UnreadPage,
}

impl Flood {
    /// One connection, which stays open. The server may end it before all is sent.
    fn connect(self, number: usize, to: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> std::net::TcpStream {
        use std::io::Write as _;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 10 + (number % 20) as u8], 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut socket = std::net::TcpStream::from(socket);
        let head = || {
            let begin = "GET /rtc?access_token=";
            format!("{begin}{}", "x".repeat(HEAD_BYTES - begin.len() - 512)).into_bytes()
        };
        let mut over_tls = |bytes: &[u8]| {
            let mut session =
                rustls::ClientConnection::new(tls.clone(), "localhost".try_into().unwrap()).unwrap();
            session.set_buffer_limit(None);
            session.writer().write_all(bytes).unwrap();
            while session.is_handshaking() || session.wants_write() {
                if session.complete_io(&mut socket).is_err() {
                    break;
                }
            }
        };
        match self {
            Self::LongHead => drop(socket.write_all(&head())),
            Self::LongHeadOverTls => over_tls(&head()),
            Self::UnreadPage => over_tls(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n"),
            Self::LongHandshake => {
                // A ClientHello of 65,535 bytes in records of 16 KiB (RFC 8446 sections 4 and 5.1).
                let message = [&[1, 0, 0xff, 0xff][..], &[0; 0xffff - 16]].concat();
                for part in message.chunks(16_384) {
                    let record = [&[0x16, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
                    if socket.write_all(&record).is_err() {
                        break;
                    }
                }
            }
        }
        socket
    }
}

/// Ten thousand connections of which each has sent as much as is allowed: the node's memory, and whether others are
/// answered.
///
/// In a process of its own: other tests take memory and open files too.
async fn ten_thousand_that_hold_all_they_can(flood: Flood, test: &str) {
    /// With what the test itself needs.
    const MEMORY: usize = 100_000_000;
    const COUNT: usize = 10_000;
    /// Set in that process.
    const OWN_PROCESS: &str = "SYSTIR_TEST_OWN_PROCESS";
    need_open_files(COUNT);
    if std::env::var_os(OWN_PROCESS).is_none() {
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "--nocapture", &format!("serve::tests::{test}")]).env(OWN_PROCESS, "1");
        let output = tokio::task::spawn_blocking(move || own.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pair = tls::CertificatePair {
        certificate: made.cert.pem(),
        key: systir_livekit::token::Redacted::new(made.signing_key.serialize_pem()),
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let plain = matches!(flood, Flood::LongHead);
    let server_tls = (!plain).then(|| RustlsConfig::from_config(tls::config(&pair).unwrap()));
    let server = start_port(TrustedProxies::default(), 8_192, 2_048, server_tls);
    let address = server.address;
    let memory = || proc_figure("status", "VmRSS:", 0) * 1024;
    let (before, mut most) = (memory(), 0);
    let mut held = Vec::new();
    for thousand in 0..COUNT / 1_000 {
        let connecting: Vec<_> = (0..10)
            .map(|hundred| {
                let (client, first) = (client.clone(), thousand * 1_000 + hundred * 100);
                tokio::task::spawn_blocking(move || {
                    let numbers = first..first + 100;
                    numbers.map(|number| flood.connect(number, address, &client)).collect::<Vec<_>>()
                })
            })
            .collect();
        for connected in connecting {
            held.extend(connected.await.unwrap());
            most = most.max(memory());
        }
    }
    if plain {
        for number in 0..50 {
            let mut other = connect_from(100 + number, &server).await;
            assert_eq!(answer_on(&mut other, &request("/", "")).await, "HTTP/1.1 200");
        }
    }
    let grown = most.max(memory()).saturating_sub(before);
    println!("{} connections, {flood:?}: {grown} bytes", held.len());
    assert!(grown <= MEMORY, "{flood:?}: {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_with_the_longest_heads_hold_at_most_100_mb() {
    ten_thousand_that_hold_all_they_can(
        Flood::LongHead,
        "ten_thousand_connections_with_the_longest_heads_hold_at_most_100_mb",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_with_the_longest_heads_over_tls_hold_at_most_100_mb() {
    ten_thousand_that_hold_all_they_can(
        Flood::LongHeadOverTls,
        "ten_thousand_connections_with_the_longest_heads_over_tls_hold_at_most_100_mb",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_with_the_longest_handshakes_hold_at_most_100_mb() {
    ten_thousand_that_hold_all_they_can(
        Flood::LongHandshake,
        "ten_thousand_connections_with_the_longest_handshakes_hold_at_most_100_mb",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_that_do_not_read_hold_at_most_100_mb() {
    ten_thousand_that_hold_all_they_can(
        Flood::UnreadPage,
        "ten_thousand_connections_that_do_not_read_hold_at_most_100_mb",
    )
    .await;
}

/// Sends these bytes and returns the response and the time until the server closes. With paused time the
/// clock advances while all tasks are idle.
async fn until_closed(bytes: &'static [u8]) -> (String, Duration) {
    let server = start(8);
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let start_time = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    (String::from_utf8_lossy(&answer).into_owned(), start_time.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_request_ends_after_the_limit() {
    for bytes in [&b"GET /rtc?access_tok"[..], b"", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let (answer, lasted) = until_closed(bytes).await;
        assert!(!answer.contains("200"), "{answer}");
        assert!(lasted >= HEAD_TIME, "not before the limit");
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_body_gets_408() {
    let (answer, _) = until_closed(
        b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"room\":",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_the_limit() {
    let (answer, lasted) = until_closed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(lasted >= HEAD_TIME, "kept alive until the limit");
}

/// The header of a proxy, in version 1 or 2.
fn stated(client: &str, version: u8) -> Vec<u8> {
    use proxy_header::{ProxiedAddress, ProxyHeader};
    let client: SocketAddr = client.parse().unwrap();
    let proxy = if client.is_ipv4() { "192.0.2.1:443" } else { "[2001:db8::1]:443" };
    let header = ProxyHeader::with_address(ProxiedAddress::stream(client, proxy.parse().unwrap()));
    let mut bytes = Vec::new();
    if version == 1 { header.encode_v1(&mut bytes) } else { header.encode_v2(&mut bytes) }.unwrap();
    bytes
}

fn loopback() -> TrustedProxies {
    TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()])
}

#[tokio::test]
async fn the_address_that_a_trusted_proxy_states_is_that_of_the_client() {
    let server = start_behind(loopback(), 8, 8);
    for version in [1, 2] {
        for client in ["198.51.100.7", "2001:db8::7"] {
            let at = if client.contains(':') { format!("[{client}]:5000") } else { format!("{client}:5000") };
            let sent = [stated(&at, version), request("/from", "")].concat();
            let answer = response_to(&server, &sent).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(client), "{version}: {answer}");
        }
    }
    // A health check of the proxy itself.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let answer = response_to(&server, &[local.as_slice(), &request("/from", "")].concat()).await;
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn a_proxy_that_states_no_address_is_not_served_and_another_sender_is_not_believed() {
    let server = start_behind(loopback(), 8, 8);
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    for wrong in [request("/from", "").as_slice(), b"PROXY TCP4 here there 1 2\r\n", &long, huge] {
        let answer = response_to(&server, &[wrong, &request("/from", "")].concat()).await;
        assert!(answer.is_empty(), "{answer}");
    }
    let elsewhere = TrustedProxies::new(vec!["192.0.2.0/24".parse().unwrap()]);
    let server = start_behind(elsewhere, 8, 8);
    let sent = [stated("198.51.100.7:5000", 1), request("/from", "")].concat();
    let answer = response_to(&server, &sent).await;
    assert!(!answer.contains("198.51.100.7") && !answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = response_to(&server, &request("/from", "")).await;
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn behind_a_proxy_limits_count_the_stated_addresses() {
    let server = start_behind(loopback(), 30, 1);
    let mut holding = TcpStream::connect(server.address).await.unwrap();
    holding.write_all(&stated("198.51.100.7:5000", 2)).await.unwrap();
    // Another client of the same proxy is served, and ends no other connection.
    let other = [stated("198.51.100.8:5000", 2), request("/from", "")].concat();
    assert!(response_to(&server, &other).await.ends_with("198.51.100.8"));
    holding.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    // The same client again: its oldest connection ends.
    let again = [stated("198.51.100.7:5001", 2), request("/from", "")].concat();
    assert!(response_to(&server, &again).await.ends_with("198.51.100.7"));
    let mut rest = Vec::new();
    let _ = holding.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}
