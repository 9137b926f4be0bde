//! The node's ICE-TCP listeners (RFC 6544), one per address family.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use systir_worker::WorkerHandle;
use systir_worker::tcp::ConnectionLimiter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::RelayConfig;
use crate::port_owner::cannot_listen;

/// Starts the listeners if `media.tcp` is set. Returns the addresses for ICE candidates.
pub(crate) async fn listen<'a>(
    config: &RelayConfig,
    workers: impl Iterator<Item = &'a WorkerHandle>,
    limiter: &ConnectionLimiter,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Vec<SocketAddr>> {
    let Some(listen) = config.media.tcp else { return Ok(Vec::new()) };
    let wanted = crate::listen::per_family(listen, &config.media.advertise)
        .map_err(|ip| anyhow::anyhow!("media.tcp: {ip} cannot be reached at {listen}"))?;
    let first = wanted.first().copied().unwrap_or(listen);
    let listeners =
        crate::listen::tcp(&wanted).map_err(|error| cannot_listen("media.tcp", false, first, &error))?;
    let port = listeners.first().context("no listener")?.local_addr()?.port();
    let streams: Vec<_> = workers.map(|worker| worker.streams.clone()).collect();
    let node = config.node.name.clone();
    let owner =
        move |ufrag: &str| streams.get(systir_media_control::ice::worker_index(ufrag, &node)?).cloned();
    for listener in listeners {
        let serve =
            systir_worker::tcp::serve(TcpListener::from_std(listener)?, limiter.clone(), owner.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
    }
    Ok(match config.media.advertise.as_slice() {
        [] => vec![SocketAddr::new(listen.ip(), port)],
        advertised => advertised.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
    })
}
