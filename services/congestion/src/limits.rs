/// Bounds of the estimate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitrateLimits {
    /// The estimate never falls below this.
    pub min: u64,
    /// The estimate before anything is known.
    pub start: u64,
    /// The estimate never rises above this.
    pub max: u64,
}
