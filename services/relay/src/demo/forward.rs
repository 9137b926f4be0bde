//! Serves pages and signalling at a second address: forwards each TCP connection to the node's HTTP port on
//! loopback, where the usual limits apply.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Pause after a failed accept, usually because of too many open files.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Listens at an address of this machine.
///
/// # Errors
/// When the machine does not have the address, or the port is in use.
pub(super) async fn bind(at: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("--address: cannot listen on {at}"))
}

/// Forwards until `stop`.
pub(super) async fn run(listener: TcpListener, to: SocketAddr, stop: CancellationToken) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(forward(client, to, stop.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a connection at the second address cannot be accepted");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// Forwards one connection in both directions until both ends have closed.
async fn forward(mut client: TcpStream, to: SocketAddr, stop: CancellationToken) {
    let copying = async {
        let mut node = TcpStream::connect(to).await?;
        // Signalling messages are small and must not be delayed by Nagle's algorithm.
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut node).await
    };
    if let Some(Err(error)) = stop.run_until_cancelled(copying).await {
        tracing::debug!(%error, "a forwarded connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_request_at_the_second_address_reaches_the_node_and_its_response_returns() {
        let node = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let second = bind("127.0.0.2:0".parse().unwrap()).await.unwrap();
        let (to, at) = (node.local_addr().unwrap(), second.local_addr().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(second, to, stop.clone()));
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (mut served, _) = node.accept().await.unwrap();
        let mut asked = [0; 8];
        served.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"question");
        served.write_all(b"answer").await.unwrap();
        let mut answered = [0; 6];
        client.read_exact(&mut answered).await.unwrap();
        assert_eq!(&answered, b"answer");
        // Stopping the demo closes forwarded connections.
        stop.cancel();
        running.await.unwrap();
        assert_eq!(client.read(&mut answered).await.unwrap(), 0);
    }
}
