//! Media over TCP: the node's listener, a worker, and clients whose network blocks UDP.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use systir_media_control::{ParticipantKey, Side, WorkerCommand};
use systir_worker::tcp::{ConnectionLimiter, serve};

use crate::client::{Client, TIMEOUT, run_until};
use crate::harness::Harness;
use crate::{ALICE, BOB, connect, send_until};

/// The listener of a node with one worker; it stops with the runtime.
pub(crate) fn listen(harness: &Harness) -> (tokio::runtime::Runtime, SocketAddr, ConnectionLimiter) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (limiter, streams) = (ConnectionLimiter::default(), harness.worker.streams.clone());
    runtime.spawn(serve(listener, limiter.clone(), move |ufrag| {
        ufrag.starts_with("s1n1w0").then(|| streams.clone())
    }));
    (runtime, address, limiter)
}

/// Alice publishes over UDP, and voice and camera reach bob over TCP. Returns bob's client, and alice's.
fn meet_over_tcp(harness: &mut Harness, address: SocketAddr) -> (Client, Client) {
    let (mut alice, _) = harness.join(ALICE);
    let mut bob = harness.join_over_tcp(BOB, address);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    connect(harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    send_until(&mut [&mut alice, &mut bob], "voice and camera over TCP", |clients| {
        clients[1].packets(5000).len() >= 20 && clients[1].packets(6000).len() >= 100
    });
    (bob, alice)
}

#[test]
fn voice_and_camera_reach_a_subscriber_over_tcp_from_a_publisher_over_udp() {
    let mut harness = Harness::new();
    let (_runtime, address, limiter) = listen(&harness);
    let (mut bob, _alice) = meet_over_tcp(&mut harness, address);
    for pair in bob.packets(6000).windows(2) {
        assert_eq!(*pair[1].seq_no, *pair[0].seq_no + 1, "nothing is dropped while the client reads");
    }
    harness.wait_counts("the stream", |counts| counts.streams == 1);
    harness.command(WorkerCommand::Leave { participant: ParticipantKey(BOB) });
    run_until(&mut [&mut bob], "close_notify", |clients| clients[0].is_closed());
    harness.wait_counts("the stream's end", |counts| counts.streams == 0);
    assert_eq!(limiter.counts().accepted, 1);
    assert_eq!(harness.counts().streams_dropped, 0);
}

/// Waits until the server has closed it.
#[track_caller]
fn wait_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected a closed stream, got {other:?}"),
    }
}

#[test]
fn unidentified_connections_are_closed() {
    let harness = Harness::new();
    let (_runtime, address, limiter) = listen(&harness);
    let connect_with = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    // HTTP, a frame over the limit, a check for another node, and one for an unknown connection.
    let check_for = |username: &str| {
        let check = crate::binding_request(username);
        [&(check.len() as u16).to_be_bytes()[..], &check].concat()
    };
    let senders = [
        connect_with(b"GET / HTTP/1.1\r\n\r\n"),
        connect_with(&[0xff, 0xff]),
        connect_with(&check_for("other:x")),
        connect_with(&check_for("s1n1w0p99:x")),
    ];
    let silent = connect_with(&[]);
    senders.into_iter().for_each(wait_closed);
    wait_closed(silent);
    harness.wait_counts("no streams", |counts| counts.streams == 0 && counts.streams_dropped == 1);
    // A connection is closed a moment before it is counted.
    run_until(&mut [], "four connections without a check for this node", |_| {
        limiter.counts().unidentified == 4
    });
    assert_eq!(limiter.counts().accepted, 5);
}

#[test]
fn silent_connections_from_many_addresses_keep_no_participant_from_media_over_tcp() {
    let mut harness = Harness::new();
    let (runtime, address, limiter) = listen(&harness);
    // From each of nine addresses as many as one may have, and more.
    let silent: Vec<_> = (0..9 * 80)
        .map(|number| {
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::from(([127, 0, 2, 1 + (number / 80) as u8], 0))).unwrap();
                socket.connect(address).await.unwrap()
            })
        })
        .collect();
    run_until(&mut [], "all have places, or none", |_| {
        let counts = limiter.counts();
        counts.accepted + counts.refused == 9 * 80
    });
    let _both = meet_over_tcp(&mut harness, address);
    assert_eq!(limiter.counts().refused, 0);
    drop(silent);
}

#[test]
fn stream_whose_check_has_no_integrity_carries_no_media() {
    let mut harness = Harness::new();
    let (_runtime, address, _gate) = listen(&harness);
    let (mut alice, _) = harness.join(ALICE);
    harness.publish(ALICE, &mut alice);
    connect(&mut harness, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
    let mut attacker = TcpStream::connect(address).unwrap();
    let check = crate::binding_request("s1n1w0p1:x");
    let rtp = [&[0x80, 111, 0, 1], &[0; 40][..]].concat();
    for packet in [&check, &rtp] {
        attacker.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
        attacker.write_all(packet).unwrap();
    }
    harness
        .wait_counts("the rejected packet", |counts| counts.datagrams_rejected == 1 && counts.streams == 1);
    assert_eq!(harness.counts().media_in, 0);
    // The path of the participant still works.
    let mut sent = crate::Camera::default();
    run_until(&mut [&mut alice], "media over UDP", |clients| {
        sent.step(clients[0]);
        harness.counts().media_in > 50
    });
}
