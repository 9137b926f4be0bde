//! Starts the media workers, each with its sockets and its rings to and from the QUIC thread.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use systir_cascade::WorkerPort;
use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::batch_ring;
use systir_transport::Certificate;
use systir_worker::{Ring, Worker, WorkerConfig, WorkerHandle};
use tokio_util::sync::CancellationToken;

use crate::config::RelayConfig;
use crate::listen;
use crate::port_owner::cannot_listen;

/// Ring size between a worker and the QUIC thread, in bytes. One link alone gets a third of it for higher layers, half for base
/// layers and two thirds for audio: 30, 45 and 60 ms at 1 Gbit/s.
const RING_BYTES: usize = 12 << 20;

/// A running worker.
pub(crate) struct StartedWorker {
    pub(crate) handle: WorkerHandle,
    /// The links' end of its rings.
    pub(crate) port: WorkerPort,
    /// Addresses to which clients send its media.
    pub(crate) advertised: Vec<SocketAddr>,
}

/// Starts as many workers as configured; each has a port of its own.
pub(crate) fn start(
    config: &RelayConfig,
    certificate: &Certificate,
    notifier: &ThreadNotifier,
) -> Result<Vec<StartedWorker>> {
    let ports = config.media.ports().context("media.listen: no port is left for a worker")?;
    (0..).zip(ports).map(|(index, port)| start_one(config, index, port, certificate, notifier)).collect()
}

fn start_one(
    config: &RelayConfig,
    index: u8,
    port: u16,
    certificate: &Certificate,
    notifier: &ThreadNotifier,
) -> Result<StartedWorker> {
    let media = &config.media;
    let listen = SocketAddr::new(media.listen.ip(), port);
    let wanted = listen::per_family(listen, &media.advertise)
        .map_err(|ip| anyhow::anyhow!("media.listen: {ip} cannot be reached at {listen}"))?;
    let first = wanted.first().copied().unwrap_or(listen);
    let sockets = listen::udp(&wanted).map_err(|error| cannot_listen("media.listen", true, first, &error))?;
    let port = sockets.first().context("no socket")?.local_addr()?.port();
    let advertised: Vec<SocketAddr> = if media.advertise.is_empty() {
        vec![SocketAddr::new(listen.ip(), port)]
    } else {
        media.advertise.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    };
    let own = ThreadNotifier::new();
    let (to_links, from_worker) = batch_ring(RING_BYTES, notifier.waker());
    let (to_worker, from_links) = batch_ring(RING_BYTES, own.waker());
    let handle = Worker::spawn(WorkerConfig {
        index,
        sockets,
        advertised: advertised.clone(),
        certificate: certificate.clone(),
        notifier: own,
        links: Some(Ring { sender: to_links, receiver: from_links }),
        seed: rand::random(),
        // Not the node's token: `join` ends the worker, after the rooms have ended.
        stop: CancellationToken::new(),
    })
    .context("a media worker did not start")?;
    Ok(StartedWorker { handle, port: WorkerPort { from: from_worker, to: to_worker }, advertised })
}
