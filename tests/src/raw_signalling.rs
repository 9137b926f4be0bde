//! A client that speaks LiveKit's signalling by hand, so that it can say what no client should.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt as _, StreamExt as _};
use livekit_protocol::{
    JoinResponse, SessionDescription, SignalRequest, SignalResponse, signal_request, signal_response,
};
use prost::Message as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::scenario;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token with any claims, signed with any secret.
#[must_use]
pub fn signed(claims: &Value, secret: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let words = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{words}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, words.as_bytes())))
}

/// Somebody's signalling connection.
#[derive(Debug)]
pub struct Signalling {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a front door answered who was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnedAway {
    /// HTTP status.
    pub status: u16,
    /// The reason in words.
    pub words: String,
}

impl Signalling {
    /// Opens the WebSocket at a front door; the outer error is one of the test, the inner one the
    /// door's refusal.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(front_door: &str, token: &str) -> Result<Result<Self, TurnedAway>> {
        let door = front_door.replacen("http", "ws", 1);
        let url = format!("{door}/rtc?access_token={token}&auto_subscribe=1&protocol=16&sdk=rust");
        let _waiting = scenario::waiting("the front door's answer to a WebSocket");
        match tokio::time::timeout(PATIENCE, connect_async(url)).await.context("no answer at the door")? {
            Ok((socket, _)) => Ok(Ok(Self { socket })),
            Err(tungstenite::Error::Http(answer)) => {
                let words =
                    String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
                Ok(Err(TurnedAway { status: answer.status().as_u16(), words }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens it and hears that it has joined.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn join(front_door: &str, token: &str) -> Result<(Self, JoinResponse)> {
        let opened = Self::open(front_door, token).await?;
        let mut signalling = opened.map_err(|away| anyhow::anyhow!("turned away: {away:?}"))?;
        let join = signalling
            .until("the join message", |message| match message {
                signal_response::Message::Join(join) => Some(join),
                _ => None,
            })
            .await?;
        Ok((signalling, join))
    }

    /// Reads on until a message fits.
    ///
    /// # Errors
    /// When the connection ends before, or nothing fits in time.
    pub async fn until<T>(
        &mut self,
        what: &str,
        fits: impl Fn(signal_response::Message) -> Option<T>,
    ) -> Result<T> {
        let _waiting = scenario::waiting(what);
        let read_on = async {
            loop {
                let Some(message) = self.socket.next().await else {
                    bail!("the server closed before {what}")
                };
                let Message::Binary(bytes) = message.with_context(|| format!("before {what}"))? else {
                    continue;
                };
                if let Some(found) = SignalResponse::decode(bytes)?.message.and_then(&fits) {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(PATIENCE, read_on).await.with_context(|| format!("{what} did not come"))?
    }

    /// Sends one frame, whatever is in it.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frame: Message) -> Result<()> {
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(frame)).await;
        Ok(sent.context("the server does not read")??)
    }

    /// Sends a request of the protocol.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn request(&mut self, request: signal_request::Message) -> Result<()> {
        let bytes = SignalRequest { message: Some(request) }.encode_to_vec();
        self.send(Message::Binary(bytes.into())).await
    }

    /// Offers a description for the publisher's connection.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn offer(&mut self, sdp: &str) -> Result<()> {
        let offer = SessionDescription { r#type: "offer".into(), sdp: sdp.into(), ..Default::default() };
        self.request(signal_request::Message::Offer(offer)).await
    }

    /// Asks for a pong: everything that was sent before has been read when it comes.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn is_answered(&mut self) -> Result<()> {
        let ping = livekit_protocol::Ping { timestamp: 7, rtt: 0 };
        self.request(signal_request::Message::PingReq(ping)).await?;
        self.until("a pong", |message| match message {
            signal_response::Message::PongResp(pong) if pong.last_ping_timestamp == 7 => Some(()),
            _ => None,
        })
        .await
    }

    /// The socket below, for bytes that are no frames.
    ///
    /// # Errors
    /// When it is one with TLS.
    pub fn into_bytes(self) -> Result<TcpStream> {
        match self.socket.into_inner() {
            MaybeTlsStream::Plain(stream) => Ok(stream),
            _ => bail!("the connection has TLS"),
        }
    }

    /// Waits until the server has closed the connection.
    ///
    /// # Errors
    /// When it does not.
    pub async fn is_closed(mut self) -> Result<()> {
        let _waiting = scenario::waiting("the server closes a connection");
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(PATIENCE, end).await.context("the server keeps the connection open")
    }
}
