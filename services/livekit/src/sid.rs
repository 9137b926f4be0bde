//! Sids of participants, tracks and rooms. LiveKit's clients distinguish them by the prefix.

use rand::{Rng, RngExt as _};

const ALPHABET: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Random characters of a sid.
const RANDOM_LENGTH: usize = 12;

/// A new sid: the prefix (`PA_`, `TR_`, `RM_`) and 12 random characters out of 57 (70 bits), unique without
/// coordination between nodes.
pub fn mint_sid(prefix: &str, rng: &mut impl Rng) -> String {
    let mut sid = prefix.to_owned();
    for _ in 0..RANDOM_LENGTH {
        let index = rng.random_range(0..ALPHABET.len());
        sid.push(ALPHABET.get(index).copied().map_or('x', char::from));
    }
    sid
}
