//! How the estimates of a worker's connections are spread: counts, without names.

use super::stats::WorkerCounts;

/// Bits per second below which connections are counted.
const LIMITS: [u64; 3] = [300_000, 1_000_000, 3_000_000];

/// The range of one connection's estimate; none before its first division.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct EstimateRange(Option<usize>);

/// Connections by the range of their estimate.
#[derive(Debug, Default)]
pub(super) struct Estimates([u64; LIMITS.len() + 1]);

impl Estimates {
    /// The estimate of a connection is now this; none: the connection ends.
    pub(super) fn set(&mut self, range: &mut EstimateRange, estimate: Option<u64>) {
        let now = estimate.map(|estimate| LIMITS.iter().filter(|limit| estimate >= **limit).count());
        let before = std::mem::replace(range, EstimateRange(now)).0;
        if let Some(count) = before.and_then(|index| self.0.get_mut(index)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = now.and_then(|index| self.0.get_mut(index)) {
            *count += 1;
        }
    }

    /// Writes the counts: each includes those below it.
    pub(super) fn publish(&self, counts: &mut WorkerCounts) {
        let mut sum = 0;
        let [below_300_kbit, below_1_mbit, below_3_mbit, all] = self.0.map(|count| {
            sum += count;
            sum
        });
        counts.estimates_below_300_kbit = below_300_kbit;
        counts.estimates_below_1_mbit = below_1_mbit;
        counts.estimates_below_3_mbit = below_3_mbit;
        counts.estimates = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_counted_once_with_its_newest_estimate() {
        let mut estimates = Estimates::default();
        let mut ranges = [EstimateRange::default(); 3];
        for (range, estimate) in ranges.iter_mut().zip([30_000, 300_000, 50_000_000]) {
            estimates.set(range, Some(1_500_000));
            estimates.set(range, Some(estimate));
        }
        let mut counts = WorkerCounts::default();
        estimates.publish(&mut counts);
        let below =
            [counts.estimates_below_300_kbit, counts.estimates_below_1_mbit, counts.estimates_below_3_mbit];
        assert_eq!((below, counts.estimates), ([1, 2, 2], 3));
        for range in &mut ranges {
            estimates.set(range, None);
            estimates.set(range, None);
        }
        estimates.publish(&mut counts);
        assert_eq!(counts, WorkerCounts::default());
    }
}
