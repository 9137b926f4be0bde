//! Datagrams that arrived before the peer's description. They are handled once it is set.

use std::{collections::VecDeque, net::SocketAddr};

const MAX_DATAGRAMS: usize = 16;
const MAX_BYTES: usize = 16 * 1024;

/// One datagram.
pub(crate) struct EarlyDatagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

/// A queue of at most 16 datagrams and 16 KiB; the oldest are dropped.
#[derive(Default)]
pub(crate) struct EarlyDatagrams {
    datagrams: VecDeque<EarlyDatagram>,
    bytes: usize,
}

impl EarlyDatagrams {
    /// Keeps a copy, and drops the oldest datagrams over the limits.
    pub(crate) fn push(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if datagram.len() > MAX_BYTES {
            return;
        }
        self.bytes += datagram.len();
        self.datagrams.push_back(EarlyDatagram { from, to, datagram: datagram.to_vec() });
        while self.datagrams.len() > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.datagrams.pop_front() else { break };
            self.bytes -= oldest.datagram.len();
        }
    }

    /// Whether a datagram from this address is queued.
    pub(crate) fn contains(&self, from: SocketAddr) -> bool {
        self.datagrams.iter().any(|queued| queued.from == from)
    }

    /// Takes all datagrams, oldest first.
    pub(crate) fn take(&mut self) -> VecDeque<EarlyDatagram> {
        self.bytes = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_datagrams_are_kept_within_both_limits() {
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut early = EarlyDatagrams::default();
        for n in 0..40_u8 {
            early.push(addr, addr, &[n; 1000]);
        }
        let kept = early.take();
        assert_eq!(kept.len(), 16);
        assert_eq!(kept.back().unwrap().datagram[0], 39);
        early.push(addr, addr, &[0; 9000]);
        early.push(addr, addr, &[1; 9000]);
        early.push(addr, addr, &[2; 20_000]);
        let kept = early.take();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].datagram[0], 1);
    }
}
