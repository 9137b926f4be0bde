//! Claims of tokens that the holder of an API key signed: whoever has a key can write any claims, and an institution's service
//! may pass on what its users chose.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use livekit_protocol::TrackSource;
use serde_json::{Value, json};
use systir_livekit::token::{
    GUEST_ATTRIBUTE, Grants, KeyRing, LEEWAY, MAX_NAME_BYTES, TokenError, verify, verify_join,
};

use crate::reader::Reader;

/// What an institution may ask of its tokens: bit 0, an audience; bit 1, a life of an hour instead of a day. Bit 2: what follows
/// are no claims, but changes of good ones. No token begins with such a byte.
pub(crate) const CHOICES: Range<u8> = 0..8;
const CHANGES: u8 = 4;

const SECRET: &str = "secret";
const AUDIENCE: &str = "systir";
const NOW_SECONDS: u64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// The sources that `canPublishSources` may name.
const SOURCES: [TrackSource; 4] =
    [TrackSource::Camera, TrackSource::Microphone, TrackSource::ScreenShare, TrackSource::ScreenShareAudio];

/// The claims that a change can set. A dot is part of a name.
const FIELDS: [&[&str]; 24] = [
    &["iss"],
    &["sub"],
    &["exp"],
    &["nbf"],
    &["aud"],
    &["name"],
    &["kind"],
    &["metadata"],
    &["sip"],
    &["roomConfig"],
    &["attributes"],
    &["attributes", GUEST_ATTRIBUTE],
    &["video"],
    &["video", "room"],
    &["video", "roomJoin"],
    &["video", "roomAdmin"],
    &["video", "canPublish"],
    &["video", "canSubscribe"],
    &["video", "canPublishData"],
    &["video", "canPublishSources"],
    &["video", "canUpdateOwnMetadata"],
    &["video", "hidden"],
    &["video", "recorder"],
    &["video", "agent"],
];

/// Good claims after these changes: each is a field and its new value.
fn changed(mut rest: Reader<'_>) -> Value {
    let mut claims = json!({
        "iss": "devkey", "sub": "ada", "exp": NOW_SECONDS + 600, "aud": AUDIENCE, "attributes": {},
        "video": {"roomJoin": true, "room": "seminar"},
    });
    while !rest.is_empty() {
        let field = FIELDS.get(usize::from(rest.byte()) % FIELDS.len()).copied().unwrap_or_default();
        let value = value(&mut rest);
        let Some((name, parents)) = field.split_last() else { continue };
        let parent = parents.iter().try_fold(&mut claims, |object, name| object.get_mut(*name));
        if let Some(fields) = parent.and_then(Value::as_object_mut) {
            match value {
                Some(value) => fields.insert((*name).to_owned(), value),
                None => fields.remove(*name),
            };
        }
    }
    claims
}

/// A value; none to remove the field.
fn value(rest: &mut Reader<'_>) -> Option<Value> {
    let choice = rest.byte();
    let mut text = || {
        let length = rest.byte().into();
        String::from_utf8_lossy(rest.take(length)).into_owned()
    };
    Some(match choice % 12 {
        0 => return None,
        1 => Value::Null,
        2 => true.into(),
        3 => false.into(),
        4 => text().into(),
        5 => json!([text(), AUDIENCE]),
        6 => json!([text(), "camera", "SCREEN_SHARE"]),
        7 => json!([false, false, false, false, true, text()]),
        8 => json!({ text(): text() }),
        9 => "x".repeat(MAX_NAME_BYTES + usize::from(choice >> 7)).into(),
        // Within a day or so.
        10 => (NOW_SECONDS.saturating_add_signed((i64::from(rest.number()) - (1 << 15)) * 3)).into(),
        _ => ((f64::from(rest.number()) - 32_768.5) * f64::from(choice) + NOW_SECONDS as f64).into(),
    })
}

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_SECONDS)
}

pub(crate) fn ring(choices: u8) -> KeyRing {
    ring_with(SECRET, choices)
}

fn ring_with(secret: &str, choices: u8) -> KeyRing {
    let mut ring = KeyRing::new();
    if choices & 2 != 0 {
        ring = ring.with_max_life(HOUR);
    }
    ring.insert("devkey", secret, "ku.dk");
    if choices & 1 != 0 {
        ring.require_audience("devkey", AUDIENCE);
    }
    ring
}

/// A token with these claims, for seeds too.
#[must_use]
pub fn signed(claims: &[u8]) -> String {
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let Ok(signature) = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256) else {
        unreachable!("HS256 signs any message")
    };
    format!("{message}.{signature}")
}

/// Signs the claims and checks the token: it grants what its claims say, and no more.
pub(crate) fn check(choices: u8, bytes: &[u8]) {
    check_signed(choices, &claims_of(choices, bytes));
}

fn claims_of(choices: u8, bytes: &[u8]) -> Vec<u8> {
    if choices & CHANGES != 0 { changed(Reader(bytes)).to_string().into_bytes() } else { bytes.to_vec() }
}

fn check_signed(choices: u8, claims: &[u8]) {
    let (ring, token) = (ring(choices), signed(claims));
    let joins = verify_join(&ring, &token, now());
    let verified = match verify(&ring, &token, now()) {
        Ok(verified) => verified,
        Err(refused) => {
            assert_eq!(joins, Err(refused));
            return;
        }
    };
    let other = ring_with("another secret", choices);
    assert_eq!(verify_join(&other, &token, now()), Err(TokenError::Signature));
    assert_eq!(verified.institution, "ku.dk");
    let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
    assert_eq!(claims["iss"], "devkey");
    check_times(&claims, ring.max_life());
    let is_for_us = match &claims["aud"] {
        Value::Array(several) => several.iter().any(|one| one == AUDIENCE),
        one => one == AUDIENCE,
    };
    assert!(is_for_us || choices & 1 == 0, "another audience");
    if let Ok(grants) = joins {
        check_grants(&grants, &claims);
        check_passed_on(&grants);
    }
}

/// A time in seconds; zero if the claims do not state it.
fn seconds(claims: &Value, name: &str) -> u64 {
    claims[name].as_f64().unwrap_or_default() as u64
}

fn check_times(claims: &Value, max_life: Duration) {
    let (begins, ends, leeway) = (seconds(claims, "nbf"), seconds(claims, "exp"), LEEWAY.as_secs());
    assert!(ends + leeway > NOW_SECONDS, "it has expired");
    assert!(begins <= NOW_SECONDS + leeway, "it is not valid yet");
    let begins = if begins == 0 { NOW_SECONDS } else { begins };
    assert!(ends.saturating_sub(begins) <= max_life.as_secs() + leeway, "it lives too long");
}

fn check_grants(grants: &Grants, claims: &Value) {
    for name in [&grants.identity, &grants.room] {
        assert!(!name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control));
    }
    assert_eq!(claims["sub"], *grants.identity);
    assert_eq!((grants.institution.as_str(), grants.expires), ("ku.dk", seconds(claims, "exp")));
    let is_guest = claims["attributes"].get(GUEST_ATTRIBUTE).is_some_and(|value| !value.is_null());
    assert_eq!(grants.guest, is_guest);
    let video = &claims["video"];
    assert_eq!(video["room"], *grants.room);
    let says = |name: &str| video[name].as_bool();
    assert_eq!(says("roomJoin"), Some(true));
    for (granted, name) in [
        (grants.room_admin, "roomAdmin"),
        (grants.hidden, "hidden"),
        (grants.recorder, "recorder"),
        (grants.agent, "agent"),
        (grants.can_update_own_metadata, "canUpdateOwnMetadata"),
    ] {
        assert_eq!(granted, says(name) == Some(true), "{name}");
    }
    assert_eq!(grants.can_subscribe, says("canSubscribe").unwrap_or(true));
    assert_eq!(grants.can_publish, says("canPublish").unwrap_or(true));
    assert_eq!(grants.can_publish_data, says("canPublishData").unwrap_or(grants.can_publish));
    let named = video["canPublishSources"].as_array().map(Vec::as_slice).unwrap_or_default();
    for source in SOURCES {
        let name =
            |value: &Value| value.as_str().is_some_and(|n| n.eq_ignore_ascii_case(source.as_str_name()));
        let allowed = grants.can_publish && (named.is_empty() || named.iter().any(name));
        assert_eq!(grants.may_publish(source), allowed, "{}", source.as_str_name());
    }
}

/// The gateway sends the grants to the participant's media node without the room's name.
fn check_passed_on(grants: &Grants) {
    let sent = serde_json::to_vec(grants).unwrap_or_default();
    let received = serde_json::from_slice(&sent).ok();
    assert_eq!(
        received.map(|received| Grants { room: grants.room.clone(), ..received }).as_ref(),
        Some(grants)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the mutations of the corpus would be refused at once. What fuzzing found may be refused: it is named by its SHA-1.
    #[test]
    fn the_corpus_begins_with_claims_that_are_accepted() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/token");
        let mut accepted = 0;
        for file in std::fs::read_dir(folder).expect("a folder") {
            let file = file.expect("a file");
            let bytes = std::fs::read(file.path()).expect("bytes");
            let is_found = file.file_name().len() == 40;
            if let Some((choices, claims)) = bytes.split_first()
                && CHOICES.contains(choices)
                && !is_found
            {
                let token = signed(&claims_of(*choices, claims));
                let joins = verify_join(&ring(*choices), &token, now());
                assert!(joins.is_ok(), "{}: {joins:?}", file.path().display());
                accepted += 1;
            }
        }
        assert!(accepted > 3, "{accepted}");
    }
}
