//! How connections come to belong to a link: announced by the control half, dialled or accepted,
//! proved, and named.

use super::bind::{self, Greeting};
use super::command::Binding;
use super::connection::Lane;
use super::link_media::Trunk;
use super::pending_links::Pending;
use super::state::State;
use super::{maintain, receive};
use crate::event::DownReason;
use crate::stats::LinkStats;
use quinn::{Connection, Incoming, VarInt};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::debug;

/// All lanes of a link stand within this time, or none.
const BIND: Duration = Duration::from_secs(3);
/// Connections that have not said whose they are, at most.
const STRANGERS: usize = 64;

/// The peer will connect.
pub(super) fn expect(state: &Rc<State>, binding: Binding) {
    let id = binding.id;
    let pending = Rc::new(Pending {
        number: binding.number,
        peer: binding.peer.clone(),
        lanes: binding.lanes,
        binding: RefCell::new(Some(binding)),
        arrived: RefCell::default(),
    });
    let number = pending.number;
    state.meeting.expected.borrow_mut().insert(id, pending);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(BIND).await;
        let mut expected = state.meeting.expected.borrow_mut();
        if expected.get(&id).is_some_and(|pending| pending.number == number)
            && let Some(pending) = expected.remove(&id)
            && let Some(binding) = pending.binding.borrow_mut().take()
        {
            let _ = binding.ready.send(Err("the peer's QUIC connections did not come within 3 s".to_owned()));
        }
    });
}

/// Somebody connects.
pub(super) fn accept(state: &Rc<State>, incoming: Incoming) {
    if state.meeting.strangers.get() >= STRANGERS {
        return incoming.refuse();
    }
    state.meeting.strangers.set(state.meeting.strangers.get() + 1);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        let from = incoming.remote_address();
        let outcome = tokio::time::timeout(BIND, admit(&state, incoming)).await;
        state.meeting.strangers.set(state.meeting.strangers.get().saturating_sub(1));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => debug!(%from, reason, "a QUIC connection was refused"),
            Err(_) => debug!(%from, "a QUIC connection did not say whose it is within 3 s"),
        }
    });
}

async fn admit(state: &Rc<State>, incoming: Incoming) -> Result<(), String> {
    let connecting = incoming.accept().map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let peer = bind::proven(&connection)?;
    let (greeting, answer) = bind::greeted(&connection).await?;
    let pending = state.meeting.expected.borrow().get(&greeting.id).cloned();
    let pending = pending.filter(|pending| pending.peer == peer && pending.lanes == greeting.lanes);
    let Some(pending) = pending else {
        connection.close(VarInt::from_u32(1), b"no such link");
        return Err(format!("{peer} named a link that it has not announced"));
    };
    {
        let mut arrived = pending.arrived.borrow_mut();
        if arrived.iter().any(|(lane, ..)| *lane == greeting.lane) {
            connection.close(VarInt::from_u32(1), b"this lane is there already");
            return Err(format!("{peer} connected the same lane twice"));
        }
        arrived.push((greeting.lane, connection, answer));
        if arrived.len() < usize::from(pending.lanes) {
            return Ok(());
        }
    }
    state.meeting.expected.borrow_mut().remove(&greeting.id);
    let Some(binding) = pending.binding.borrow_mut().take() else { return Ok(()) };
    let mut arrived = pending.arrived.take();
    arrived.sort_by_key(|(lane, ..)| *lane);
    let mut connections = Vec::new();
    for (_, connection, answer) in arrived {
        bind::welcome(answer).await?;
        connections.push(connection);
    }
    start(state, binding, connections);
    Ok(())
}

/// Connects to the peer.
pub(super) fn dial(state: &Rc<State>, binding: Binding, address: SocketAddr) {
    let number = binding.number;
    let task = tokio::task::spawn_local(dialled(state.clone(), binding, address));
    state.meeting.dials.borrow_mut().insert(number, task.abort_handle());
}

async fn dialled(state: Rc<State>, binding: Binding, address: SocketAddr) {
    let outcome = tokio::time::timeout(BIND, connect(&state, &binding, address)).await;
    state.meeting.dials.borrow_mut().remove(&binding.number);
    match outcome {
        Ok(Ok(connections)) => start(&state, binding, connections),
        Ok(Err(reason)) => drop(binding.ready.send(Err(reason))),
        Err(_) => drop(binding.ready.send(Err("QUIC did not connect within 3 s".to_owned()))),
    }
}

async fn connect(state: &State, binding: &Binding, address: SocketAddr) -> Result<Vec<Connection>, String> {
    let config = state.config.client(&binding.peer)?;
    let lanes = (0..binding.lanes).map(|lane| {
        let config = config.clone();
        async move {
            let connecting = state
                .endpoint
                .connect_with(config, address, crate::SERVER_NAME)
                .map_err(|error| error.to_string())?;
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let peer = bind::proven(&connection)?;
            if peer != binding.peer {
                return Err(format!("{peer} answered for {}", binding.peer));
            }
            let greeting = Greeting { id: binding.id, lane, lanes: binding.lanes };
            bind::greet(&connection, greeting).await?;
            Ok(connection)
        }
    });
    futures::future::try_join_all(lanes).await
}

fn start(state: &Rc<State>, binding: Binding, connections: Vec<Connection>) {
    let now = Instant::now();
    let ceiling = state.config.lane_ceiling();
    let capacity = state.config.send_buffer();
    let stats: Rc<RefCell<LinkStats>> = Rc::default();
    let lanes: Vec<_> = connections
        .into_iter()
        .map(|connection| Rc::new(Lane::new(connection, ceiling, capacity, stats.clone(), now)))
        .collect();
    let Binding { number, parity, stats: published, ready, messages, down, .. } = binding;
    let router = state.router.clone();
    let trunk = Trunk::new(number, parity, lanes.clone(), router, stats, published, messages, down);
    let trunk = Rc::new(trunk);
    if ready.send(Ok(())).is_err() {
        // The control half gave up meanwhile.
        return trunk.end(DownReason::Idle);
    }
    state.trunks.borrow_mut().insert(number, trunk.clone());
    for lane in lanes {
        tokio::task::spawn_local(receive::read(lane.clone(), trunk.clone()));
        tokio::task::spawn_local(maintain::tend(lane, trunk.clone()));
    }
}
