//! Accepts connections, reads what they are about, and hands each to the worker that owns it.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::framing::Frames;
use super::gate::Gate;
use super::{Pass, TcpArrival};
use crate::binding_request_ufrag;

/// A connection names its ICE fragment within this time.
const FIRST_CHECK: Duration = Duration::from_secs(5);
/// Pause after an attempt to accept failed, for the most part for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Kernel buffer of a stream that sends. A small one keeps old pictures from piling up there; the
/// worker's own buffer is bounded too.
const SEND_BUFFER: usize = 128 << 10;

/// Accepts until it is dropped. `owner` names the worker of an ICE fragment.
pub async fn serve(
    listener: TcpListener,
    gate: Gate,
    owner: impl Fn(&str) -> Option<mpsc::Sender<TcpArrival>> + Clone + Send + 'static,
) {
    let mut arriving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = arriving.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(pass) = gate.admit(peer.ip()) else { continue };
        let (gate, owner) = (gate.clone(), owner.clone());
        arriving.spawn(async move {
            let first = timeout(FIRST_CHECK, arrive(stream, pass, owner)).await;
            if !matches!(first, Ok(Some(()))) {
                gate.stranger();
            }
        });
    }
}

/// Reads the first frame and finds the worker; none when it is not for us.
async fn arrive(
    stream: TcpStream,
    pass: Pass,
    owner: impl Fn(&str) -> Option<mpsc::Sender<TcpArrival>>,
) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    let mut frames = Frames::default();
    let worker = loop {
        if let Some(first) = frames.peek().ok()? {
            break owner(binding_request_ufrag(first)?)?;
        }
        stream.readable().await.ok()?;
        match stream.try_read_buf(frames.buffer()) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    };
    stream.set_nodelay(true).ok()?;
    // The kernel may grant less.
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let arrival = TcpArrival::new(stream, peer, frames, pass).ok()?;
    // A worker that is that far behind has no use for one more.
    worker.try_send(arrival).ok()
}
