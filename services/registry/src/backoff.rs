//! Exponential backoff with jitter; it restarts after a success.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Delays between attempts, without an end.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    longest: Duration,
}

impl Default for Backoff {
    /// The delays of the registry's tasks.
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times();
        Self { builder, delays: builder.build(), longest }
    }

    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }

    /// The next delay.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.longest)
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }
}
