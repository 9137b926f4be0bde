//! The steps in which this node leaves the room's assignment.

/// First the record changes, so that no other node opens the room here again; then the links close.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaving {
    /// The registry was asked to remove this node.
    Asked,
    /// The registry answered: may the room end?
    Answered(bool),
}
