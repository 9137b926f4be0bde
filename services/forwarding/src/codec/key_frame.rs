//! Whether a packet starts a key frame.

/// Does a key frame start with this packet?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFrameStart {
    /// No.
    #[default]
    No,
    /// Yes.
    Yes,
    /// H.264: an IDR picture starts. Its parameter sets may have come in packets before it.
    Idr,
}
