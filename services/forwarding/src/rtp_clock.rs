//! RTP timestamps as a clock.

use systir_rtp::packet::SenderReport;

/// Whose timestamps a layer has, and what the last sender report said of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpClock {
    pub(crate) epoch: u32,
    pub(crate) report: Option<SenderReport>,
}

/// A duration in ticks of a clock; wraps as timestamps do.
pub(crate) fn ticks(duration: std::time::Duration, rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}
