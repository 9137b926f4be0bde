//! A refusal as an HTTP answer.

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use systir_reason::{Reason, Refusal};

/// The status of a refusal. LiveKit's browser client shows the text of a 401 or 403 only, so a refusal
/// that the institution's rules lead to is a 403. What ends by itself is a 503: clients try again.
#[must_use]
pub fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadQuery
        | Reason::BadRequest
        | Reason::TokenNoIdentity
        | Reason::TokenNoRoom
        | Reason::TokenTooLong
        | Reason::TokenBadName => StatusCode::BAD_REQUEST,
        // The statuses that LiveKit's server answers.
        Reason::TokenMissing
        | Reason::TokenMalformed
        | Reason::TokenAlgorithm
        | Reason::TokenUnknownKey
        | Reason::TokenSignature
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenNoJoin => StatusCode::UNAUTHORIZED,
        reason if reason.is_policy_denial() => StatusCode::FORBIDDEN,
        Reason::ApprovedFull | Reason::NoApprovedNode | Reason::RulesDiffer => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The answer that a client reads: the status, and the refusal as text.
#[must_use]
pub fn respond(refusal: &Refusal) -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (status_of(refusal.reason), plain, refusal.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use systir_livekit::token::TokenError;

    use super::*;

    #[test]
    fn token_errors_have_the_statuses_of_livekits_server() {
        let status = |error: TokenError| status_of(error.reason()).as_u16();
        assert_eq!(status(TokenError::NoRoom), 400);
        assert_eq!(status(TokenError::NoIdentity), 400);
        assert_eq!(status(TokenError::NoJoin), 401);
        assert_eq!(status(TokenError::Signature), 401);
    }

    #[test]
    fn what_policy_leads_to_is_forbidden_and_what_ends_by_itself_is_unavailable() {
        for reason in [Reason::Forbidden, Reason::NoRule, Reason::ApprovedFull, Reason::RulesDiffer] {
            assert_eq!(status_of(reason), StatusCode::FORBIDDEN, "{reason}");
        }
        for reason in [Reason::RegistryAway, Reason::HomeAway, Reason::JoinTimeout, Reason::MediaNodeLost] {
            assert_eq!(status_of(reason), StatusCode::SERVICE_UNAVAILABLE, "{reason}");
        }
    }
}
