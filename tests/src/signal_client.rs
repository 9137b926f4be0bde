//! A minimal signalling client over a given stream, plain or TLS. It can see the server's certificate.

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

/// A plain or a TLS stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A participant's signalling.
pub struct SignalClient {
    socket: WebSocketStream<Box<dyn ByteStream>>,
}

/// Connects with TLS and trusts one CA; returns the stream and the server's certificate in DER.
///
/// # Errors
/// When the handshake fails.
pub async fn connect_tls(port: u16, ca: &CertificateDer<'static>) -> Result<(Box<dyn ByteStream>, Vec<u8>)> {
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

impl SignalClient {
    /// Joins over a connected stream.
    ///
    /// # Errors
    /// When the gateway refuses; with status and text.
    pub async fn join(stream: Box<dyn ByteStream>, host: &str, token: &str) -> Result<Self> {
        let url = format!("ws://{host}/rtc?access_token={token}&auto_subscribe=1&protocol=15");
        let socket = match tokio_tungstenite::client_async(url, stream).await {
            Ok((socket, _)) => socket,
            Err(tungstenite::Error::Http(answer)) => {
                let text = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                bail!("{}: {text}", answer.status());
            }
            Err(error) => return Err(error.into()),
        };
        let mut signal = Self { socket };
        signal
            .wait_for(|message| matches!(message, signal_response::Message::Join(_)))
            .await
            .context("no join response")?;
        Ok(signal)
    }

    /// Joins without TLS.
    ///
    /// # Errors
    /// When the gateway refuses; with status and text.
    pub async fn join_plain(port: u16, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Self::join(Box::new(stream), &format!("127.0.0.1:{port}"), token).await
    }

    async fn wait_for(&mut self, matches: impl Fn(&signal_response::Message) -> bool) -> Result<()> {
        let waiting = async {
            while let Some(message) = self.socket.next().await {
                let Message::Binary(bytes) = message? else { continue };
                if SignalResponse::decode(bytes)?.message.is_some_and(|message| matches(&message)) {
                    return Ok(());
                }
            }
            bail!("the connection closed")
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await?
    }

    /// Sends a ping to the media node and waits for the pong.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn ping(&mut self) -> Result<()> {
        let ping = signal_request::Message::PingReq(Ping { timestamp: 7, rtt: 0 });
        let request = SignalRequest { message: Some(ping) };
        self.socket.send(Message::Binary(request.encode_to_vec().into())).await?;
        self.wait_for(|message| matches!(message, signal_response::Message::PongResp(_))).await
    }

    /// Sends bytes as one message and waits until the server closes: the close code and reason.
    ///
    /// # Errors
    /// When the connection ends without a close frame.
    pub async fn send_until_closed(mut self, bytes: Vec<u8>) -> Result<(u16, String)> {
        let _ = self.socket.send(Message::Binary(bytes.into())).await;
        let waiting = async {
            while let Some(message) = self.socket.next().await {
                if let Message::Close(Some(frame)) = message? {
                    return Ok((u16::from(frame.code), frame.reason.to_string()));
                }
            }
            bail!("the connection ended without a close frame")
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await?
    }
}
