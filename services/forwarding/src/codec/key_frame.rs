//! Whether a packet begins a key frame.

/// Does a key frame begin with this packet?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFrameStart {
    /// No.
    #[default]
    No,
    /// Yes, for sure.
    Yes,
    /// H.264: an IDR picture begins, and perhaps its parameter sets were before it.
    Idr,
}
