//! Pages and signalling at one more address: each connection there is carried on to the node's own
//! port on loopback, whose limits hold for it as for any other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Time to wait after a failed accept, for the most part because files ran out.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens at an address of this machine.
///
/// # Errors
/// When the machine does not have it, or the port is taken.
pub(super) async fn bind(at: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("--address: nothing can listen at {at}"))
}

/// Forwards until `stop`.
pub(super) async fn run(listener: TcpListener, to: SocketAddr, stop: CancellationToken) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(carry(client, to, stop.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a connection at the second address cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// One connection, both ways, until either end closes it.
async fn carry(mut client: TcpStream, to: SocketAddr, stop: CancellationToken) {
    let carrying = async {
        let mut node = TcpStream::connect(to).await?;
        // Signalling is small messages that must not wait for each other.
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut node).await
    };
    if let Some(Err(error)) = stop.run_until_cancelled(carrying).await {
        tracing::debug!(%error, "a forwarded connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_comes_at_the_second_address_reaches_the_node_and_the_answer_comes_back() {
        let node = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let also = bind("127.0.0.2:0".parse().unwrap()).await.unwrap();
        let (to, at) = (node.local_addr().unwrap(), also.local_addr().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(also, to, stop.clone()));
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
        // The end of the demonstration ends what is carried.
        stop.cancel();
        running.await.unwrap();
        assert_eq!(client.read(&mut answered).await.unwrap(), 0);
    }
}
