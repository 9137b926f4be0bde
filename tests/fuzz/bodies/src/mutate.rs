//! Deterministic mutations, for runs without a fuzzer.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The longest input, in bytes.
const MAX_LEN: usize = 8_192;
/// Values that often expose faults in parsers.
const EDGES: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, b':', b' ', b'"'];

/// Creates inputs from seeds.
#[derive(Debug)]
pub struct Mutator {
    random: StdRng,
}

impl Mutator {
    /// The same seed creates the same inputs.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed) }
    }

    /// A mutation of one of these seeds, or random bytes.
    pub fn make(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if seeds.is_empty() || self.random.random_ratio(1, 16) {
            let length = self.random.random_range(0..256);
            return (0..length).map(|_| self.random.random()).collect();
        }
        let mut input = self.pick(seeds).to_vec();
        for _ in 0..self.random.random_range(1..=6) {
            self.change(&mut input, seeds);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn pick<'a>(&mut self, seeds: &'a [Vec<u8>]) -> &'a [u8] {
        let index = self.random.random_range(0..seeds.len().max(1));
        seeds.get(index).map(Vec::as_slice).unwrap_or_default()
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.random_range(0..=input.len())
    }

    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(input);
        let length = self.random.random_range(0..=(input.len() - start).min(64));
        start..start + length
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.place(input);
        match self.random.random_range(0..8) {
            0 => {
                let bit = 1 << self.random.random_range(0..8);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            1 => {
                let value = self.random.random();
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
            }
            2 => {
                let edge = self.random.random_range(0..EDGES.len());
                let edge = EDGES.get(edge).copied().unwrap_or_default();
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = edge);
            }
            3 => input.truncate(at),
            4 => {
                input.drain(self.range(input));
            }
            5 => {
                let copied = input.get(self.range(input)).unwrap_or_default().to_vec();
                input.splice(at..at, copied);
            }
            6 => {
                let count = self.random.random_range(1..=8);
                let new: Vec<u8> = (0..count).map(|_| self.random.random()).collect();
                input.splice(at..at, new);
            }
            _ => {
                let other = self.pick(seeds).to_vec();
                let piece = other.get(self.range(&other)).unwrap_or_default().to_vec();
                input.splice(at..at, piece);
            }
        }
    }
}
