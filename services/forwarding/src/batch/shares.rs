//! Shares of the sources of a ring. What a source may have in the ring depends on what is left free, so a part is always free
//! for others, however many sources flood the ring.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Priority;

/// What the sources have in a ring.
#[derive(Debug)]
pub(super) struct Shares {
    /// The batches in the ring, oldest first: of whom, and what each takes.
    sent: VecDeque<(u32, usize)>,
    by_source: FxHashMap<u32, usize>,
    total: usize,
}

impl Shares {
    /// Of a ring with this many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self { sent: VecDeque::with_capacity(slots), by_source: FxHashMap::default(), total: 0 }
    }

    /// The ring has only this many batches any more: the newest.
    pub(super) fn keep_newest(&mut self, batches: usize) {
        while self.sent.len() > batches
            && let Some((source, taken)) = self.sent.pop_front()
        {
            self.total -= taken;
            if let Some(of_source) = self.by_source.get_mut(&source) {
                *of_source -= taken;
                if *of_source == 0 {
                    self.by_source.remove(&source);
                }
            }
        }
    }

    /// Is there room for so much more of a source? It may have half of what is left free of a ring of `limit`; for base layers
    /// all of it, for audio twice as much.
    pub(super) fn has_room(&self, source: u32, more: usize, limit: usize, lowest: Priority) -> bool {
        let own = self.by_source.get(&source).map_or(0, |own| *own) + more;
        let free = limit.saturating_sub(self.total + more);
        match lowest {
            Priority::Rest => own * 2 <= free,
            Priority::Base => own <= free,
            Priority::Control | Priority::Audio => own <= free * 2,
        }
    }

    pub(super) fn add(&mut self, source: u32, taken: usize) {
        self.sent.push_back((source, taken));
        *self.by_source.entry(source).or_default() += taken;
        self.total += taken;
    }
}
