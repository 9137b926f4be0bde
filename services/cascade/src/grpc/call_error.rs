//! Why a call to another node failed.

use std::time::Duration;

/// A call to another node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or another node answers at the address.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// The node refused the call.
    #[error("the node refused: {0}")]
    Refused(String),
    /// The nodes have no version in common.
    #[error("{0}")]
    UnsupportedVersion(String),
    /// The node answers, and takes no more calls of this one now.
    #[error("the node takes no more calls now: {0}")]
    Busy(String),
    /// No answer in time.
    #[error("the node did not answer within {0:?}")]
    Timeout(Duration),
    /// Any other failure.
    #[error("the call failed: {0}")]
    Failed(String),
}
