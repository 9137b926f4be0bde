//! A TCP load balancer in front of gateways, as an operator runs one: it sends each new connection to a node that is
//! ready. Connections that stand stay where they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Time between two questions whether a node is ready.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a node may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// A gateway: the address of its HTTP port, and the URL that says whether it is ready.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Of HTTP and WebSocket.
    pub address: SocketAddr,
    /// `http://…/readyz`.
    pub ready: String,
}

/// A running load balancer. It ends with this value, and its connections with it.
#[derive(Debug)]
pub struct LoadBalancer {
    /// Its URL.
    pub url: String,
    _tasks: [AbortOnDropHandle<()>; 2],
}

type Ready = Arc<Mutex<Vec<SocketAddr>>>;

impl LoadBalancer {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(gateways: Vec<Gateway>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        let ready: Ready = Arc::new(Mutex::new(ready_ones(&client, &gateways).await));
        let checks = tokio::spawn(check(client, gateways, ready.clone()));
        let relays = tokio::spawn(relay(listener, ready));
        Ok(Self { url, _tasks: [checks, relays].map(AbortOnDropHandle::new) })
    }
}

async fn check(client: reqwest::Client, gateways: Vec<Gateway>, ready: Ready) {
    loop {
        let found = ready_ones(&client, &gateways).await;
        *ready.lock().unwrap_or_else(PoisonError::into_inner) = found;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ready_ones(client: &reqwest::Client, gateways: &[Gateway]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for gateway in gateways {
        let answer = client.get(&gateway.ready).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            found.push(gateway.address);
        }
    }
    found
}

async fn relay(listener: TcpListener, ready: Ready) {
    let (mut connections, mut next) = (JoinSet::new(), 0_usize);
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let mut nodes = ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        next += 1;
        let first = next % nodes.len().max(1);
        nodes.rotate_left(first);
        connections.spawn(forward(client, nodes));
    }
}

/// Connects to the first node that accepts. Without one the client's connection closes.
async fn forward(mut client: TcpStream, nodes: Vec<SocketAddr>) {
    for node in nodes {
        if let Ok(mut server) = TcpStream::connect(node).await {
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
