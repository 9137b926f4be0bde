use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use livekit_protocol::{
    self as proto, leave_request::Action, signal_request::Message as RequestMessage, signal_response::Message,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use systir_reason::Reason;

use super::*;

/// A join and the session's end of its pipe.
type AdmittedJoin = (JoinRequest, mpsc::Receiver<Box<SignalRequest>>, mpsc::Sender<Box<SignalResponse>>);

/// A node that admits or refuses every join, and hands the session's end of each pipe to the test.
struct Node {
    refuse: Option<Refusal>,
    queue: usize,
    joins: mpsc::UnboundedSender<AdmittedJoin>,
    debug_output: Mutex<Vec<String>>,
    counters: Arc<SignalCounters>,
}

impl JoinHandler for Node {
    fn keys(&self) -> Arc<KeyRing> {
        let mut ring = KeyRing::new();
        ring.insert("devkey", "secret", "ku.dk");
        Arc::new(ring)
    }

    fn may_signal(&self, _: &str) -> Result<(), Refusal> {
        self.refuse.clone().map_or(Ok(()), Err)
    }

    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<SignalPipe, Refusal>> {
        async move {
            if let Some(refusal) = &self.refuse {
                return Err(refusal.clone());
            }
            self.debug_output.lock().unwrap().push(format!("{request:?}"));
            let (to_media, requests) = mpsc::channel(16);
            let (responses, from_media) = mpsc::channel(self.queue);
            let _ = self.joins.send((request, requests, responses));
            Ok(SignalPipe { to_media, from_media })
        }
        .boxed()
    }

    fn rejected(&self, _: &Refusal) {}

    fn counters(&self) -> Arc<SignalCounters> {
        self.counters.clone()
    }

    fn validate(&self, _: JoinRequest) -> BoxFuture<'_, Result<(), Refusal>> {
        async move { self.refuse.clone().map_or(Ok(()), Err) }.boxed()
    }
}

struct Served {
    address: SocketAddr,
    node: Arc<Node>,
    joins: mpsc::UnboundedReceiver<AdmittedJoin>,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

async fn serve_with(refuse: Option<Refusal>, limits: SocketLimits) -> Served {
    serve_limited(refuse, limits, Arc::new(JoinLimits::new(false))).await
}

async fn serve_limited(
    refuse: Option<Refusal>,
    limits: SocketLimits,
    join_limits: Arc<JoinLimits>,
) -> Served {
    let (sender, joins) = mpsc::unbounded_channel();
    let node = Arc::new(Node {
        refuse,
        queue: 4096,
        joins: sender,
        debug_output: Mutex::default(),
        counters: Arc::default(),
    });
    let app = router(node.clone(), limits, join_limits).into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Served { address, node, joins, _server: tokio_util::task::AbortOnDropHandle::new(server) }
}

async fn serve() -> Served {
    serve_with(None, SocketLimits::default()).await
}

fn token_with(edit: impl FnOnce(&mut livekit_token::VideoGrants)) -> String {
    let mut grants =
        livekit_token::VideoGrants { room_join: true, room: "seminar".into(), ..Default::default() };
    edit(&mut grants);
    livekit_token::AccessToken::with_api_key("devkey", "secret")
        .with_identity("ada")
        .with_grants(grants)
        .to_jwt()
        .unwrap()
}

fn token() -> String {
    token_with(|_| {})
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Served {
    fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    async fn connect(&self, query: &str) -> Result<Socket, tungstenite::Error> {
        let url = self.url(&format!("/rtc?access_token={}&{query}", token()));
        tokio_tungstenite::connect_async(url).await.map(|(socket, _)| socket)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("http://{}{path}", self.address)).await.unwrap()
    }
}

fn status(error: tungstenite::Error) -> (u16, String) {
    let tungstenite::Error::Http(response) = error else { panic!("not refused by HTTP: {error}") };
    let body = response.body().clone().unwrap_or_default();
    (response.status().as_u16(), String::from_utf8(body).unwrap())
}

fn pong(value: i64) -> SignalResponse {
    SignalResponse { message: Some(Message::Pong(value)) }
}

async fn next_response(socket: &mut Socket) -> Option<(SignalResponse, bool)> {
    loop {
        match socket.next().await? {
            Ok(Frame::Binary(bytes)) => return Some((SignalResponse::decode(bytes).unwrap(), true)),
            Ok(Frame::Text(text)) => return Some((serde_json::from_str(&text).unwrap(), false)),
            Ok(Frame::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn client_and_session_exchange_protobuf() {
    let mut served = serve().await;
    let mut socket = served.connect("sdk=js&protocol=17&auto_subscribe=0").await.unwrap();
    let (join, mut requests, responses) = served.joins.recv().await.unwrap();
    assert_eq!((join.grants.identity.as_str(), join.grants.institution.as_str()), ("ada", "ku.dk"));
    assert!(!join.auto_subscribe);
    assert_eq!((join.client.protocol, join.client.address.as_str()), (17, ""));
    responses.send(Box::new(pong(1))).await.unwrap();
    assert_eq!(next_response(&mut socket).await, Some((pong(1), true)));
    let ping = SignalRequest { message: Some(RequestMessage::Ping(5)) };
    socket.send(Frame::Binary(ping.encode_to_vec().into())).await.unwrap();
    assert_eq!(requests.recv().await, Some(Box::new(ping)));
}

#[tokio::test]
async fn client_that_sends_json_receives_json() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, responses) = served.joins.recv().await.unwrap();
    socket.send(Frame::Text(r#"{"mute":{"sid":"TR_1","muted":true}}"#.into())).await.unwrap();
    let mute = RequestMessage::Mute(proto::MuteTrackRequest { sid: "TR_1".into(), muted: true });
    assert_eq!(requests.recv().await.unwrap().message, Some(mute));
    responses.send(Box::new(pong(1))).await.unwrap();
    assert_eq!(next_response(&mut socket).await, Some((pong(1), false)));
    let ping = SignalRequest { message: Some(RequestMessage::Ping(5)) };
    socket.send(Frame::Binary(ping.encode_to_vec().into())).await.unwrap();
    requests.recv().await.unwrap();
    responses.send(Box::new(pong(2))).await.unwrap();
    assert_eq!(next_response(&mut socket).await, Some((pong(2), true)));
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_are_ignored() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    socket.send(Frame::Text("{".into())).await.unwrap();
    socket.send(Frame::Binary(vec![0xff; 9].into())).await.unwrap();
    let ping = SignalRequest { message: Some(RequestMessage::Ping(5)) };
    socket.send(Frame::Binary(ping.encode_to_vec().into())).await.unwrap();
    assert_eq!(requests.recv().await, Some(Box::new(ping)));
}

#[tokio::test]
async fn one_token_tries_to_join_a_bounded_number_of_times_whatever_suffix_it_adds() {
    let served = serve().await;
    let mut refused = None;
    for number in 0..100 {
        let answer = served.get(&format!("/rtc/validate?access_token={}&publish=s{number}", token())).await;
        if answer.status() != 200 {
            refused = Some((number, answer.status().as_u16(), answer.text().await.unwrap()));
            break;
        }
    }
    let (number, status, text) = refused.expect("a refusal");
    assert!((60..70).contains(&number), "{number}");
    assert_eq!(status, 429);
    assert!(text.ends_with("[too-many-attempts]"), "{text}");
    assert_eq!(self::status(served.connect("").await.unwrap_err()).0, 429, "a join is an attempt too");
}

/// Limits of which an address of loopback has spent its attempts, and an hour of those to come.
fn spent() -> Arc<JoinLimits> {
    let (limits, later) = (JoinLimits::new(false), Instant::now() + Duration::from_secs(3600));
    while limits.address(Some([127, 0, 0, 1].into()), later).is_ok() {}
    Arc::new(limits)
}

#[tokio::test]
async fn a_valid_token_joins_from_an_address_whose_attempts_are_spent_and_no_other_does() {
    let mut served = serve_limited(None, SocketLimits::default(), spent()).await;
    assert_eq!(served.get(&format!("/rtc/validate?access_token={}", token())).await.status(), 200);
    let _socket = served.connect("").await.unwrap();
    served.joins.recv().await.unwrap();
    let forged = format!("access_token={}x", token());
    for query in [forged.as_str(), "", "access_token=x"] {
        let answer = served.get(&format!("/rtc/validate?{query}")).await;
        assert_eq!(answer.status(), 429, "{query}");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("[too-many-attempts]"), "{text}");
    }
}

#[tokio::test]
async fn refusal_and_validation_give_the_same_reason() {
    let unavailable =
        Refusal::new(Reason::RegistryUnavailable, "the registry does not answer, try again in a minute");
    let served = serve_with(Some(unavailable.clone()), SocketLimits::default()).await;
    let refused = status(served.connect("").await.unwrap_err());
    assert_eq!(refused, (503, unavailable.to_string()));
    let response = served.get(&format!("/rtc/validate?access_token={}", token())).await;
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.text().await.unwrap(), unavailable.to_string());
    assert!(unavailable.to_string().ends_with("in a minute [registry-unavailable]"));
}

#[tokio::test]
async fn tokens_are_checked_before_anything_else() {
    let served = serve().await;
    let url = served.url("/rtc?reconnect=1");
    let missing = status(tokio_tungstenite::connect_async(url).await.unwrap_err());
    assert_eq!(missing.0, 401);
    let no_room = token_with(|grants| grants.room_join = false);
    let url = served.url(&format!("/rtc?access_token={no_room}"));
    let denied = status(tokio_tungstenite::connect_async(url).await.unwrap_err());
    let validated = served.get(&format!("/rtc/validate?access_token={no_room}")).await;
    assert_eq!((denied.0, validated.status().as_u16()), (401, 401));
    assert_eq!(validated.text().await.unwrap(), denied.1);
    assert!(served.node.debug_output.lock().unwrap().is_empty());
}

#[tokio::test]
async fn token_of_the_header_is_preferred_to_the_query() {
    use tungstenite::client::IntoClientRequest as _;
    let mut served = serve().await;
    let mut request = served.url("/rtc?access_token=rubbish").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", token()).parse().unwrap());
    let _socket = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(served.joins.recv().await.unwrap().0.grants.identity, "ada");
    let mut request = served.url(&format!("/rtc?access_token={}", token())).into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer rubbish".parse().unwrap());
    assert_eq!(status(tokio_tungstenite::connect_async(request).await.unwrap_err()).0, 401);
}

#[tokio::test]
async fn version_one_is_404_so_that_clients_fall_back() {
    let served = serve().await;
    for path in ["/rtc/v1", "/rtc/v1/validate", "/rtc"] {
        let response = served.get(&format!("{path}?access_token={}", token())).await;
        assert_eq!(response.status().as_u16(), 404, "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
        let text = response.text().await.unwrap();
        assert!(!text.contains("requested room does not exist"), "{path}: clients would not fall back");
    }
    let url = served.url(&format!("/rtc/v1?access_token={}&join_request=AAAA", token()));
    assert_eq!(status(tokio_tungstenite::connect_async(url).await.unwrap_err()).0, 404);
}

#[tokio::test]
async fn validation_answers_success_as_livekits_server() {
    let served = serve().await;
    let response = served.get(&format!("/rtc/validate?access_token={}", token())).await;
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.text().await.unwrap(), "success");
}

#[tokio::test]
async fn client_that_resumes_is_told_to_join_again() {
    let served = serve().await;
    let mut socket = served.connect("reconnect=1&sid=PA_1").await.unwrap();
    let (response, _) = next_response(&mut socket).await.unwrap();
    let Some(Message::Leave(leave)) = response.message else { panic!("no leave") };
    assert_eq!(leave.action, Action::Reconnect as i32);
    assert_eq!(leave.reason, proto::DisconnectReason::StateMismatch as i32);
    assert_eq!(next_response(&mut socket).await, None);
    assert!(served.node.debug_output.lock().unwrap().is_empty());
}

#[tokio::test]
async fn resuming_at_a_node_that_may_not_see_signalling_is_refused_with_the_reason() {
    let denied = Refusal::new(Reason::Forbidden, "the machine is controlled from US")
        .with_rules(vec!["eea".to_owned()]);
    let served = serve_with(Some(denied.clone()), SocketLimits::default()).await;
    let refused = status(served.connect("reconnect=1&sid=PA_1").await.unwrap_err());
    assert_eq!(refused, (403, denied.to_string()));
    assert_eq!(served.node.counters.messages(), (0, 0), "no message was sent over a socket");
}

#[tokio::test]
async fn sockets_and_their_messages_are_counted() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, responses) = served.joins.recv().await.unwrap();
    responses.send(Box::new(pong(1))).await.unwrap();
    next_response(&mut socket).await.unwrap();
    let ping = SignalRequest { message: Some(RequestMessage::Ping(5)) };
    socket.send(Frame::Binary(ping.encode_to_vec().into())).await.unwrap();
    requests.recv().await.unwrap();
    assert_eq!((served.node.counters.open(), served.node.counters.messages()), (1, (1, 1)));
    drop(responses);
    assert_eq!(next_response(&mut socket).await, None);
    drop(socket);
    let closed = async {
        while served.node.counters.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
}

#[tokio::test]
async fn last_message_of_a_session_is_sent_before_the_socket_closes() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, requests, responses) = served.joins.recv().await.unwrap();
    responses.send(Box::new(rejoin())).await.unwrap();
    drop((requests, responses));
    assert_eq!(next_response(&mut socket).await.map(|(response, _)| response), Some(rejoin()));
    assert_eq!(next_response(&mut socket).await, None);
}

fn rejoin() -> SignalResponse {
    SignalResponse { message: Some(Message::Leave(proto::LeaveRequest { action: 2, ..Default::default() })) }
}

#[tokio::test]
async fn session_ends_when_the_client_is_gone() {
    let mut served = serve().await;
    let socket = served.connect("").await.unwrap();
    let (_, mut requests, responses) = served.joins.recv().await.unwrap();
    drop(socket);
    assert_eq!(requests.recv().await, None);
    responses.closed().await;
}

/// Both sides send a Close frame before the TCP connection ends (RFC 6455 section 7.1.2). Without it the closure counts as a
/// failure, and Firefox delays its next connections to the server, up to a minute.
#[tokio::test]
async fn the_closing_handshake_is_completed_whoever_begins_it() {
    let mut served = serve().await;
    let mut client = served.connect("").await.unwrap();
    let _pipe = served.joins.recv().await.unwrap();
    client.close(None).await.unwrap();
    let rest = all_frames(&mut client).await;
    assert!(matches!(rest[..], [Ok(Frame::Close(_))]), "{rest:?}");

    let mut client = served.connect("").await.unwrap();
    drop(served.joins.recv().await.unwrap());
    // The reply to the server's Close frame meets an open connection.
    let rest = all_frames(&mut client).await;
    assert!(matches!(rest[..], [Ok(Frame::Close(_))]), "{rest:?}");
}

/// Both sides close at once, as when a client leaves.
#[tokio::test]
async fn a_client_that_leaves_and_closes_gets_the_servers_close_frame() {
    let mut served = serve().await;
    let mut client = served.connect("").await.unwrap();
    let pipe = served.joins.recv().await.unwrap();
    client.send(ping(1)).await.unwrap();
    drop(pipe);
    client.close(None).await.unwrap();
    let rest = all_frames(&mut client).await;
    assert!(matches!(rest[..], [Ok(Frame::Close(_))]), "{rest:?}");
}

/// What the client receives until its connection ends.
async fn all_frames(client: &mut Socket) -> Vec<Result<Frame, tungstenite::Error>> {
    let mut frames = Vec::new();
    while let Some(frame) = client.next().await {
        frames.push(frame);
    }
    frames
}

#[tokio::test]
async fn client_that_does_not_read_is_disconnected() {
    let limits = SocketLimits { queue_messages: 8, queue_bytes: 1 << 20, ..SocketLimits::default() };
    let mut served = serve_with(None, limits).await;
    let _socket = served.connect("").await.unwrap();
    let (_, mut requests, responses) = served.joins.recv().await.unwrap();
    let large = SignalResponse { message: Some(Message::RefreshToken("x".repeat(200_000))) };
    // Fails once the socket's and the gateway's buffers are full.
    while responses.send(Box::new(large.clone())).await.is_ok() {}
    assert_eq!(requests.recv().await, None);
}

#[tokio::test]
async fn message_longer_than_the_read_buffer_arrives_whole() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    for length in [1, 4096, 1_000_000] {
        let answer = proto::SessionDescription { sdp: "x".repeat(length), ..Default::default() };
        let request = SignalRequest { message: Some(RequestMessage::Answer(answer)) };
        socket.send(Frame::Binary(request.encode_to_vec().into())).await.unwrap();
        assert_eq!(requests.recv().await, Some(Box::new(request)));
    }
}

#[tokio::test]
async fn a_request_of_very_many_entries_is_ignored_in_both_encodings() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    let publish_tracks = vec![proto::TrackPublishedResponse::default(); 100_000];
    let sync = proto::SyncState { publish_tracks, ..Default::default() };
    let many = SignalRequest { message: Some(RequestMessage::SyncState(sync)) };
    let ping = SignalRequest { message: Some(RequestMessage::Ping(7)) };
    socket.send(Frame::Binary(many.encode_to_vec().into())).await.unwrap();
    socket
        .send(Frame::Text(
            format!("{{\"syncState\":{{\"publishTracks\":[{}{{}}]}}}}", "{},".repeat(100_000)).into(),
        ))
        .await
        .unwrap();
    socket.send(Frame::Binary(ping.encode_to_vec().into())).await.unwrap();
    assert_eq!(requests.recv().await, Some(Box::new(ping)));
}

#[tokio::test]
async fn message_that_is_too_long_ends_the_connection() {
    let mut served = serve().await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    let _ = socket.send(Frame::Binary(vec![0; (2 << 20) + 1].into())).await;
    assert_eq!(requests.recv().await, None);
}

#[tokio::test]
async fn idle_client_is_disconnected() {
    let limits = SocketLimits {
        ping_interval: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(60),
        ..SocketLimits::default()
    };
    let mut served = serve_with(None, limits).await;
    // A socket that is not polled answers no ping.
    let _socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    assert_eq!(requests.recv().await, None);
}

fn ping(timestamp: i64) -> Frame {
    let request = SignalRequest { message: Some(RequestMessage::Ping(timestamp)) };
    Frame::Binary(request.encode_to_vec().into())
}

#[tokio::test]
async fn client_above_the_rate_limit_is_slowed_down_and_loses_nothing() {
    let limits =
        SocketLimits { burst: 5, request_interval: Duration::from_millis(5), ..SocketLimits::default() };
    let mut served = serve_with(None, limits).await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, _responses) = served.joins.recv().await.unwrap();
    for number in 0..100 {
        socket.send(ping(number)).await.unwrap();
    }
    for number in 0..100 {
        let request = requests.recv().await.unwrap();
        assert_eq!(request.message, Some(RequestMessage::Ping(number)));
    }
}

#[tokio::test]
async fn client_above_the_rate_limit_still_receives_and_does_not_count_as_idle() {
    let hour = Duration::from_secs(3600);
    let (ping_interval, idle_timeout) = (Duration::from_millis(50), Duration::from_millis(1500));
    let limits = SocketLimits {
        burst: 5,
        request_interval: hour,
        ping_interval,
        idle_timeout,
        ..SocketLimits::default()
    };
    let mut served = serve_with(None, limits).await;
    let mut socket = served.connect("").await.unwrap();
    let (_, mut requests, responses) = served.joins.recv().await.unwrap();
    for number in 0..8 {
        socket.send(ping(number)).await.unwrap();
    }
    for number in 0..5 {
        let request = requests.recv().await.unwrap();
        assert_eq!(request.message, Some(RequestMessage::Ping(number)));
    }
    // Its pongs wait behind unread requests, for much longer than the idle timeout.
    for _ in 0..60 {
        let frame = socket.next().await.unwrap().unwrap();
        assert!(matches!(frame, Frame::Ping(_)), "{frame:?}");
    }
    responses.send(Box::new(pong(7))).await.unwrap();
    assert_eq!(next_response(&mut socket).await.unwrap().0, pong(7));
    assert!(requests.try_recv().is_err(), "the rest is not read yet");
}

#[test]
fn a_request_counts_for_each_track_that_it_names() {
    use super::socket::cost;
    let limits = SocketLimits::default();
    let settings = |tracks: usize| SignalRequest {
        message: Some(RequestMessage::TrackSetting(proto::UpdateTrackSettings {
            track_sids: vec!["TR_x".to_owned(); tracks],
            ..Default::default()
        })),
    };
    assert_eq!(cost(20, Some(&settings(1)), &limits), 1);
    assert_eq!(cost(2000, Some(&settings(100)), &limits), 100);
    assert_eq!(cost(2 << 20, Some(&settings(100_000)), &limits), limits.burst);
    assert_eq!(cost(3, None, &limits), 1, "a message that cannot be decoded counts too");
}

#[tokio::test]
async fn second_connection_that_only_publishes_has_its_own_identity() {
    let mut served = serve().await;
    let _socket = served.connect("publish=screen").await.unwrap();
    let (join, ..) = served.joins.recv().await.unwrap();
    assert_eq!(join.grants.identity, "ada#screen");
    assert!(!join.grants.can_subscribe && join.grants.can_publish);
}

#[tokio::test]
async fn attributes_of_the_url_need_the_permission_and_cannot_be_reserved_ones() {
    // {"seat":"4","systir.node":"mine"}
    let attributes = "eyJzZWF0IjoiNCIsInN5c3Rpci5ub2RlIjoibWluZSJ9";
    let mut served = serve().await;
    let _socket = served.connect(&format!("attributes={attributes}")).await.unwrap();
    assert!(served.joins.recv().await.unwrap().0.grants.attributes.is_empty());
    let may = token_with(|grants| grants.can_update_own_metadata = Some(true));
    let url = served.url(&format!("/rtc?access_token={may}&attributes={attributes}"));
    let _socket = tokio_tungstenite::connect_async(url).await.unwrap();
    let (join, ..) = served.joins.recv().await.unwrap();
    assert_eq!(join.grants.attributes.into_iter().collect::<Vec<_>>(), [("seat".to_owned(), "4".to_owned())]);
}

#[tokio::test]
async fn join_request_does_not_contain_the_token() {
    let mut served = serve().await;
    let token = token();
    let url = served.url(&format!("/rtc?access_token={token}"));
    let _socket = tokio_tungstenite::connect_async(url).await.unwrap();
    served.joins.recv().await.unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(served.node.debug_output.lock().unwrap().iter().all(|text| !text.contains(signature)));
}
