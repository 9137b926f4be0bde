//! Access tokens of LiveKit's server SDKs: JWTs signed with HS256 and the secret of an API key. An API key
//! belongs to one institution, so its tokens are valid for rooms of that institution only.

mod grants;
mod keys;
#[cfg(test)]
mod sdk_tokens;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use livekit_token::Claims;
use systir_reason::{Reason, Refusal};

pub use grants::{GUEST_ATTRIBUTE, Grants, PublishSource};
pub use keys::{DEFAULT_MAX_LIFE, KeyRing, MIN_SECRET_CHARS, Redacted, is_weak};

/// Allowed difference between clocks.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Longest token that is read, bytes. Tokens are sent in URLs, but their metadata may be large.
pub const MAX_TOKEN_BYTES: usize = 128 * 1024;

/// Longest identity and room name, bytes: LiveKit's default limits.
pub const MAX_NAME_BYTES: usize = 256;

/// Why a token is refused. The texts are sent to the client: they name what to change and contain nothing
/// of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request has no token.
    #[error("no access token: send it as `Authorization: Bearer` or as the query parameter access_token")]
    Missing,
    /// It is not a JWT with the claims of an access token.
    #[error("invalid token: it is not a JWT with LiveKit's claims; create it with a LiveKit server SDK")]
    Malformed,
    /// The JWT header does not name HS256.
    #[error("invalid token: only HS256 is accepted; sign it with the API key's secret")]
    Algorithm,
    /// `iss` is not an API key of this server.
    #[error(
        "invalid API key: this server does not know the token's issuer; check the API key and the server's URL"
    )]
    UnknownKey,
    /// The signature does not verify with the API key's secret.
    #[error("invalid token: the signature does not fit the API key; check the API secret")]
    Signature,
    /// `exp` has passed, or is missing.
    #[error("invalid token: it has expired; request a new one")]
    Expired,
    /// `nbf` is in the future.
    #[error("invalid token: it is not valid yet; check the clock of the host that signed it")]
    NotYetValid,
    /// The token is valid for longer than [`KeyRing::max_life`].
    #[error(
        "invalid token: it is valid for longer than this server accepts; create it with a shorter time to live (ttl)"
    )]
    LongLived,
    /// `aud` does not name the audience that the institution asks for.
    #[error("invalid token: it is for another server; set the audience (aud) that your institution asks for")]
    Audience,
    /// `video.roomJoin` is not granted.
    #[error("permission denied: the token does not grant roomJoin")]
    NoJoin,
    /// `sub` is empty.
    #[error("identity cannot be empty: set the token's identity")]
    NoIdentity,
    /// `video.room` is empty.
    #[error("room name cannot be empty: the token must name the room it grants")]
    NoRoom,
    /// Identity or room name is longer than [`MAX_NAME_BYTES`].
    #[error("identity or room name is longer than 256 bytes")]
    TooLong,
    /// Identity or room name contains control characters.
    #[error("identity or room name contains control characters")]
    BadName,
}

impl TokenError {
    /// The reason code.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Missing => Reason::TokenMissing,
            Self::Malformed => Reason::TokenMalformed,
            Self::Algorithm => Reason::TokenAlgorithm,
            Self::UnknownKey => Reason::TokenUnknownKey,
            Self::Signature => Reason::TokenSignature,
            Self::Expired => Reason::TokenExpired,
            Self::NotYetValid => Reason::TokenNotYetValid,
            Self::LongLived => Reason::TokenLongLived,
            Self::Audience => Reason::TokenAudience,
            Self::NoJoin => Reason::TokenNoJoin,
            Self::NoIdentity => Reason::TokenNoIdentity,
            Self::NoRoom => Reason::TokenNoRoom,
            Self::TooLong => Reason::TokenTooLong,
            Self::BadName => Reason::TokenBadName,
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// A token whose signature and times are valid, for the server API, which checks other grants.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its claims. Those that mean nothing to this server, such as `sip` and `roomConfig`, are left out.
    pub claims: Claims,
    /// The institution of the API key that signed it.
    pub institution: String,
}

/// Claims that mean nothing to this server. LiveKit's SDKs write them in several forms (`roomConfig` also with the
/// field names and nested messages of newer protocols), and none of these forms makes a token invalid.
const UNUSED_CLAIMS: [&str; 7] =
    ["roomConfig", "sip", "agent", "agentEndpoint", "agentThread", "inference", "observability"];

/// The claims in the form that [`Claims`] takes: without fields that are null and without [`UNUSED_CLAIMS`], and with
/// times in whole seconds. LiveKit's server takes a null field as absent, as Go's JSON decoder does; some services send
/// attributes with null values. Times may have a fraction (RFC 7519 section 2): the SDKs for .NET and Ruby write one.
fn normalized(claims: serde_json::Value) -> serde_json::Value {
    let mut claims = without_nulls(claims);
    if let serde_json::Value::Object(fields) = &mut claims {
        for unused in UNUSED_CLAIMS {
            fields.remove(unused);
        }
        for name in ["exp", "nbf"] {
            let Some(time) = fields.get_mut(name) else { continue };
            if !time.is_u64()
                && let Some(seconds) = time.as_f64().filter(|seconds| *seconds >= 0.0)
            {
                *time = (seconds as u64).into();
            }
        }
    }
    claims
}

fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let serde_json::Value::Object(fields) = &mut value {
        let kept = std::mem::take(fields).into_iter().filter(|(_, value)| !value.is_null());
        *fields = kept.map(|(name, value)| (name, without_nulls(value))).collect();
    }
    value
}

/// Checks the signature and the times of any LiveKit token.
///
/// # Errors
/// What is wrong with the token.
pub fn verify(ring: &KeyRing, token: &str, now: SystemTime) -> Result<Verified, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Missing);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    check_header(token)?;
    let key = ring.get(&unverified_issuer(token)?).ok_or(TokenError::UnknownKey)?;

    // Times are checked below, against the caller's clock.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<serde_json::Value>(
        token,
        &DecodingKey::from_secret(key.secret.expose().as_bytes()),
        &validation,
    )
    .map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
        jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })?;
    let is_for = |audience: &String| names_audience(decoded.claims.get("aud"), audience);
    if !key.audience.as_ref().is_none_or(is_for) {
        return Err(TokenError::Audience);
    }
    let claims = normalized(decoded.claims);
    // Serde would read a list too, as the fields of the grants in their order. LiveKit's server does not.
    if claims.get("video").is_some_and(|video| !video.is_object()) {
        return Err(TokenError::Malformed);
    }
    let claims: Claims = serde_json::from_value(claims).map_err(|_| TokenError::Malformed)?;

    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let leeway = LEEWAY.as_secs();
    if (claims.exp as u64).saturating_add(leeway) <= now {
        return Err(TokenError::Expired);
    }
    if claims.nbf as u64 > now.saturating_add(leeway) {
        return Err(TokenError::NotYetValid);
    }
    // A token that does not say since when it is valid counts from now.
    let since = if claims.nbf == 0 { now } else { claims.nbf as u64 };
    if (claims.exp as u64).saturating_sub(since) > ring.max_life().as_secs().saturating_add(leeway) {
        return Err(TokenError::LongLived);
    }
    Ok(Verified { claims, institution: key.institution.clone() })
}

/// Does the claim `aud`, a text or a list of texts, name this audience (RFC 7519 section 4.1.3)?
fn names_audience(claim: Option<&serde_json::Value>, audience: &str) -> bool {
    match claim {
        Some(serde_json::Value::String(one)) => one == audience,
        Some(serde_json::Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// Checks a token for joining a room.
///
/// # Errors
/// What is wrong with the token.
pub fn verify_join(ring: &KeyRing, token: &str, now: SystemTime) -> Result<Grants, TokenError> {
    let Verified { claims, institution } = verify(ring, token, now)?;
    if !claims.video.room_join {
        return Err(TokenError::NoJoin);
    }
    if claims.sub.is_empty() {
        return Err(TokenError::NoIdentity);
    }
    if claims.video.room.is_empty() {
        return Err(TokenError::NoRoom);
    }
    for name in [&claims.sub, &claims.video.room] {
        if name.len() > MAX_NAME_BYTES {
            return Err(TokenError::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(TokenError::BadName);
        }
    }
    Ok(Grants::from_claims(claims, institution))
}

/// Accepts HS256 only, so that the token cannot choose its algorithm (`none`, or one with public keys). Keys
/// in the header (`jwk`, `jku`, `x5u`, `kid`) are ignored. Critical extensions (RFC 7515 section 4.1.11) are
/// not supported, so a token with one is refused.
fn check_header(token: &str) -> Result<(), TokenError> {
    let header = token.split('.').next().unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)?;
    if header.get("alg").and_then(serde_json::Value::as_str) != Some("HS256") {
        return Err(TokenError::Algorithm);
    }
    if header.contains_key("crit") {
        return Err(TokenError::Malformed);
    }
    Ok(())
}

/// The issuer of a token that is not verified yet. Use it only to choose the key that verifies the token.
fn unverified_issuer(token: &str) -> Result<String, TokenError> {
    #[derive(serde::Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
    let issuer: Issuer = serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)?;
    Ok(issuer.iss)
}
