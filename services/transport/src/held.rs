//! Packets that overtook the peer's description: kept for a moment, newest first to stay.

use std::{collections::VecDeque, net::SocketAddr};

const MAX_PACKETS: usize = 16;
const MAX_BYTES: usize = 16 * 1024;

/// One held datagram.
pub(crate) struct HeldPacket {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

/// At most 16 datagrams and 16 KiB.
#[derive(Default)]
pub(crate) struct Held {
    packets: VecDeque<HeldPacket>,
    bytes: usize,
}

impl Held {
    /// Keeps a copy; the oldest give way.
    pub(crate) fn push(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if datagram.len() > MAX_BYTES {
            return;
        }
        self.bytes += datagram.len();
        self.packets.push_back(HeldPacket { from, to, datagram: datagram.to_vec() });
        while self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.packets.pop_front() else { break };
            self.bytes -= oldest.datagram.len();
        }
    }

    /// Is a packet of this peer held?
    pub(crate) fn holds(&self, from: SocketAddr) -> bool {
        self.packets.iter().any(|packet| packet.from == from)
    }

    /// All of them, oldest first.
    pub(crate) fn take(&mut self) -> VecDeque<HeldPacket> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_within_both_limits() {
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut held = Held::default();
        for n in 0..40_u8 {
            held.push(addr, addr, &[n; 1000]);
        }
        let kept = held.take();
        assert_eq!(kept.len(), 16);
        assert_eq!(kept.back().unwrap().datagram[0], 39);
        held.push(addr, addr, &[0; 9000]);
        held.push(addr, addr, &[1; 9000]);
        held.push(addr, addr, &[2; 20_000]);
        let kept = held.take();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].datagram[0], 1);
    }
}
