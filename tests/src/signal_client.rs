//! LiveKit's signalling by hand: one WebSocket, with or without TLS, and whose certificate it met.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use livekit_protocol::{Ping, SignalRequest, SignalResponse, signal_request, signal_response};
use prost::Message as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

/// Both kinds of connection.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A participant's signalling.
pub struct Signal {
    socket: WebSocketStream<Box<dyn Wire>>,
}

/// Connects with TLS, believing one CA, and says which certificate was served.
///
/// # Errors
/// When TLS does not come about.
pub async fn tls(port: u16, ca: &CertificateDer<'static>) -> Result<(Box<dyn Wire>, Vec<u8>)> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let served = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
    let served = served.to_vec();
    Ok((Box::new(stream), served))
}

impl Signal {
    /// Joins over a connection that stands.
    ///
    /// # Errors
    /// With the status and the words of a refusal.
    pub async fn join(wire: Box<dyn Wire>, host: &str, token: &str) -> Result<Self> {
        let url = format!("ws://{host}/rtc?access_token={token}&auto_subscribe=1&protocol=15");
        let socket = match tokio_tungstenite::client_async(url, wire).await {
            Ok((socket, _)) => socket,
            Err(tungstenite::Error::Http(answer)) => {
                let words = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                bail!("{}: {words}", answer.status());
            }
            Err(error) => return Err(error.into()),
        };
        let mut signal = Self { socket };
        signal
            .until(|message| matches!(message, signal_response::Message::Join(_)))
            .await
            .context("no join message")?;
        Ok(signal)
    }

    /// Joins without TLS.
    ///
    /// # Errors
    /// With the status and the words of a refusal.
    pub async fn join_plain(port: u16, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Self::join(Box::new(stream), &format!("127.0.0.1:{port}"), token).await
    }

    async fn until(&mut self, wanted: impl Fn(&signal_response::Message) -> bool) -> Result<()> {
        let waiting = async {
            while let Some(message) = self.socket.next().await {
                let Message::Binary(bytes) = message? else { continue };
                if SignalResponse::decode(bytes)?.message.is_some_and(|message| wanted(&message)) {
                    return Ok(());
                }
            }
            bail!("the socket closed")
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await?
    }

    /// Asks the media node for a sign of life and waits for it.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn is_alive(&mut self) -> Result<()> {
        let ping = signal_request::Message::PingReq(Ping { timestamp: 7, rtt: 0 });
        let request = SignalRequest { message: Some(ping) };
        self.socket.send(Message::Binary(request.encode_to_vec().into())).await?;
        self.until(|message| matches!(message, signal_response::Message::PongResp(_))).await
    }

    /// Sends bytes as one message and waits for the close that they bring: its code and words.
    ///
    /// # Errors
    /// When the socket ended without a close.
    pub async fn is_closed_by(mut self, bytes: Vec<u8>) -> Result<(u16, String)> {
        let _ = self.socket.send(Message::Binary(bytes.into())).await;
        let waiting = async {
            while let Some(message) = self.socket.next().await {
                if let Message::Close(Some(frame)) = message? {
                    return Ok((u16::from(frame.code), frame.reason.to_string()));
                }
            }
            bail!("the socket ended without a word")
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await?
    }
}
