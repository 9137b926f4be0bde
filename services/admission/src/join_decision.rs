//! The decision on a participant: the same one at its gateway and at its media node.

use systir_assignment::RoomId;
use systir_livekit::token::Grants;
use systir_policy::{Action, Authority, Decision, ParticipantRoles};
use systir_reason::Refusal;

use crate::trace;

/// May the holder of a verified token with these grants join the room: as a participant, and hidden, as a recorder or as a guest
/// if the grants say so? Rooms ask policy again when it changes.
///
/// # Errors
/// The first denial.
pub fn may_join(authority: &Authority, room: &RoomId, grants: &Grants) -> Result<(), Refusal> {
    may_join_in_roles(authority, room, grants).map_err(|(_, refusal)| refusal)
}

/// The same, with the action that is denied.
pub(crate) fn may_join_in_roles(
    authority: &Authority,
    room: &RoomId,
    grants: &Grants,
) -> Result<(), (Action, Refusal)> {
    let roles = ParticipantRoles { hidden: grants.hidden, recorder: grants.recorder, guest: grants.guest };
    let decisions = authority.join(room, &grants.institution, roles);
    decisions.iter().try_for_each(|(action, decision)| {
        traced(authority.own_id(), *action, decision).map_err(|refusal| (*action, refusal))
    })
}

/// The decision as a result, recorded as a span of the join.
pub(crate) fn traced(node: &str, action: Action, decision: &Decision) -> Result<(), Refusal> {
    trace::decision(node, action, decision);
    if decision.allowed { Ok(()) } else { Err(decision.refusal()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use systir_documents::{Lifetime, SigningKey};
    use systir_policy::demo::DemoDocuments;
    use systir_reason::Reason;
    use systir_room_tag::test_keys;

    use super::*;

    #[test]
    fn a_hidden_participant_a_recorder_and_a_guest_need_a_permit_each() {
        let lifetime = Lifetime { issued: 0, renew_by: 1, not_after: 2 };
        let key = SigningKey::from_seed("node", [1; 32]).unwrap().public();
        let prefix = "192.0.2.0/24".parse().unwrap();
        let documents = DemoDocuments::new(lifetime, "", |_| (vec![key.clone()], vec![prefix])).unwrap();
        let authority = Authority::new(documents.engine().unwrap(), "cph-1", Arc::default());
        authority.use_room_keys(test_keys::keys());
        let reason = |room: &str, hidden: bool, recorder: bool| {
            let grants = Grants { hidden, recorder, ..Grants::new("ku.dk", room, "anna") };
            may_join(&authority, &test_keys::room(room), &grants).map_err(|refusal| refusal.reason)
        };
        assert_eq!(reason("lecture", false, false), Ok(()));
        assert_eq!(reason("lecture", true, false), Ok(()));
        assert_eq!(reason("exam-1", false, false), Ok(()));
        assert_eq!(reason("exam-1", true, false), Err(Reason::NoRule));
        assert_eq!(reason("lecture", false, true), Err(Reason::NoRule));
        let as_guest = |room: &str| {
            let grants = Grants { guest: true, ..Grants::new("ku.dk", room, "gina") };
            may_join(&authority, &test_keys::room(room), &grants).map_err(|refusal| refusal.reason)
        };
        assert_eq!(as_guest("lecture"), Ok(()));
        assert_eq!(as_guest("exam-1"), Err(Reason::NoRule));
    }
}
