//! The processor time of one plain datagram on this machine, as a reference for the relay's cost per
//! packet: a slow or shared machine raises both.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;

use crate::figure::Figure;
use crate::proc::own_thread_time;

/// The size of a full video packet.
const BYTES: usize = 1_200;
/// Much longer than the clock tick of 10 ms.
const LENGTH: Duration = Duration::from_millis(500);
const BATCH: u32 = 1_000;

/// Measures `send_to` to a socket on loopback that is never read.
pub(crate) fn measure() -> Result<Figure> {
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let (address, datagram) = (to.local_addr()?, [0; BYTES]);
    let begun = own_thread_time()?;
    let mut sent = 0;
    let used = loop {
        for _ in 0..BATCH {
            from.send_to(&datagram, address)?;
        }
        sent += BATCH;
        let used = own_thread_time()?.saturating_sub(begun);
        if used >= LENGTH {
            break used;
        }
    };
    let how = format!("`send_to` in a loop on loopback, {BYTES} bytes, {sent} times, never read");
    Ok(Figure::without_goal("a plain datagram", used.as_secs_f64() * 1e6 / f64::from(sent), "µs", how))
}
