//! The steps in which a room leaves its assignment.

/// A room that leaves its assignment: first the record changes, so that no other node asks for the room
/// again, then the links close.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaving {
    /// The registry has not answered yet.
    Asked,
    /// The registry's answer: may the room end?
    Answered(bool),
}
