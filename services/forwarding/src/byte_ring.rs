//! The bytes of packets, one packet after the other in one allocation. The newest overwrite the oldest.

/// A ring of bytes. A *position* counts all bytes that were ever written; a packet is known by the position of its first.
#[derive(Debug, Default)]
pub(crate) struct ByteRing {
    bytes: Vec<u8>,
    /// Where the next packet begins, unless it would cross the end of the memory.
    end: u64,
}

impl ByteRing {
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Where a packet of this length would begin: packets lie in one piece.
    fn next(&self, len: usize) -> u64 {
        let capacity = self.bytes.len() as u64;
        let offset = self.end.checked_rem(capacity).unwrap_or(0);
        if offset + len as u64 > capacity { self.end + capacity - offset } else { self.end }
    }

    /// Is what was written there complete?
    pub(crate) fn holds(&self, position: u64) -> bool {
        self.end <= position + self.bytes.len() as u64
    }

    /// Is it still complete after a packet of this length is written?
    pub(crate) fn will_hold(&self, position: u64, len: usize) -> bool {
        self.next(len) + len as u64 <= position + self.bytes.len() as u64
    }

    /// Writes a packet, given in parts that are together no longer than the capacity, and returns its position.
    pub(crate) fn push(&mut self, parts: [&[u8]; 3]) -> u64 {
        let len = parts.iter().map(|part| part.len()).sum();
        let position = self.next(len);
        let mut at = self.offset(position);
        for part in parts {
            if let Some(place) = self.bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len();
        }
        self.end = position + len as u64;
        position
    }

    /// The bytes of a packet; none if they were overwritten.
    pub(crate) fn get(&self, position: u64, len: usize) -> Option<&[u8]> {
        let at = self.offset(position);
        self.bytes.get(at..at + len).filter(|_| self.holds(position))
    }

    /// Enlarges the memory to a multiple of what it was, by a power of two. All packets keep their positions.
    pub(crate) fn grow(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.bytes, vec![0; capacity]);
        // The newest bytes lie before this offset, those of the lap before behind it.
        let split = self.end.checked_rem(old.len() as u64).unwrap_or(0);
        let lap = self.end - split;
        let (newest, before) = old.split_at_checked(split as usize).unwrap_or_default();
        let first = lap.saturating_sub(old.len() as u64) + split;
        for (position, bytes) in [(lap, newest), (first, before)] {
            let at = self.offset(position);
            if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
    }

    fn offset(&self, position: u64) -> usize {
        position.checked_rem(self.bytes.len() as u64).unwrap_or(0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stay_until_newer_ones_need_their_place_also_when_the_ring_grows() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut ring = ByteRing::default();
            ring.grow(64);
            let mut packets: Vec<(u64, Vec<u8>)> = Vec::new();
            for number in 0..300u64 {
                let bytes = vec![number as u8; random.usize(0..=40)];
                if number < 100 && random.usize(0..40) == 0 && ring.capacity() < 1024 {
                    ring.grow(ring.capacity() * 2);
                }
                let kept: Vec<_> =
                    packets.iter().filter(|(position, _)| ring.will_hold(*position, bytes.len())).collect();
                let (first, rest) = bytes.split_at(bytes.len() / 3);
                let mut after = ByteRing { bytes: ring.bytes.clone(), end: ring.end };
                let position = after.push([first, &[], rest]);
                for (position, bytes) in kept {
                    assert_eq!(after.get(*position, bytes.len()), Some(bytes.as_slice()));
                }
                packets.push((position, bytes));
                packets.retain(|(position, bytes)| {
                    let found = after.get(*position, bytes.len());
                    assert!(found.is_none_or(|found| found == bytes), "packet {number}");
                    found.is_some()
                });
                // Not much less than fits.
                let together: usize = packets.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(number < 250 || together + 2 * 40 >= after.capacity(), "{together}");
                ring = after;
            }
        }
    }
}
