//! A refusal as an HTTP response.

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use systir_reason::{Reason, Refusal};

/// The HTTP status of a refusal. LiveKit's browser client shows the text of a 401 or 403 only, so a refusal
/// that follows from policy is a 403. A temporary refusal is a 503, after which clients try again.
#[must_use]
pub fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadQuery
        | Reason::BadRequest
        | Reason::TokenNoIdentity
        | Reason::TokenNoRoom
        | Reason::TokenTooLong
        | Reason::TokenBadName => StatusCode::BAD_REQUEST,
        // The same status as LiveKit's server.
        Reason::TokenMissing
        | Reason::TokenMalformed
        | Reason::TokenAlgorithm
        | Reason::TokenUnknownKey
        | Reason::TokenSignature
        | Reason::TokenExpired
        | Reason::TokenNotYetValid
        | Reason::TokenLongLived
        | Reason::TokenAudience
        | Reason::TokenNoJoin => StatusCode::UNAUTHORIZED,
        Reason::IdentityQuota | Reason::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
        reason if reason.is_policy_denial() => StatusCode::FORBIDDEN,
        Reason::ApprovedFull | Reason::NoApprovedNode | Reason::RulesDiffer => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The HTTP response of a refusal: its status, and the refusal as text.
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
    fn refusals_by_policy_are_403_and_temporary_refusals_are_503() {
        for reason in [Reason::Forbidden, Reason::NoRule, Reason::ApprovedFull, Reason::RulesDiffer] {
            assert_eq!(status_of(reason), StatusCode::FORBIDDEN, "{reason}");
        }
        for reason in
            [Reason::RegistryUnavailable, Reason::HomeOffline, Reason::JoinTimeout, Reason::MediaNodeLost]
        {
            assert_eq!(status_of(reason), StatusCode::SERVICE_UNAVAILABLE, "{reason}");
        }
    }
}
