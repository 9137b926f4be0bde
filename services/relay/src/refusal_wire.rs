//! Converts refusals of reservations to and from their wire format between nodes.

use systir_cascade::CallError;
use systir_proto::cluster::v1::{RefusalCode, ReserveRefused};
use systir_reason::{Reason, Refusal};

/// Encodes a refusal for another node.
pub(crate) fn encode(refusal: Refusal) -> ReserveRefused {
    let code = match refusal.reason {
        Reason::Full => RefusalCode::Full,
        Reason::Draining => RefusalCode::Draining,
        Reason::EpochOvertaken => RefusalCode::Epoch,
        Reason::IdentityQuota => RefusalCode::IdentityQuota,
        Reason::InstitutionQuota => RefusalCode::InstitutionQuota,
        Reason::RegistryUnavailable | Reason::RegistryRefuses => RefusalCode::Registry,
        Reason::NoRoomKey => RefusalCode::NoRoomKey,
        Reason::UnsupportedVersion => RefusalCode::Version,
        reason if reason.is_about_a_grant() => RefusalCode::Grant,
        reason if reason.is_policy_denial() => RefusalCode::Policy,
        _ => RefusalCode::Internal,
    };
    ReserveRefused { code: code.into(), reason: refusal.sentence, rules: refusal.rules, assignment: None }
}

/// Decodes another node's refusal. An unknown code, of a newer node, becomes [`Reason::Unspecified`].
pub(crate) fn decode(refused: ReserveRefused) -> Refusal {
    let reason = match refused.code() {
        RefusalCode::Full => Reason::Full,
        RefusalCode::Policy => Reason::PolicyDenied,
        RefusalCode::Draining => Reason::Draining,
        RefusalCode::Epoch => Reason::EpochOvertaken,
        RefusalCode::IdentityQuota => Reason::IdentityQuota,
        RefusalCode::InstitutionQuota => Reason::InstitutionQuota,
        RefusalCode::Grant => Reason::GrantInvalid,
        RefusalCode::Registry => Reason::RegistryUnavailable,
        RefusalCode::NoRoomKey => Reason::NoRoomKey,
        RefusalCode::Version => Reason::UnsupportedVersion,
        RefusalCode::Internal => Reason::Internal,
        RefusalCode::Unspecified => Reason::Unspecified,
    };
    Refusal::new(reason, refused.reason).with_rules(refused.rules)
}

/// The refusal for a call without a reply.
pub(crate) fn of_call(error: &CallError) -> Refusal {
    let reason = match error {
        CallError::Refused(_) => Reason::PolicyDenied,
        CallError::UnsupportedVersion(_) => Reason::UnsupportedVersion,
        // It is alive, so no other node may become the home of its rooms.
        CallError::Busy(_) => Reason::TooManyAttempts,
        _ => Reason::NoAnswer,
    };
    Refusal::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who does not answer may be taken for dead.
    #[test]
    fn a_node_that_takes_no_more_calls_has_answered() {
        let busy = of_call(&CallError::Busy("too many calls".to_owned()));
        assert_eq!(busy.reason, Reason::TooManyAttempts);
        assert_eq!(of_call(&CallError::Unreachable(String::new())).reason, Reason::NoAnswer);
    }

    #[test]
    fn each_code_has_a_reason_and_only_full_is_full() {
        for code in [
            RefusalCode::Unspecified,
            RefusalCode::Full,
            RefusalCode::Policy,
            RefusalCode::Draining,
            RefusalCode::Epoch,
            RefusalCode::Internal,
            RefusalCode::IdentityQuota,
            RefusalCode::InstitutionQuota,
            RefusalCode::Grant,
            RefusalCode::Registry,
            RefusalCode::Version,
        ] {
            let refused = ReserveRefused { code: code.into(), ..ReserveRefused::default() };
            let refusal = decode(refused);
            assert_eq!(refusal.reason == Reason::Full, code == RefusalCode::Full, "{code:?}");
            if code != RefusalCode::Unspecified {
                assert_eq!(encode(refusal).code(), code);
            }
        }
        let newer = ReserveRefused { code: 77, ..ReserveRefused::default() };
        assert_eq!(decode(newer).reason, Reason::Unspecified, "a code of a newer node");
    }
}
