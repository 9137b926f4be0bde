//! Sids: LiveKit's clients tell participants, tracks and rooms apart by the prefix.

use rand::{Rng, RngExt as _};

const ALPHABET: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const RANDOM: usize = 12;

/// Prefix (`PA_`, `TR_`, `RM_`) + random: 12 characters of 57 (70 bits), so nodes need not agree.
pub fn mint_sid(prefix: &str, rng: &mut impl Rng) -> String {
    let mut sid = prefix.to_owned();
    for _ in 0..RANDOM {
        let at = rng.random_range(0..ALPHABET.len());
        sid.push(ALPHABET.get(at).copied().map_or('x', char::from));
    }
    sid
}
