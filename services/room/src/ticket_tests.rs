use systir_room_tag::test_keys;

use super::*;

fn grants() -> Grants {
    Grants {
        can_publish_sources: Some(vec![PublishSource::Microphone]),
        ..Grants::new("ku.dk", "lecture", "anna")
    }
}

fn ticket(grants: &Grants) -> Ticket {
    let room = test_keys::room("lecture");
    let assignment = Assignment::new(room, "RM_x".to_owned(), "cph-1".into(), String::new(), 1);
    let facts = TicketFacts {
        gateway: "cph-1",
        assignment: &assignment,
        media_node: "sto-1",
        participant_sid: "PA_a".to_owned(),
        join_number: 5,
        now_ms: 5,
    };
    new_ticket(grants, facts)
}

fn info(grants: &Grants) -> ParticipantInfo {
    ParticipantInfo {
        sid: "PA_a".to_owned(),
        identity: grants.identity.clone(),
        kind: grants.kind,
        permission: Some(grants.permission()),
        ..ParticipantInfo::default()
    }
}

/// Grants that are more, or something else, than [`grants`].
fn other_grants() -> Vec<Grants> {
    let with = |change: fn(&mut Grants)| {
        let mut other = grants();
        change(&mut other);
        other
    };
    vec![
        with(|other| other.identity = "eve".to_owned()),
        with(|other| other.kind = 4),
        with(|other| other.hidden = true),
        with(|other| other.recorder = true),
        with(|other| other.agent = true),
        with(|other| other.can_update_own_metadata = true),
        with(|other| other.can_publish_sources = None),
        with(|other| other.can_publish_sources = Some(vec![PublishSource::Camera])),
    ]
}

#[test]
fn grants_and_participants_are_within_the_ticket_of_the_same_grants() {
    let full = Grants { can_publish_sources: None, can_update_own_metadata: true, agent: true, ..grants() };
    for allowed in [grants(), full.clone()] {
        assert_eq!(check_grants(&ticket(&allowed), &allowed), Ok(()));
        assert_eq!(check_info(&ticket(&allowed), &info(&allowed)), Ok(()));
        // Fewer permissions are within it too.
        let fewer = Grants { can_publish: false, can_subscribe: false, can_publish_data: false, ..allowed };
        assert_eq!(check_grants(&ticket(&full), &Grants { agent: true, ..fewer.clone() }), Ok(()));
        assert_eq!(check_info(&ticket(&full), &info(&fewer)), Ok(()));
    }
}

#[test]
fn whatever_is_more_or_else_is_not() {
    for other in other_grants() {
        assert!(check_grants(&ticket(&grants()), &other).is_err(), "{other:?}");
        assert!(check_info(&ticket(&grants()), &info(&other)).is_err(), "{other:?}");
    }
    let admin = Grants { room_admin: true, ..grants() };
    assert_eq!(check_grants(&ticket(&grants()), &admin), Err(TicketProblem::Exceeded("permission")));
    // Hidden is neither more nor less: a participant must not become visible either.
    let hidden = Grants { hidden: true, ..grants() };
    assert!(check_grants(&ticket(&hidden), &grants()).is_err());
    let renamed = ParticipantInfo { sid: "PA_b".to_owned(), ..info(&grants()) };
    assert!(check_info(&ticket(&grants()), &renamed).is_err());
}

#[test]
fn a_token_that_allows_only_unknown_sources_allows_none() {
    let none = Grants { can_publish_sources: Some(Vec::new()), ..grants() };
    assert_eq!(check_grants(&ticket(&none), &none), Ok(()));
    assert_eq!(check_info(&ticket(&none), &info(&none)), Ok(()));
    assert!(check_grants(&ticket(&none), &grants()).is_err());
    assert!(check_info(&ticket(&none), &info(&grants())).is_err());
}
