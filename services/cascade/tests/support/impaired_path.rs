//! A network path that a test can impair: proxies for UDP and TCP that lose, duplicate, delay and reorder.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use systir_cascade::PeerAddress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

/// Impairments of one direction.
#[derive(Debug, Default)]
pub struct Direction {
    /// Nothing passes: datagrams are lost, TCP bytes wait.
    pub cut: AtomicBool,
    /// Percentage of datagrams that are lost.
    pub loss: AtomicU64,
    /// Percentage of datagrams that are duplicated.
    pub duplicated: AtomicU64,
    /// Each datagram is delayed by a random time up to this many milliseconds, which reorders them.
    pub jitter_ms: AtomicU64,
}

impl Direction {
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    async fn open(&self) {
        while self.is_cut() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Both directions of one protocol.
#[derive(Debug, Clone, Default)]
pub struct Directions {
    /// To the node.
    pub there: Arc<Direction>,
    /// From it.
    pub back: Arc<Direction>,
}

impl Directions {
    pub fn cut(&self, cut: bool) {
        self.there.cut.store(cut, Ordering::SeqCst);
        self.back.cut.store(cut, Ordering::SeqCst);
    }
}

/// The path to one node.
pub struct Path {
    /// The address of the proxies.
    pub address: PeerAddress,
    pub quic: Directions,
    pub grpc: Directions,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Path {
    pub async fn to(node: &PeerAddress) -> Self {
        let (quic, grpc) = (Directions::default(), Directions::default());
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = PeerAddress {
            id: node.id.clone(),
            grpc: tcp.local_addr().unwrap(),
            quic: udp.local_addr().unwrap(),
        };
        let tasks = [
            tokio::spawn(datagrams(Arc::new(udp), node.quic, quic.clone())),
            tokio::spawn(streams(tcp, node.grpc, grpc.clone())),
        ];
        Self { address, quic, grpc, _tasks: tasks.map(AbortOnDropHandle::new) }
    }
}

/// Forwards datagrams of one peer at a time; replies go to the latest sender.
async fn datagrams(front: Arc<UdpSocket>, node: SocketAddr, directions: Directions) {
    let behind = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    behind.connect(node).await.unwrap();
    let (mut there, mut back) = ([0; 2000], [0; 2000]);
    let mut caller = None;
    loop {
        tokio::select! {
            Ok((size, from)) = front.recv_from(&mut there) => {
                caller = Some(from);
                pass(&directions.there, there[..size].to_vec(), &behind, None);
            }
            Ok(size) = behind.recv(&mut back) => {
                if caller.is_some() {
                    pass(&directions.back, back[..size].to_vec(), &front, caller);
                }
            }
        }
    }
}

fn pass(direction: &Direction, datagram: Vec<u8>, socket: &Arc<UdpSocket>, to: Option<SocketAddr>) {
    let chance = |of: &AtomicU64| rand::random_range(0..100) < of.load(Ordering::Relaxed);
    if direction.is_cut() || chance(&direction.loss) {
        return;
    }
    let copies = 1 + usize::from(chance(&direction.duplicated));
    let most = direction.jitter_ms.load(Ordering::Relaxed);
    for _ in 0..copies {
        let (datagram, socket) = (datagram.clone(), socket.clone());
        let send = async move {
            let _ = match to {
                Some(to) => socket.send_to(&datagram, to).await,
                None => socket.send(&datagram).await,
            };
        };
        let delay = Duration::from_millis(rand::random_range(0..=most));
        tokio::spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            send.await;
        });
    }
}

async fn streams(listener: TcpListener, node: SocketAddr, directions: Directions) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        let directions = directions.clone();
        connections.spawn(async move {
            directions.there.open().await;
            let Ok(behind) = TcpStream::connect(node).await else { return };
            let (from_caller, to_caller) = caller.into_split();
            let (from_node, to_node) = behind.into_split();
            // The connection ends with either direction.
            tokio::select! {
                () = bytes(from_caller, to_node, &directions.there) => {}
                () = bytes(from_node, to_caller, &directions.back) => {}
            }
        });
    }
}

async fn bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: &Direction) {
    let mut buffer = vec![0; 16_384];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        direction.open().await;
        if to.write_all(&buffer[..size]).await.is_err() {
            return;
        }
    }
    direction.open().await;
}
