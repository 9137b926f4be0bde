//! Client side of LiveKit signalling, v0: one WebSocket with binary protobuf in both directions.

use std::net::IpAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use livekit_protocol::{
    DisconnectReason, JoinResponse, LeaveRequest, SignalRequest, SignalResponse, signal_request,
    signal_response,
};
use prost::Message as _;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

/// Time limit for the server's answer to the request, and again for its join response.
const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for sending a message.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// The newest protocol version in which data channels are negotiated in band, as this client does.
const PROTOCOL: u32 = 16;

/// Why a participant did not join.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinError {
    /// The server refused it.
    #[error("{0}")]
    Refused(String),
    /// The server could not be reached.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// A time limit passed.
    #[error("no {0} in time")]
    TooSlow(&'static str),
    /// The server sent something that the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// Signalling or media ended while joining.
    #[error("the connection ended while joining: {0}")]
    Ended(String),
}

/// A message from the server.
pub(crate) type Incoming = signal_response::Message;
/// A message from the client.
pub(crate) type Request = signal_request::Message;

/// An open signalling connection.
#[derive(Debug)]
pub(crate) struct Signal {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Signal {
    /// Connects and waits for the join response.
    pub(crate) async fn join(
        base: &str,
        token: &str,
        tls: Option<Connector>,
    ) -> Result<(Self, JoinResponse), JoinError> {
        let url = format!(
            "{base}/rtc?access_token={token}&auto_subscribe=1&protocol={PROTOCOL}&sdk=rust&version={}",
            env!("CARGO_PKG_VERSION")
        );
        let connecting = tokio_tungstenite::connect_async_tls_with_config(url, None, true, tls);
        let connecting = timeout(JOIN_LIMIT, connecting).await.map_err(|_| JoinError::TooSlow("answer"))?;
        let (socket, _) = connecting.map_err(|error| refused(error, token))?;
        let mut signal = Self { socket };
        let first =
            timeout(JOIN_LIMIT, signal.next()).await.map_err(|_| JoinError::TooSlow("join response"))?;
        match first {
            Ok(Incoming::Join(join)) => Ok((signal, join)),
            Ok(Incoming::Leave(leave)) => Err(JoinError::Refused(describe(&leave))),
            Ok(_) => Err(JoinError::Protocol("its first message is neither join nor leave".into())),
            Err(ended) => Err(JoinError::Ended(ended)),
        }
    }

    /// Local address of the connection to the server.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        let tcp = match self.socket.get_ref() {
            MaybeTlsStream::Plain(tcp) => tcp,
            MaybeTlsStream::Rustls(tls) => tls.get_ref().0,
            _ => return None,
        };
        Some(tcp.local_addr().ok()?.ip())
    }

    /// The next message, or why there will be none. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Result<Incoming, String> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the server closed the connection".into()),
            };
            match message {
                Message::Binary(bytes) => {
                    let response = SignalResponse::decode(bytes).map_err(|error| error.to_string())?;
                    // A message type that this client's protocol does not have is ignored.
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Message::Close(frame) => {
                    let why = frame.map(|f| format!("{} {}", f.code, f.reason)).unwrap_or_default();
                    return Err(format!("the server closed the connection {why}").trim_end().to_owned());
                }
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, message: Request) -> Result<(), String> {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        match timeout(SEND_LIMIT, self.socket.send(Message::Binary(bytes.into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server does not read from the signalling connection".into()),
        }
    }

    /// Sends a leave message and closes the connection, if the server still reads.
    pub(crate) async fn leave(mut self) {
        let leave = LeaveRequest { reason: DisconnectReason::ClientInitiated.into(), ..Default::default() };
        if self.send(Request::Leave(leave)).await.is_ok() {
            let _ = timeout(SEND_LIMIT, self.socket.close(None)).await;
        }
    }
}

/// A leave message in one line.
pub(crate) fn describe(leave: &LeaveRequest) -> String {
    let reason = leave.reason().as_str_name().to_lowercase().replace('_', "-");
    format!("the server said leave: {reason}")
}

/// The error of a failed request. Some servers repeat the token in it; a report must not contain it.
fn refused(error: tungstenite::Error, token: &str) -> JoinError {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status();
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body).replace(token, "(token)");
            let body: String = body.trim().chars().take(400).collect();
            JoinError::Refused(format!("{status}: {body}").trim_end_matches([':', ' ']).to_owned())
        }
        other => JoinError::Unreachable(other.to_string().replace(token, "(token)")),
    }
}
