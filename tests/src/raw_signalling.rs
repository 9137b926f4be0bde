//! A signalling client that can send any frame, including invalid ones.

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

/// Limit of each wait for the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A token with any claims, signed with any secret.
#[must_use]
pub fn sign_token(claims: &Value, secret: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
}

/// A participant's signalling connection.
#[derive(Debug)]
pub struct RawSignalling {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// A gateway's refusal of the WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRefusal {
    /// HTTP status.
    pub status: u16,
    /// The body: the reason as text.
    pub text: String,
}

impl RawSignalling {
    /// Opens the WebSocket at a gateway. The inner error is the gateway's refusal.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn open(gateway_url: &str, token: &str) -> Result<Result<Self, HttpRefusal>> {
        let base = gateway_url.replacen("http", "ws", 1);
        let url = format!("{base}/rtc?access_token={token}&auto_subscribe=1&protocol=16&sdk=rust");
        let _waiting = scenario::waiting("the gateway's answer to a WebSocket");
        match tokio::time::timeout(TIMEOUT, connect_async(url)).await.context("no answer from the gateway")? {
            Ok((socket, _)) => Ok(Ok(Self { socket })),
            Err(tungstenite::Error::Http(answer)) => {
                let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
                Ok(Err(HttpRefusal { status: answer.status().as_u16(), text }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the WebSocket and waits for the join response.
    ///
    /// # Errors
    /// When the gateway refuses.
    pub async fn join(gateway_url: &str, token: &str) -> Result<(Self, JoinResponse)> {
        let opened = Self::open(gateway_url, token).await?;
        let mut signalling = opened.map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
        let join = signalling
            .wait_for("the join response", |message| match message {
                signal_response::Message::Join(join) => Some(join),
                _ => None,
            })
            .await?;
        Ok((signalling, join))
    }

    /// Reads until a message matches.
    ///
    /// # Errors
    /// When the connection ends before, or no message matches in time.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        find: impl Fn(signal_response::Message) -> Option<T>,
    ) -> Result<T> {
        let _waiting = scenario::waiting(what);
        let read = async {
            loop {
                let Some(message) = self.socket.next().await else {
                    bail!("the server closed before {what}")
                };
                let Message::Binary(bytes) = message.with_context(|| format!("before {what}"))? else {
                    continue;
                };
                if let Some(found) = SignalResponse::decode(bytes)?.message.and_then(&find) {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(TIMEOUT, read).await.with_context(|| format!("{what} did not come"))?
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frame: Message) -> Result<()> {
        let sent = tokio::time::timeout(TIMEOUT, self.socket.send(frame)).await;
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

    /// Sends an offer for the publisher's peer connection.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn offer(&mut self, sdp: &str) -> Result<()> {
        let offer = SessionDescription { r#type: "offer".into(), sdp: sdp.into(), ..Default::default() };
        self.request(signal_request::Message::Offer(offer)).await
    }

    /// Sends a ping and waits for the pong: the server has then read everything that was sent before.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn ping(&mut self) -> Result<()> {
        let ping = livekit_protocol::Ping { timestamp: 7, rtt: 0 };
        self.request(signal_request::Message::PingReq(ping)).await?;
        self.wait_for("a pong", |message| match message {
            signal_response::Message::PongResp(pong) if pong.last_ping_timestamp == 7 => Some(()),
            _ => None,
        })
        .await
    }

    /// The TCP stream below, to send bytes that are no WebSocket frames.
    ///
    /// # Errors
    /// When the connection uses TLS.
    pub fn into_stream(self) -> Result<TcpStream> {
        match self.socket.into_inner() {
            MaybeTlsStream::Plain(stream) => Ok(stream),
            _ => bail!("the connection uses TLS"),
        }
    }

    /// Waits until the server has closed the connection.
    ///
    /// # Errors
    /// When it stays open.
    pub async fn wait_until_closed(mut self) -> Result<()> {
        let _waiting = scenario::waiting("the server closes a connection");
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(TIMEOUT, end).await.context("the server keeps the connection open")
    }
}
