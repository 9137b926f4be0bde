//! The clock behind the RTP timestamps of a layer.

use systir_rtp::packet::SenderReport;

/// The RTP clock of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpClock {
    /// Changes when the publisher restarts with unrelated timestamps.
    pub(crate) epoch: u32,
    /// The last sender report in this epoch.
    pub(crate) report: Option<SenderReport>,
}

/// A duration in ticks of a clock with `rate` Hz; wraps as RTP timestamps do.
pub(crate) fn ticks(duration: std::time::Duration, rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}
