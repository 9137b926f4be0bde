//! Packets and connections that prove nothing: they take no place of a node, and no node sends them more than it may.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use support::{Node, TIMEOUT, TestCluster, until};
use systir_cascade::LinkEvent;
use systir_identity::alpn;
use systir_reason::Reason;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

const ROOM: &str = "ku.dk/lecture";

/// First packets of QUIC handshakes with this node, by a client that never goes on.
async fn initials(cluster: &TestCluster, node: &Node, count: usize) -> Vec<Vec<u8>> {
    let credentials = cluster.credentials("sto-1");
    let tls = credentials.client_config(&node.id(), alpn::LINK).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut packets = Vec::new();
    for _ in 0..count {
        let catcher = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let connecting =
            endpoint.connect_with(config.clone(), catcher.local_addr().unwrap(), "anyone").unwrap();
        let mut packet = vec![0; 2000];
        let length = tokio::time::timeout(TIMEOUT, catcher.recv(&mut packet)).await.unwrap().unwrap();
        packet.truncate(length);
        packets.push(packet);
        drop(connecting);
    }
    packets
}

/// Makes the link at the first attempt.
async fn link(from: &mut Node, to: &mut Node) {
    from.links.open_room(ROOM, to.address.clone(), 1, 1);
    match from.next().await {
        LinkEvent::Up { peer, .. } => assert_eq!(peer, to.id()),
        other => panic!("{other:?}"),
    }
    to.up(&from.id()).await;
}

/// Bytes that arrived at a socket so far.
fn drain(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 2000];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_with_forged_addresses_keep_no_link_from_being_made() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let packets = initials(&cluster, &b, 200).await;
    let to = b.address.quic;
    let up = Arc::new(AtomicBool::new(false));
    // From the address that directories list for nodes, and from others.
    let from = (0..packets.len()).map(|number| [127, 0, (number % 2) as u8, 1]);
    let sockets: Vec<_> =
        from.map(|address| UdpSocket::bind(SocketAddr::from((address, 0))).unwrap()).collect();
    let send = move |sockets: &[UdpSocket], packets: &[Vec<u8>]| {
        // A few at a time: from a full socket buffer the kernel would drop other packets, the link's own too.
        for (sockets, packets) in sockets.chunks(10).zip(packets.chunks(10)) {
            for (socket, packet) in sockets.iter().zip(packets) {
                let _ = socket.send_to(packet, to);
            }
            std::thread::park_timeout(Duration::from_millis(3));
        }
    };
    // Until the last sender is answered: all places are taken, or it was asked to prove its address. The kernel may drop
    // some packets of a round.
    // The last one at the listed address: of others only some are answered each second.
    let last = sockets.iter().rev().nth(1).unwrap();
    last.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let answered = (0..100).any(|_| {
        send(&sockets, &packets);
        last.peek(&mut [0; 1]).is_ok()
    });
    assert!(answered);
    let flood = {
        let up = up.clone();
        std::thread::spawn(move || {
            // Some thousand packets a second: what keeps a link from being made is places, not the load.
            while !up.load(Ordering::Relaxed) {
                send(&sockets, &packets);
            }
        })
    };
    link(&mut a, &mut b).await;
    up.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_sends_at_most_three_bytes_for_each_of_an_address_that_is_not_proven() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let packets = initials(&cluster, &b, 64).await;
    let sockets: Vec<_> = packets.iter().map(|_| UdpSocket::bind("127.0.1.1:0").unwrap()).collect();
    let mut sent = 0;
    for (socket, packet) in sockets.iter().zip(&packets) {
        sent += socket.send_to(packet, b.address.quic).unwrap();
    }
    for socket in &sockets {
        // Each is answered, with the handshake or with a Retry packet.
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.peek(&mut [0; 1]).unwrap();
    }
    link(&mut a, &mut b).await;
    // When the node has ended, it sends nothing more.
    b.links.shutdown().await;
    let received: Vec<usize> = sockets
        .iter()
        .map(|socket| {
            socket.set_nonblocking(true).unwrap();
            drain(socket)
        })
        .collect();
    for (received, packet) in received.iter().zip(&packets) {
        assert!(*received <= 3 * packet.len(), "{received} bytes for {}", packet.len());
    }
    let all: usize = received.iter().sum();
    println!(
        "{sent} bytes in, {all} out: {:.2}; the most for one: {:?}",
        all as f64 / sent as f64,
        received.iter().max()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_no_node_from_connecting() {
    let cluster = TestCluster::new();
    let (mut a, mut b) = (cluster.node("cph-1").await, cluster.node("sto-1").await);
    let to = b.address.grpc;
    let silent = |number: u8| async move {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 1, 1 + number % 32], 0))).unwrap();
            if let Ok(mut stream) = socket.connect(to).await {
                let _ = stream.read(&mut [0; 1]).await;
            }
            tokio::task::yield_now().await;
        }
    };
    let flood: Vec<_> = (0..=255).map(|number| tokio::spawn(silent(number))).collect();
    until(|| b.links.identity_counts().refused.contains_key(&Reason::TooManyHandshakes)).await;
    link(&mut a, &mut b).await;
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}
