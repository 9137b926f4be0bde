//! Access tokens: what LiveKit's server SDKs sign (a JWT, HS256, keyed by API key) and what we
//! make of it. An API key belongs to one institution; a token can only ever speak for that one.

mod grants;
mod keys;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use livekit_token::Claims;
use systir_reason::{Reason, Refusal};

pub use grants::{Grants, Source};
pub use keys::{KeyRing, Redacted};

/// How far clocks may differ.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Longest token that is looked at. Tokens travel in URLs, metadata may be large.
pub const MAX_TOKEN_BYTES: usize = 128 * 1024;

/// Longest identity and room name, in bytes, as LiveKit's default limits.
pub const MAX_NAME_BYTES: usize = 256;

/// Why a token opens nothing. The texts go to the client: they name what to change and repeat
/// nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no access token: send it as `Authorization: Bearer` or as the query parameter access_token")]
    Missing,
    /// Not a JWT with the claims of an access token.
    #[error("invalid token: it is not a JWT with LiveKit's claims; create it with a LiveKit server SDK")]
    Malformed,
    /// The header asks for another algorithm than HS256.
    #[error("invalid token: only HS256 is accepted; sign it with the API key's secret")]
    Algorithm,
    /// `iss` is no API key of this server.
    #[error(
        "invalid API key: this server does not know the token's issuer; check the API key and the server's address"
    )]
    UnknownKey,
    /// The signature is not the API key's.
    #[error("invalid token: the signature does not fit the API key; check the API secret")]
    Signature,
    /// `exp` has passed, or is missing.
    #[error("invalid token: it is expired; ask for a new one")]
    Expired,
    /// `nbf` is in the future.
    #[error("invalid token: it is not valid yet; check the clock of the machine that signed it")]
    NotYetValid,
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
    /// Identity or room name holds control characters.
    #[error("identity or room name holds control characters")]
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

/// A token whose signature and times hold: for the server API, whose grants are other ones.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// Whose key signed it.
    pub institution: String,
}

/// Checks signature and times of any LiveKit token.
///
/// # Errors
/// Says what is wrong; see [`TokenError`].
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
    let decoded = jsonwebtoken::decode::<Claims>(
        token,
        &DecodingKey::from_secret(key.secret.expose().as_bytes()),
        &validation,
    )
    .map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
        jsonwebtoken::errors::ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })?;
    let claims = decoded.claims;

    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let leeway = LEEWAY.as_secs();
    if (claims.exp as u64).saturating_add(leeway) <= now {
        return Err(TokenError::Expired);
    }
    if claims.nbf as u64 > now.saturating_add(leeway) {
        return Err(TokenError::NotYetValid);
    }
    Ok(Verified { claims, institution: key.institution.clone() })
}

/// Checks a token that wants to join a room.
///
/// # Errors
/// Says what is wrong; see [`TokenError`].
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

/// The algorithm is ours to choose, never the token's: whatever else the header offers (`none`,
/// a public-key algorithm, a key of its own in `jwk`, `jku`, `x5u`, `kid`) is not looked at, and
/// critical extensions (RFC 7515 section 4.1.11) are understood by nobody here.
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

/// Only good for choosing the key that must then verify the whole.
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
