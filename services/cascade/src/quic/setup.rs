//! Sets up the connections of a link: dials or accepts them, checks the proven identity and binds them
//! to the link.

use super::bind::{self, BindRequest};
use super::command::LinkSetup;
use super::connection::LinkConnection;
use super::flow_table::FlowTable;
use super::link_media::LinkMedia;
use super::pending_links::{ArrivedConnection, PendingLink};
use super::state::QuicState;
use super::{maintain, receive};
use crate::authenticator::{Authenticator, IdentityRefused};
use crate::event::DownReason;
use crate::stats::LinkStats;
use quinn::{Connection, Incoming, VarInt};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use systir_identity::HandshakeRole;
use tracing::debug;

/// All connections of a link must be up within this time.
const SETUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Accepted connections that have not named their link, from which on a new one must prove its address first.
const RETRY_FROM: usize = 4;

/// Waits for the peer's connections.
pub(super) fn expect(state: &Rc<QuicState>, setup: LinkSetup) {
    let id = setup.id;
    let pending = Rc::new(PendingLink {
        number: setup.number,
        peer: setup.peer.clone(),
        connections: setup.connections,
        setup: RefCell::new(Some(setup)),
        arrived: RefCell::default(),
    });
    let number = pending.number;
    state.pending.expect(id, pending);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(SETUP_TIMEOUT).await;
        let mut expected = state.pending.expected.borrow_mut();
        if expected.get(&id).is_some_and(|pending| pending.number == number)
            && let Some(pending) = expected.remove(&id)
            && let Some(setup) = pending.setup.borrow_mut().take()
        {
            let _ = setup.ready.send(Err("the peer's QUIC connections did not arrive within 3 s".to_owned()));
        }
    });
}

/// Accepts a connection; the peer must name its link. While some have not, a new one gets a Retry packet
/// (RFC 9000 section 8.1.2), so that packets with forged source addresses take no places.
pub(super) fn accept(state: &Rc<QuicState>, incoming: Incoming) {
    let from = incoming.remote_address();
    let places = &state.pending.unbound;
    if !incoming.remote_address_validated() && places.taken() >= RETRY_FROM {
        if let Err(error) = incoming.retry() {
            error.into_incoming().ignore();
        }
        return;
    }
    let Some(place) = places.try_acquire(from.ip(), Instant::now()) else {
        state.config.authenticator.refuse_place(from, "QUIC");
        return incoming.refuse();
    };
    let state = state.clone();
    tokio::task::spawn_local(async move {
        let outcome = tokio::time::timeout(SETUP_TIMEOUT, admit(&state, incoming)).await;
        drop(place);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(%from, reason, "a QUIC connection was refused"),
            Err(_) => debug!(%from, "a QUIC connection did not name its link within 3 s"),
        }
    });
}

async fn admit(state: &Rc<QuicState>, incoming: Incoming) -> Result<(), String> {
    let authenticator = &state.config.authenticator;
    let from = incoming.remote_address();
    let own = authenticator.credentials.not_after();
    let connecting = incoming.accept().map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let refused = |refused: IdentityRefused| {
        authenticator.report(from, "QUIC", &refused);
        connection.close(VarInt::from_u32(1), b"the node key is not proven");
        refused.to_string()
    };
    let handshake = bind::handshake(authenticator, HandshakeRole::Listener, &connection).map_err(refused)?;
    // At once: connections that have not named their link have few places.
    authenticator.check_known(handshake.peer()).map_err(refused)?;
    let (request, proof, answer) = bind::receive(&connection).await?;
    let peer = authenticator.verify(&handshake, &proof).map_err(refused)?;
    let pending = state.pending.expected.borrow().get(&request.link).cloned();
    let pending = pending
        .filter(|pending| pending.peer.is_same_node(&peer) && pending.connections == request.connections);
    let Some(pending) = pending else {
        connection.close(VarInt::from_u32(1), b"no such link");
        return Err(format!("{peer} named a link that its session did not announce"));
    };
    {
        let mut arrived = pending.arrived.borrow_mut();
        if arrived.iter().any(|other| other.index == request.index) {
            connection.close(VarInt::from_u32(1), b"a connection with this index is bound already");
            return Err(format!("{peer} bound two connections with one index"));
        }
        let until = Authenticator::until(own, &peer);
        let answer = (answer, authenticator.prove(&handshake));
        arrived.push(ArrivedConnection { index: request.index, connection, answer, until });
        if arrived.len() < usize::from(pending.connections) {
            return Ok(());
        }
    }
    state.pending.expected.borrow_mut().remove(&request.link);
    let Some(setup) = pending.setup.borrow_mut().take() else { return Ok(()) };
    let mut arrived = pending.arrived.take();
    arrived.sort_by_key(|arrived| arrived.index);
    let mut connections = Vec::new();
    for ArrivedConnection { connection, answer: (stream, proof), until, .. } in arrived {
        bind::confirm(stream, &proof).await?;
        connections.push((connection, until));
    }
    start(state, setup, connections);
    Ok(())
}

/// Connects to the peer.
pub(super) fn dial(state: &Rc<QuicState>, setup: LinkSetup, address: SocketAddr) {
    let number = setup.number;
    let task = tokio::task::spawn_local(run_dial(state.clone(), setup, address));
    state.pending.dials.borrow_mut().insert(number, task.abort_handle());
}

async fn run_dial(state: Rc<QuicState>, setup: LinkSetup, address: SocketAddr) {
    let outcome = tokio::time::timeout(SETUP_TIMEOUT, connect(&state, &setup, address)).await;
    state.pending.dials.borrow_mut().remove(&setup.number);
    match outcome {
        Ok(Ok(connections)) => start(&state, setup, connections),
        Ok(Err(reason)) => drop(setup.ready.send(Err(reason))),
        Err(_) => drop(setup.ready.send(Err("QUIC did not connect within 3 s".to_owned()))),
    }
}

async fn connect(
    state: &QuicState,
    setup: &LinkSetup,
    address: SocketAddr,
) -> Result<Vec<(Connection, SystemTime)>, String> {
    let authenticator = &state.config.authenticator;
    authenticator.check_dial(setup.peer.id(), address).map_err(|refused| refused.to_string())?;
    let config = state.config.client(setup.peer.id())?;
    let dials = (0..setup.connections).map(|index| {
        let config = config.clone();
        async move {
            let own = authenticator.credentials.not_after();
            let connecting = state
                .endpoint
                .connect_with(config, address, crate::SERVER_NAME)
                .map_err(|error| error.to_string())?;
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let handshake = bind::handshake(authenticator, HandshakeRole::Dialler, &connection)
                .map_err(|refused| refused.to_string())?;
            let request = BindRequest { link: setup.id, index, connections: setup.connections };
            let proof = bind::request(&connection, request, &authenticator.prove(&handshake)).await?;
            let peer = authenticator.verify(&handshake, &proof).map_err(|refused| refused.to_string())?;
            if !peer.is_same_node(&setup.peer) {
                return Err(format!("{peer} answered for {}", setup.peer));
            }
            Ok((connection, Authenticator::until(own, &peer)))
        }
    });
    futures::future::try_join_all(dials).await
}

/// All connections are up: starts their tasks.
fn start(state: &Rc<QuicState>, setup: LinkSetup, connections: Vec<(Connection, SystemTime)>) {
    // A link has at least one connection.
    let until = connections.iter().map(|(_, until)| *until).min().unwrap_or(SystemTime::UNIX_EPOCH);
    let now = Instant::now();
    let ceiling = state.config.connection_ceiling();
    let capacity = state.config.send_buffer();
    let stats: Rc<RefCell<LinkStats>> = Rc::default();
    let connections: Vec<_> = connections
        .into_iter()
        .map(|(connection, _)| {
            Rc::new(LinkConnection::new(connection, ceiling, capacity, stats.clone(), now))
        })
        .collect();
    let LinkSetup { number, parity, flows, stats: published, ready, data_messages, down, .. } = setup;
    let workers = state.workers.clone();
    let media = LinkMedia::new(
        number,
        FlowTable::new(parity, flows),
        connections.clone(),
        workers,
        stats,
        published,
        data_messages,
        down,
    );
    let media = Rc::new(media);
    if ready.send(Ok(until)).is_err() {
        // The session has ended meanwhile.
        return media.end(DownReason::Idle);
    }
    state.links.borrow_mut().insert(number, media.clone());
    for connection in connections {
        tokio::task::spawn_local(receive::run(connection.clone(), media.clone()));
        tokio::task::spawn_local(maintain::run(connection, media.clone()));
    }
}
