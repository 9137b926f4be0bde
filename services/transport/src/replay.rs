//! The replay list (RFC 3711 section 3.3.2) as a sliding window, and the packet index of a 16-bit
//! sequence number (section 3.3.1).

const WORDS: usize = 16;

/// Size of the window, in packets: how late a packet may be.
pub(crate) const WINDOW: u64 = WORDS as u64 * 64;

/// Which indices were seen: a ring of bits up to the highest index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    highest: Option<u64>,
    bits: [u64; WORDS],
}

impl Window {
    /// A window in which all indices up to `highest` count as seen.
    pub(crate) fn seen_up_to(highest: u64) -> Self {
        Self { highest: Some(highest), bits: [u64::MAX; WORDS] }
    }

    /// The highest index seen.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Whether the index is within the window and was not seen.
    pub(crate) fn is_fresh(&self, index: u64) -> bool {
        match self.highest {
            None => true,
            Some(highest) if index > highest => true,
            Some(highest) => highest - index < WINDOW && !self.bit(index),
        }
    }

    /// Marks an index as seen. To be called only for an authenticated packet.
    pub(crate) fn mark(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) => {
                if index - highest >= WINDOW {
                    self.bits = [0; WORDS];
                } else {
                    (highest + 1..index).for_each(|between| self.clear(between));
                }
                self.highest = Some(index);
            }
            None => self.highest = Some(index),
        }
        if let Some(word) = self.bits.get_mut(Self::word(index)) {
            *word |= 1 << (index % 64);
        }
    }

    fn word(index: u64) -> usize {
        ((index / 64) % WORDS as u64) as usize
    }

    fn bit(&self, index: u64) -> bool {
        self.bits.get(Self::word(index)).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn clear(&mut self, index: u64) {
        if let Some(word) = self.bits.get_mut(Self::word(index)) {
            *word &= !(1 << (index % 64));
        }
    }
}

/// The index that is nearest to the highest one; none when it would be negative or exceed 48 bits.
pub(crate) fn index(highest: Option<u64>, seq: u16) -> Option<u64> {
    let Some(highest) = highest else { return Some(u64::from(seq)) };
    let step = seq.wrapping_sub(highest as u16) as i16;
    highest.checked_add_signed(i64::from(step)).filter(|index| *index < 1 << 48)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rollover_counter_follows_the_sequence_number() {
        assert_eq!(index(None, 65_530), Some(65_530));
        assert_eq!(index(Some(65_535), 0), Some(65_536));
        assert_eq!(index(Some(65_536), 65_535), Some(65_535));
        assert_eq!(index(Some(3), 65_535), None);
        assert_eq!(index(Some((1 << 48) - 1), 0), None);
    }

    proptest! {
        #[test]
        fn window_agrees_with_a_set(indices in proptest::collection::vec(0_u64..6000, 1..600)) {
            let (mut window, mut seen, mut highest) = (Window::default(), HashSet::new(), None::<u64>);
            for at in indices {
                let fresh = highest.is_none_or(|h| at > h || (h - at < WINDOW && !seen.contains(&at)));
                prop_assert_eq!(window.is_fresh(at), fresh);
                if fresh {
                    window.mark(at);
                    seen.insert(at);
                    highest = highest.max(Some(at));
                }
            }
        }
    }
}
