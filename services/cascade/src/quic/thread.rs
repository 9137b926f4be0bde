//! The QUIC thread: executes commands, accepts connections and forwards the workers' packets.

use super::command::QuicCommand;
use super::config::QuicConfig;
use super::forward::{ARENA, forward_batches};
use super::handle::{LostPackets, QuicHandle};
use super::pending_links::PendingLinks;
use super::setup;
use super::state::QuicState;
use super::worker_port::WorkerPort;
use super::worker_rings::WorkerRings;
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

/// Participants' lossy data messages queued for the thread; more are dropped.
const DATA_MESSAGE_QUEUE: usize = 1024;

/// Starts the thread. It ends on `Shutdown`, or when the handle is dropped.
pub(crate) fn spawn(
    config: QuicConfig,
    socket: UdpSocket,
    notifier: ThreadNotifier,
    workers: Vec<WorkerPort>,
) -> Result<(QuicHandle, std::thread::JoinHandle<()>), String> {
    set_buffer_sizes(&socket, config.socket_buffer);
    let server = config.server()?;
    let (commands, command_queue) = mpsc::channel(4096);
    let (messages, data_messages) = mpsc::channel(DATA_MESSAGE_QUEUE);
    let lost = Arc::new(LostPackets::default());
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
                let queues = QuicQueues { commands: command_queue, data_messages };
                run(config, endpoint, notifier, workers, queues, &lost).await;
            });
        })
        .map_err(|error| error.to_string())?;
    outcome.recv().map_err(|error| error.to_string())??;
    Ok((handle, thread))
}

/// Requests socket buffers of `size` bytes, and warns when the kernel grants less.
fn set_buffer_sizes(socket: &UdpSocket, size: usize) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(size);
    let _ = socket.set_send_buffer_size(size);
    // Linux reports twice the granted size (socket(7), SO_RCVBUF).
    let granted = socket.recv_buffer_size().unwrap_or_default() / 2;
    if granted < size {
        // A limit of the host: one warning per process is enough.
        static WARNED: Once = Once::new();
        WARNED.call_once(|| {
            warn!(
                granted,
                wanted = size,
                "the kernel limits the socket buffer of links, bursts may lose packets; as root: sysctl -w net.core.rmem_max={size} net.core.wmem_max={size}"
            );
        });
    }
}

/// The receiving ends of [`QuicHandle`].
struct QuicQueues {
    commands: mpsc::Receiver<QuicCommand>,
    data_messages: mpsc::Receiver<(LinkNumber, Bytes)>,
}

async fn run(
    config: QuicConfig,
    endpoint: Endpoint,
    notifier: ThreadNotifier,
    workers: Vec<WorkerPort>,
    mut queues: QuicQueues,
    lost: &LostPackets,
) {
    let pending = PendingLinks::new(config.authenticator.listed.clone());
    let state = Rc::new(QuicState {
        config,
        endpoint,
        workers: Rc::new(WorkerRings::new(workers)),
        links: RefCell::default(),
        pending,
    });
    let mut arena = BytesMut::with_capacity(ARENA);
    loop {
        tokio::select! {
            command = queues.commands.recv() => match command {
                Some(QuicCommand::Shutdown) | None => break,
                Some(command) => execute(&state, command),
            },
            incoming = state.endpoint.accept() => match incoming {
                Some(incoming) => setup::accept(&state, incoming),
                None => break,
            },
            Some((number, frame)) = queues.data_messages.recv() => {
                let media = state.links.borrow().get(&number).cloned();
                if let Some(media) = media {
                    media.send_data_message(Instant::now(), frame);
                }
            }
            () = notifier.notified() => {
                let unknown = forward_batches(&state, &notifier, &mut arena);
                lost.unknown_link.fetch_add(unknown, Ordering::Relaxed);
                lost.to_workers.store(state.workers.lost(), Ordering::Relaxed);
            }
        }
    }
    for media in state.links.take().into_values() {
        media.end(DownReason::Shutdown);
    }
    state.endpoint.close(VarInt::from_u32(0), b"this node is stopping");
    let _ = tokio::time::timeout(Duration::from_millis(500), state.endpoint.wait_idle()).await;
}

fn execute(state: &Rc<QuicState>, command: QuicCommand) {
    match command {
        QuicCommand::Expect(setup) => setup::expect(state, setup),
        QuicCommand::Connect(setup, address) => setup::dial(state, setup, address),
        QuicCommand::Close(number) => {
            state.pending.remove(number);
            let media = state.links.borrow_mut().remove(&number);
            if let Some(media) = media {
                media.end(DownReason::Idle);
            }
        }
        QuicCommand::Shutdown => {}
    }
}
