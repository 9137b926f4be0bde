use super::*;
use crate::input::Demand;
use crate::ladder::propose;
use crate::test_input::{node, room};

fn proposal() -> Proposal {
    propose(&room(), &Demand::default(), &[node("cph-1", true), node("sto-1", false)])
}

#[test]
fn the_reason_is_full_only_when_no_node_could_have_a_seat() {
    for (answers, reason) in [
        (&[Reason::Full, Reason::Full][..], Reason::ApprovedFull),
        (&[Reason::Full, Reason::PolicyDenied], Reason::ApprovedFull),
        (&[Reason::Full, Reason::Draining], Reason::ApprovedFull),
        (&[Reason::PolicyDenied, Reason::PolicyDenied], Reason::RulesDiffer),
        (&[Reason::Draining, Reason::PolicyDenied], Reason::RulesDiffer),
        (&[Reason::Draining, Reason::Draining], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::NoAnswer], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::UnsupportedVersion], Reason::ApprovedUnavailable),
        (&[Reason::Internal, Reason::Full], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::EpochOvertaken], Reason::ApprovedUnavailable),
        (&[Reason::Internal, Reason::PolicyDenied], Reason::ApprovedUnavailable),
        (&[Reason::Full, Reason::RegistryUnavailable], Reason::RegistryUnavailable),
        (&[Reason::RegistryUnavailable, Reason::NoAnswer, Reason::Full], Reason::RegistryUnavailable),
        (&[Reason::RegistryRefuses, Reason::Full], Reason::RegistryRefuses),
        (&[Reason::Full, Reason::IdentityQuota], Reason::IdentityQuota),
        (&[Reason::Full, Reason::InstitutionQuota], Reason::InstitutionQuota),
        (&[Reason::InstitutionQuota, Reason::NoAnswer], Reason::ApprovedUnavailable),
        (&[], Reason::ApprovedUnavailable),
    ] {
        let refusal = proposal().refused(answers);
        assert_eq!(refusal.reason, reason, "{answers:?}");
        let names_none = !refusal.sentence.contains("cph-1") && !refusal.sentence.contains("sto-1");
        assert!(refusal.sentence.contains("ku.dk") && names_none, "{}", refusal.sentence);
    }
}

#[test]
fn with_no_node_to_ask_the_refusal_is_that_of_the_proposal() {
    let no_nodes = propose(&room(), &Demand::default(), &[]);
    assert_eq!(Some(no_nodes.refused(&[])), no_nodes.refusal);
}
