//! Media over TCP: the node's listener, a worker, and clients whose network lets no UDP out.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use systir_media_control::{Command, ParticipantKey, Side};
use systir_worker::tcp::{Gate, serve};

use crate::bench::Bench;
use crate::client::{PATIENCE, run_until};
use crate::{ALICE, BOB, connect, film_until};

/// The listener of a node with one worker; it ends with the runtime.
fn listen(bench: &Bench) -> (tokio::runtime::Runtime, SocketAddr, Gate) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (gate, streams) = (Gate::default(), bench.worker.streams.clone());
    runtime.spawn(serve(listener, gate.clone(), move |ufrag| {
        ufrag.starts_with("s1n1w0").then(|| streams.clone())
    }));
    (runtime, address, gate)
}

#[test]
fn voice_and_camera_reach_a_subscriber_over_tcp_from_a_publisher_over_udp() {
    let mut bench = Bench::new();
    let (_runtime, address, gate) = listen(&bench);
    let (mut alice, _) = bench.join(ALICE);
    let mut bob = bench.join_over_tcp(BOB, address);
    bench.publish(ALICE, &mut alice);
    bench.subscribe(BOB, &mut bob);
    connect(&mut bench, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    film_until(&mut [&mut alice, &mut bob], "voice and camera over TCP", |clients| {
        clients[1].packets(5000).len() >= 20 && clients[1].packets(6000).len() >= 100
    });
    for pair in bob.packets(6000).windows(2) {
        assert_eq!(*pair[1].seq_no, *pair[0].seq_no + 1, "TCP loses nothing while it is read");
    }
    bench.wait_counts("the stream", |counts| counts.streams == 1);
    bench.tell(Command::Leave { participant: ParticipantKey(BOB) });
    run_until(&mut [&mut bob], "a goodbye", |clients| clients[0].is_closed());
    bench.wait_counts("the stream's end", |counts| counts.streams == 0);
    assert_eq!(gate.counts().accepted, 1);
    assert_eq!(bench.counts().streams_dropped, 0);
}

/// Waits until the server has closed it.
#[track_caller]
fn wait_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("a stranger hears {other:?}"),
    }
}

#[test]
fn strangers_are_let_go_and_leave_nothing() {
    let bench = Bench::new();
    let (_runtime, address, gate) = listen(&bench);
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    // A browser, a frame too long to wait for, a check for another node, one for nobody here.
    let named = |username: &str| {
        let check = crate::binding_request(username);
        [&(check.len() as u16).to_be_bytes()[..], &check].concat()
    };
    let talkers = [
        say(b"GET / HTTP/1.1\r\n\r\n"),
        say(&[0xff, 0xff]),
        say(&named("other:x")),
        say(&named("s1n1w0p99:x")),
    ];
    let silent = say(&[]);
    talkers.into_iter().for_each(wait_closed);
    wait_closed(silent);
    bench.wait_counts("no streams", |counts| counts.streams == 0 && counts.streams_dropped == 1);
    // It is closed a moment before it is counted.
    run_until(&mut [], "four who named nobody of this node", |_| gate.counts().strangers == 4);
    assert_eq!(gate.counts().accepted, 5);
}

#[test]
fn a_check_with_the_wrong_password_proves_nothing_and_carries_nothing() {
    let mut bench = Bench::new();
    let (_runtime, address, _gate) = listen(&bench);
    let (mut alice, _) = bench.join(ALICE);
    bench.publish(ALICE, &mut alice);
    connect(&mut bench, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
    let mut thief = TcpStream::connect(address).unwrap();
    let check = crate::binding_request("s1n1w0p1:x");
    let rtp = [&[0x80, 111, 0, 1], &[0; 40][..]].concat();
    for packet in [&check, &rtp] {
        thief.write_all(&(packet.len() as u16).to_be_bytes()).unwrap();
        thief.write_all(packet).unwrap();
    }
    bench.wait_counts("the packet is junk", |counts| counts.junk == 1 && counts.streams == 1);
    assert_eq!(bench.counts().media_in, 0);
    // Its owner's path is untouched.
    let mut sent = crate::Camera::default();
    run_until(&mut [&mut alice], "media over UDP", |clients| {
        sent.step(clients[0]);
        bench.counts().media_in > 50
    });
}
