//! ICE parameters for clients: candidates, and credentials that identify node and worker, so that the first
//! packet of a connection can be routed.

use std::net::SocketAddr;

use rand::{Rng, RngExt as _};
use systir_transport::IceCredentials;

/// Transport protocol of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateProtocol {
    /// UDP.
    Udp,
    /// ICE-TCP, passive (RFC 6544): the client connects.
    Tcp,
}

/// An ICE candidate of the media node: an address that clients can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IceCandidate {
    /// Address and port.
    pub address: SocketAddr,
    /// UDP or passive TCP.
    pub protocol: CandidateProtocol,
}

const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

fn letters(random: &mut impl Rng, count: usize) -> String {
    (0..count).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// Makes ICE credentials (RFC 8445 section 5.3). The username fragment is the version `1`, the tag of the
/// node and the worker's index in hexadecimal, and random letters.
#[must_use]
pub fn credentials(random: &mut impl Rng, node: &str, worker: u8) -> IceCredentials {
    IceCredentials {
        ufrag: format!("1{:04x}{worker:02x}{}", tag(node), letters(random, 10)),
        pwd: letters(random, 26),
    }
}

/// The worker's index in an ICE username fragment of this node; none for any other fragment.
#[must_use]
pub fn worker_index(ufrag: &str, node: &str) -> Option<usize> {
    let rest = ufrag.strip_prefix(&format!("1{:04x}", tag(node)))?;
    usize::from_str_radix(rest.get(..2)?, 16).ok()
}

/// Sixteen bits of the hash of a node's name (FNV-1a): enough to detect a client that reached the wrong node.
fn tag(node: &str) -> u32 {
    let hash =
        node.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_fragment_identifies_its_worker_only_on_its_own_node() {
        let ufrag = credentials(&mut rand::rng(), "cph-1", 11).ufrag;
        assert_eq!(worker_index(&ufrag, "cph-1"), Some(11));
        assert_eq!(worker_index(&ufrag, "sto-1"), None);
        for foreign in ["", "1", "2abcd0b", "1é", "\u{1F600}\u{1F600}"] {
            assert_eq!(worker_index(foreign, "cph-1"), None);
        }
    }
}
