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

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.delays.next().unwrap_or(self.longest)).await;
    }
}
