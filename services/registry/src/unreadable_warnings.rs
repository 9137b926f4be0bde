//! Warnings about records that cannot be read, at a limited rate: whoever writes etcd can write any number of them, and
//! each full read meets them all again.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two warnings.
const INTERVAL: Duration = Duration::from_secs(10);

/// When the last warning was, and how many records were met since.
#[derive(Debug, Default)]
pub(crate) struct UnreadableWarnings(Mutex<(Option<Instant>, u64)>);

impl UnreadableWarnings {
    /// Warns of a record that cannot be read, and of those that were met since the last warning.
    pub(crate) fn warn(&self, reason: &dyn Display) {
        if let Some(records) = self.due(Instant::now()) {
            tracing::warn!(
                %reason,
                records,
                "records in etcd cannot be read: malformed ones count as absent, those of another version stay and block their room; another \
                 program or version writes under our prefix"
            );
        }
    }

    /// Counts a record. When a warning is due: of how many records.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, records) = &mut *state;
        *records += 1;
        if last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_unreadable_records_leads_to_few_warnings() {
        let (warnings, start) = (UnreadableWarnings::default(), Instant::now());
        assert_eq!(warnings.due(start), Some(1), "the first is told at once");
        for _ in 0..1_000 {
            assert_eq!(warnings.due(start + INTERVAL / 2), None);
        }
        assert_eq!(warnings.due(start + INTERVAL), Some(1_001));
        assert_eq!(warnings.due(start + INTERVAL), None);
    }
}
