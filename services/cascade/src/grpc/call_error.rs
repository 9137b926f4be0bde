//! Why a call to another node failed.

use std::time::Duration;

/// A call to another node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It cannot be reached, or another node answers there.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the node refused: {0}")]
    Refused(String),
    /// It did not answer in time.
    #[error("the node did not answer within {0:?}")]
    Timeout(Duration),
    /// Something else.
    #[error("the call failed: {0}")]
    Failed(String),
}
