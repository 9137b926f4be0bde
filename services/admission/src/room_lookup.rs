//! Which room a name means.

use systir_assignment::RoomId;
use systir_policy::Authority;
use systir_reason::{Reason, Refusal};
use systir_registry::Assignments;

/// The room of the institution with this name: the one that exists, under whichever room key, else a new one.
///
/// # Errors
/// [`Reason::NoRoomKey`] when this node holds no room key of the institution, and [`Reason::BadRequest`] when no room can
/// have this name.
pub(crate) fn room_of(
    authority: &Authority,
    assignments: &Assignments,
    institution: &str,
    name: &str,
) -> Result<RoomId, Refusal> {
    let keys = authority.room_keys();
    if !keys.has(institution) {
        let sentence = format!("this server holds no room key of {institution}, so it cannot find its rooms");
        return Err(Refusal::new(Reason::NoRoomKey, sentence));
    }
    let existing = keys.rooms(institution, name).find(|room| exists(assignments, room));
    existing.or_else(|| keys.room(institution, name)).ok_or_else(|| {
        let most = systir_room_tag::seal::MAX_NAME_BYTES;
        Refusal::new(Reason::BadRequest, format!("the name of a room has at most {most} bytes"))
    })
}

/// Has the room a record? Only while the registry does not answer, a grant is enough: that of a room that has ended is
/// held for a while.
fn exists(assignments: &Assignments, room: &RoomId) -> bool {
    let view = assignments.registry().view();
    let recorded = view.room(room).is_some() || view.rooms_unavailable_since(&room.institution).is_some();
    recorded && assignments.get(room).is_some()
}
