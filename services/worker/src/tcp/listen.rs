//! Accepts connections, reads the first frame of each, and passes it to the worker of the ICE fragment in it.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::TcpArrival;
use super::connection_limiter::{ConnectionLimiter, Unidentified};
use super::framing::Frames;
use crate::binding_request_ufrag;

/// The first frame must arrive within this time.
const FIRST_CHECK: Duration = Duration::from_secs(5);
/// Pause after accepting failed, mostly because there are no free file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Kernel send buffer of a stream, in bytes. A small one limits how much outdated video is queued there;
/// the worker's own buffer is bounded too.
const SEND_BUFFER: usize = 128 << 10;

/// Accepts connections until the future is dropped. `owner` returns the worker of an ICE fragment.
pub async fn serve(
    listener: TcpListener,
    limiter: ConnectionLimiter,
    owner: impl Fn(&str) -> Option<mpsc::Sender<TcpArrival>> + Clone + Send + 'static,
) {
    let mut unidentified = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = unidentified.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "accepting a TCP connection failed");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(waiting) = limiter.add(peer.ip()) else { continue };
        let (limiter, owner) = (limiter.clone(), owner.clone());
        unidentified.spawn(async move {
            let first = timeout(FIRST_CHECK, identify(stream, waiting, owner)).await;
            if !matches!(first, Ok(Some(()))) {
                limiter.count_unidentified();
            }
        });
    }
}

/// Reads the first frame and passes the connection to its worker; none when the frame identifies no
/// worker of this node, or another connection needs the place.
async fn identify(
    stream: TcpStream,
    waiting: Unidentified,
    owner: impl Fn(&str) -> Option<mpsc::Sender<TcpArrival>>,
) -> Option<()> {
    let peer = stream.peer_addr().ok()?;
    let mut frames = Frames::default();
    let worker = loop {
        if let Some(first) = frames.peek().ok()? {
            break owner(binding_request_ufrag(first)?)?;
        }
        tokio::select! {
            () = waiting.ended() => return None,
            readable = stream.readable() => readable.ok()?,
        }
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
    let arrival = TcpArrival::new(stream, peer, frames, waiting.identified()?).ok()?;
    // While the queue of the worker is full, the connection is dropped.
    worker.try_send(arrival).ok()
}
