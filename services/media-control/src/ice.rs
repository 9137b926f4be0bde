//! Names that this node makes: rooms (`RM_`), participants (`PA_`) and ICE credentials.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::{Rng, RngExt as _};
use systir_media_control::IceCredentials;

const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

fn letters(random: &mut impl Rng, count: usize) -> String {
    (0..count).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// `RM_` and 12 random letters.
pub(crate) fn room_sid(random: &mut impl Rng) -> String {
    format!("RM_{}", letters(random, 12))
}

/// `PA_` and 14 random letters.
pub(crate) fn participant_sid(random: &mut impl Rng) -> String {
    format!("PA_{}", letters(random, 14))
}

/// ICE credentials (RFC 8445 section 5.3). The fragment says version 1, node and worker, so that a
/// first packet finds its owner.
pub(crate) fn ice_credentials(random: &mut impl Rng, node: &str, worker: u8) -> IceCredentials {
    IceCredentials {
        ufrag: format!("1{:04x}{worker:02x}{}", tag(node), letters(random, 10)),
        pwd: letters(random, 26),
    }
}

/// The worker that an ICE fragment of this node names; none for a stranger's.
pub(crate) fn worker_of(ufrag: &str, node: &str) -> Option<usize> {
    let rest = ufrag.strip_prefix(&format!("1{:04x}", tag(node)))?;
    usize::from_str_radix(rest.get(..2)?, 16).ok()
}

/// Sixteen bits of a node's name (FNV-1a): enough to tell that a client came to the wrong node.
fn tag(node: &str) -> u32 {
    let hash =
        node.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash & 0xffff
}

/// Milliseconds since 1970, for people and for the registry's records; nothing is decided by it.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ice_fragment_names_its_worker_to_its_own_node_only() {
        let ufrag = ice_credentials(&mut rand::rng(), "cph-1", 11).ufrag;
        assert_eq!(worker_of(&ufrag, "cph-1"), Some(11));
        assert_eq!(worker_of(&ufrag, "sto-1"), None);
        for stranger in ["", "1", "2abcd0b", "1é", "\u{1F600}\u{1F600}"] {
            assert_eq!(worker_of(stranger, "cph-1"), None);
        }
    }
}
