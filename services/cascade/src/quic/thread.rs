//! The thread of the links: obeys the control half, and drains the workers' rings.

use super::command::Command;
use super::config::QuicConfig;
use super::forward::{ARENA, drain};
use super::handle::{Lost, QuicHandle};
use super::pending_links::Meeting;
use super::router::Router;
use super::setup;
use super::state::State;
use super::worker_port::WorkerPort;
use crate::event::{DownReason, LinkNumber};
use bytes::{Bytes, BytesMut};
use quinn::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use std::cell::RefCell;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use systir_forwarding::ThreadNotifier;
use tokio::sync::mpsc;
use tracing::warn;

/// Messages of people that wait for the thread; more are lost.
const MESSAGES: usize = 1024;

/// Starts the thread. It ends on `Shutdown` or when the handle is gone.
pub(crate) fn spawn(
    config: QuicConfig,
    socket: UdpSocket,
    notifier: ThreadNotifier,
    workers: Vec<WorkerPort>,
) -> Result<(QuicHandle, std::thread::JoinHandle<()>), String> {
    enlarge(&socket, config.socket_buffer);
    let server = config.server()?;
    let (commands, inbox) = mpsc::channel(4096);
    let (messages, from_rooms) = mpsc::channel(MESSAGES);
    let lost = Arc::new(Lost::default());
    let handle = QuicHandle { commands, messages, lost: lost.clone() };
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("links".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error.to_string()))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let endpoint =
                    Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime));
                let endpoint = match endpoint {
                    Ok(endpoint) => endpoint,
                    Err(error) => return drop(started.send(Err(error.to_string()))),
                };
                let _ = started.send(Ok(()));
                let inbox = Inbox { commands: inbox, messages: from_rooms };
                run(config, endpoint, notifier, workers, inbox, &lost).await;
            });
        })
        .map_err(|error| error.to_string())?;
    outcome.recv().map_err(|error| error.to_string())??;
    Ok((handle, thread))
}

/// As large as the system lets us, up to `size`.
fn enlarge(socket: &UdpSocket, size: usize) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(size);
    let _ = socket.set_send_buffer_size(size);
    // Linux tells twice what it grants, for its own needs.
    let granted = socket.recv_buffer_size().unwrap_or_default() / 2;
    if granted < size {
        // The machine's limit, not the node's: once is enough for all nodes of a process.
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            warn!(
                granted,
                wanted = size,
                "links get a small socket buffer and may lose packets in bursts; as root: sysctl -w net.core.rmem_max={size} net.core.wmem_max={size}"
            );
        });
    }
}

/// What the control half says.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    messages: mpsc::Receiver<(LinkNumber, Bytes)>,
}

async fn run(
    config: QuicConfig,
    endpoint: Endpoint,
    notifier: ThreadNotifier,
    workers: Vec<WorkerPort>,
    mut inbox: Inbox,
    lost: &Lost,
) {
    let state = Rc::new(State {
        config,
        endpoint,
        router: Rc::new(Router::new(workers)),
        trunks: RefCell::default(),
        meeting: Meeting::default(),
    });
    let mut arena = BytesMut::with_capacity(ARENA);
    loop {
        tokio::select! {
            command = inbox.commands.recv() => match command {
                Some(Command::Shutdown) | None => break,
                Some(command) => obey(&state, command),
            },
            incoming = state.endpoint.accept() => match incoming {
                Some(incoming) => setup::accept(&state, incoming),
                None => break,
            },
            Some((number, frame)) = inbox.messages.recv() => {
                let trunk = state.trunks.borrow().get(&number).cloned();
                if let Some(trunk) = trunk {
                    trunk.send_message(Instant::now(), frame);
                }
            }
            () = notifier.notified() => {
                let unknown = drain(&state, &notifier, &mut arena);
                lost.unknown_link.fetch_add(unknown, Ordering::Relaxed);
                lost.to_workers.store(state.router.lost(), Ordering::Relaxed);
            }
        }
    }
    for trunk in state.trunks.take().into_values() {
        trunk.end(DownReason::Shutdown);
    }
    state.endpoint.close(VarInt::from_u32(0), b"this node stops");
    let _ = tokio::time::timeout(Duration::from_millis(500), state.endpoint.wait_idle()).await;
}

fn obey(state: &Rc<State>, command: Command) {
    match command {
        Command::Expect(binding) => setup::expect(state, binding),
        Command::Connect(binding, address) => setup::dial(state, binding, address),
        Command::Close(number) => {
            state.meeting.forget(number);
            let trunk = state.trunks.borrow_mut().remove(&number);
            if let Some(trunk) = trunk {
                trunk.end(DownReason::Idle);
            }
        }
        Command::Shutdown => {}
    }
}
