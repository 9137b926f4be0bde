//! The newest of many rows, so that a long journal fits into memory.

use std::collections::BTreeMap;

/// The newest rows.
#[derive(Debug)]
pub(crate) struct NewestRows<T> {
    most: usize,
    rows: BTreeMap<(u64, usize), T>,
    /// How many were added.
    pub(crate) total: usize,
}

impl<T> NewestRows<T> {
    /// Keeps `most` rows; 0 keeps all.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, rows: BTreeMap::new(), total: 0 }
    }

    pub(crate) fn add(&mut self, time_ms: u64, row: T) {
        self.rows.insert((time_ms, self.total), row);
        self.total += 1;
        if self.most > 0 && self.rows.len() > self.most {
            self.rows.pop_first();
        }
    }

    /// The rows that are kept, by time.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &T> {
        self.rows.values()
    }

    /// How many are not kept.
    pub(crate) fn left_out(&self) -> usize {
        self.total - self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::NewestRows;

    #[test]
    fn the_newest_are_kept_in_the_order_of_their_times() {
        let mut rows = NewestRows::new(3);
        for (time, row) in [(5, "a"), (1, "b"), (5, "c"), (7, "d"), (2, "e")] {
            rows.add(time, row);
        }
        assert_eq!(rows.rows().copied().collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!(rows.left_out(), 2);
        let mut all = NewestRows::new(0);
        (0..9).for_each(|time| all.add(time, time));
        assert_eq!((all.rows().count(), all.left_out()), (9, 0));
    }
}
