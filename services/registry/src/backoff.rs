//! Pauses between tries: they grow, with jitter, and start anew after a success.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// An endless row of pauses.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_jitter()
            .without_max_times();
        Self { builder, pauses: builder.build(), longest }
    }

    pub(crate) fn reset(&mut self) {
        self.pauses = self.builder.build();
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.pauses.next().unwrap_or(self.longest)).await;
    }
}
