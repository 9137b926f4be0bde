//! Floods of TCP connections from several addresses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::flood::Flood;

const ADDRESSES: usize = 40;
/// Limit for one connection, when the server accepts none.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// Makes so many connections a second and holds the newest `held` of them open. Each sends `first` and nothing more.
pub(super) fn hold(to: SocketAddr, held: usize, rate: u32, first: Vec<u8>) -> Result<Flood> {
    Flood::start(move |attacker| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connections = VecDeque::new();
            let mut number = 0_usize;
            let mut next = Instant::now();
            while !attacker.is_stopped() {
                next += Duration::from_secs(1) / rate;
                tokio::time::sleep_until(next).await;
                number += 1;
                // One that is refused or reset is an attack as well.
                if let Ok(Ok(connection)) = timeout(CONNECT_LIMIT, connect(to, number, &first)).await {
                    connections.push_back(connection);
                }
                if connections.len() > held {
                    connections.pop_front();
                }
                attacker.made(1);
            }
            Ok(())
        })
    })
}

async fn connect(to: SocketAddr, number: usize, first: &[u8]) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 1, (number % ADDRESSES) as u8 + 1], 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(first).await?;
    Ok(stream)
}

/// The first message of a TLS client that has no certificate.
pub(super) fn client_hello() -> Result<Vec<u8>> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), "node.example".try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).context("no ClientHello")?;
    Ok(bytes)
}

/// A request to join with a token that nobody signed.
pub(super) fn forged_join() -> Vec<u8> {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJkZXZrZXkiLCJzdWIiOiJtYWxsb3J5IiwiZXhwIjo5OTk5OTk5OTk5fQ.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    format!("GET /rtc/validate?access_token={token} HTTP/1.1\r\nHost: node\r\n\r\n").into_bytes()
}
