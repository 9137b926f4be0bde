//! Which room a name means.

use systir_assignment::RoomId;
use systir_policy::Authority;
use systir_reason::{Reason, Refusal};
use systir_registry::Assignments;

/// The room of the institution with this name: the one that exists, under whichever room key, else a new one.
///
/// # Errors
/// [`Reason::NoRoomKey`] when this node holds no room key of the institution.
pub(crate) fn room_of(
    authority: &Authority,
    assignments: &Assignments,
    institution: &str,
    name: &str,
) -> Result<RoomId, Refusal> {
    let keys = authority.room_keys();
    let existing = keys.rooms(institution, name).find(|room| assignments.get(room).is_some());
    existing.or_else(|| keys.room(institution, name)).ok_or_else(|| {
        let sentence = format!("this server holds no room key of {institution}, so it cannot find its rooms");
        Refusal::new(Reason::NoRoomKey, sentence)
    })
}
