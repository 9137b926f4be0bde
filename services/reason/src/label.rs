//! A reason as a label of metrics.

use prometheus_client::encoding::EncodeLabelSet;

use crate::Reason;

/// The label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    reason: &'static str,
}

impl From<Reason> for ByReason {
    fn from(reason: Reason) -> Self {
        Self { reason: reason.as_str() }
    }
}
