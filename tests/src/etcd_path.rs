//! The path of one node to etcd. It forwards the node's connections, holds what they carry, cuts them, or leads
//! them to another etcd.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Limit for etcd to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PathState {
    /// The port of etcd on loopback; none while the path is cut.
    port: Option<u16>,
    /// Nothing is forwarded.
    held: bool,
}

/// A TCP proxy on loopback. It ends with the value.
#[derive(Debug)]
pub struct EtcdPath {
    url: String,
    port: u16,
    state: watch::Sender<PathState>,
    task: AbortHandle,
}

impl Drop for EtcdPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EtcdPath {
    /// Opens a path to the etcd on this port of loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn open(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a path to etcd")?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = watch::Sender::new(PathState { port: Some(port), held: false });
        let task = tokio::spawn(accept(listener, state.subscribe())).abort_handle();
        Ok(Self { url, port, state, task })
    }

    /// The URL at which the node finds etcd.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads the node to etcd again.
    pub fn restore(&self) {
        self.state.send_replace(PathState { port: Some(self.port), held: false });
    }

    /// Connections stay open, and carry nothing.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.held = true);
    }

    /// Ends all connections and accepts none.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.port = None);
    }

    /// Ends all connections and leads the next ones to another etcd.
    pub fn lead_to(&self, port: u16) {
        self.state.send_modify(|state| state.port = Some(port));
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<PathState>) {
    let mut connections = JoinSet::new();
    while let Ok((node, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(forward(node, state.clone()));
    }
}

/// Forwards one connection until an end closes it, or the path leads elsewhere.
async fn forward(node: TcpStream, mut state: watch::Receiver<PathState>) {
    let Some(port) = state.borrow().port else { return };
    let Ok(Ok(etcd)) = timeout(CONNECT, TcpStream::connect(("127.0.0.1", port))).await else { return };
    let (from_node, to_node) = node.into_split();
    let (from_etcd, to_etcd) = etcd.into_split();
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        () = pump(from_node, to_etcd, there) => {}
        () = pump(from_etcd, to_node, back) => {}
        _ = state.wait_for(|state| state.port != Some(port)) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<PathState>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| !state.held).await.is_err() || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with its own number.
    async fn numbered(number: u8) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(1..) = stream.read(&mut [0]).await {
                        stream.write_all(&[number]).await.unwrap();
                    }
                });
            }
        });
        port
    }

    async fn connect(path: &EtcdPath) -> TcpStream {
        TcpStream::connect(path.url().trim_start_matches("http://")).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> Option<u8> {
        let mut answer = [0];
        stream.write_all(&[0]).await.ok()?;
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer[0])
    }

    #[tokio::test]
    async fn a_path_forwards_holds_cuts_and_leads_elsewhere() {
        let (first, second) = (numbered(1).await, numbered(2).await);
        let path = EtcdPath::open(first).await.unwrap();
        let mut stream = connect(&path).await;
        assert_eq!(ask(&mut stream).await, Some(1));
        path.hold();
        let (answer, ()) = tokio::join!(ask(&mut stream), async {
            // The byte is on its way while nothing is forwarded.
            tokio::task::yield_now().await;
            path.restore();
        });
        assert_eq!(answer, Some(1), "held bytes arrive later");
        path.lead_to(second);
        assert_eq!(ask(&mut stream).await, None, "the connection has ended");
        assert_eq!(ask(&mut connect(&path).await).await, Some(2));
        path.cut();
        assert_eq!(ask(&mut connect(&path).await).await, None);
        path.restore();
        assert_eq!(ask(&mut connect(&path).await).await, Some(1));
    }
}
