use std::net::SocketAddr;

use futures::SinkExt;
use livekit_protocol::{DisconnectReason, JoinResponse, LeaveRequest, SignalResponse, signal_response};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::*;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn config(server: SocketAddr) -> Config {
    Config { url: format!("http://{server}"), participants: 3, rate: 1_000.0, ..Config::default() }
}

#[tokio::test]
async fn refused_request_is_reported_with_the_servers_message_and_without_the_token() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16_384];
            let size = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..size]).into_owned();
            let token = request.split("access_token=").nth(1).unwrap().split('&').next().unwrap();
            let body = format!("the approved nodes are full ({token})");
            let length = body.len();
            let answer =
                format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let report = run(config(address)).await.unwrap();
    server.abort();
    assert_eq!(report.joined, 0);
    let [group] = report.refused.as_slice() else { panic!("{:?}", report.refused) };
    assert_eq!(group.count, 3);
    assert_eq!(group.reason, "503 Service Unavailable: the approved nodes are full ((token))");
}

#[tokio::test]
async fn leave_instead_of_join_is_a_refusal_with_its_reason() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let leave = LeaveRequest { reason: DisconnectReason::JoinFailure.into(), ..Default::default() };
            let message = Some(signal_response::Message::Leave(leave));
            let bytes = SignalResponse { message }.encode_to_vec();
            socket.send(Message::Binary(bytes.into())).await.unwrap();
        }
    });
    let report = run(config(address)).await.unwrap();
    server.abort();
    let [group] = report.refused.as_slice() else { panic!("{:?}", report.refused) };
    assert_eq!((group.count, &*group.reason), (3, "the server said leave: join-failure"));
}

#[tokio::test]
async fn cancelled_test_does_not_wait_for_a_server_that_never_answers() {
    let (listener, address) = listen().await;
    let cancel = CancellationToken::new();
    let ended = cancel.clone();
    // Accepts the first connection, sends nothing and cancels the test.
    let server = tokio::spawn(async move {
        let silent = listener.accept().await.unwrap();
        cancel.cancel();
        std::future::pending::<()>().await;
        drop(silent);
    });
    let report = run_with(config(address), ended, |_| {}).await.unwrap();
    server.abort();
    assert_eq!((report.joined, report.packets_out), (0, 0));
}

#[tokio::test]
async fn test_without_an_end_ends_when_its_server_is_gone() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            // Media is not needed for a participant that publishes nothing.
            let join = JoinResponse { subscriber_primary: false, ..Default::default() };
            let message = Some(signal_response::Message::Join(join));
            let bytes = SignalResponse { message }.encode_to_vec();
            socket.send(Message::Binary(bytes.into())).await.unwrap();
            sockets.push(socket);
        }
        // All have joined; the server ends.
    });
    let config = Config { publishers: Some(0), stay: true, no_rejoin: true, ..config(address) };
    let report = run(config).await.unwrap();
    server.await.unwrap();
    assert_eq!((report.joined, report.ended.iter().map(|group| group.count).sum::<usize>()), (3, 3));
}
