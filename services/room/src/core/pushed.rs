//! The result of a push to a queue of the room.

/// What became of a command or message that was pushed to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the queue.
    Kept,
    /// It may be lost, and was dropped.
    Dropped,
    /// The queue has overflowed: all that waited is removed. The room must restart at its worker, or be
    /// reopened to the node.
    Overflowed,
}
