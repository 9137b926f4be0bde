use aws_lc_rs::hmac;
use livekit_protocol::TrackSource;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

pub(super) fn ring() -> KeyRing {
    let mut ring = KeyRing::new();
    assert!(ring.insert("devkey", "secret", "ku.dk"));
    assert!(ring.insert("other", "other-secret", "lu.se"));
    ring
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn sign_raw(header: &str, payload: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn claims() -> Value {
    json!({
        "iss": "devkey", "sub": "ada", "name": "Ada", "nbf": NOW - 10, "exp": NOW + 3600,
        "video": {"roomJoin": true, "room": "seminar"}
    })
}

fn sign(header: Value, claims: &Value, secret: &str) -> String {
    sign_raw(&header.to_string(), &claims.to_string(), secret)
}

pub(super) fn hs256(claims: &Value) -> String {
    sign(json!({"alg": "HS256", "typ": "JWT"}), claims, "secret")
}

fn with(path: &str, value: Value) -> Value {
    let mut claims = claims();
    *claims.pointer_mut(path).unwrap() = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

#[test]
fn token_grants_its_claims_and_livekits_defaults() {
    let grants = verify_join(&ring(), &hs256(&claims()), now()).unwrap();
    assert_eq!((grants.identity.as_str(), grants.room.as_str()), ("ada", "seminar"));
    assert_eq!(grants.institution, "ku.dk");
    assert!(grants.can_publish && grants.can_subscribe && grants.can_publish_data);
    assert!(!grants.can_update_own_metadata && !grants.hidden && !grants.room_admin);
    let defaults = Grants::new("ku.dk", "seminar", "ada");
    assert_eq!(grants, Grants { name: "Ada".to_owned(), expires: NOW + 3600, ..defaults });
    let back: Grants = serde_json::from_str(&serde_json::to_string(&grants).unwrap()).unwrap();
    assert_eq!(back, Grants { room: String::new(), ..grants }, "the name of the room stays at the gateway");
}

#[test]
fn a_token_that_lives_too_long_is_refused() {
    let day = DEFAULT_MAX_LIFE.as_secs();
    let lives = |from: u64, to: u64| {
        let mut claims = claims();
        claims["nbf"] = json!(from);
        claims["exp"] = json!(to);
        verify(&ring(), &hs256(&claims), now()).map(drop)
    };
    assert_eq!(lives(NOW - 10, NOW - 10 + day), Ok(()));
    assert_eq!(lives(NOW - 10, NOW + day + 60), Err(TokenError::LongLived));
    assert_eq!(lives(NOW - 30 * day, NOW + 60), Err(TokenError::LongLived), "it has been valid for a month");
    assert_eq!(lives(0, NOW + day), Ok(()), "without nbf it counts from now");
    assert_eq!(lives(0, NOW + day + 61), Err(TokenError::LongLived));
    assert_eq!(lives(NOW - 10, u64::MAX >> 11), Err(TokenError::LongLived));
    let patient = ring().with_max_life(Duration::from_secs(30 * day));
    let mut month = claims();
    month["exp"] = json!(NOW + 29 * day);
    assert!(verify(&patient, &hs256(&month), now()).is_ok());
}

#[test]
fn a_short_secret_or_one_of_few_characters_is_weak() {
    for weak in ["", "secret", &"x".repeat(64), &"01".repeat(32), "0123456789abcdef0123456789abcde"] {
        assert!(is_weak(weak), "{weak}");
    }
    for strong in ["0123456789abcdef0123456789abcdef", "K3q9f0cS7mN2vB8xZ1wL5tR6yU4iO0pA=="] {
        assert!(!is_weak(strong), "{strong}");
    }
}

#[test]
fn token_of_a_livekit_sdk_is_accepted() {
    let token = livekit_token::AccessToken::with_api_key("devkey", "secret")
        .with_identity("ada")
        .with_attributes([("seat", "4")])
        .with_kind("agent")
        .with_grants(livekit_token::VideoGrants {
            room_join: true,
            room: "seminar".into(),
            can_publish: Some(false),
            ..Default::default()
        })
        .to_jwt()
        .unwrap();
    let grants = verify_join(&ring(), &token, SystemTime::now()).unwrap();
    assert!(!grants.can_publish && !grants.can_publish_data, "data follows canPublish when unset");
    assert_eq!(grants.attributes.get("seat").map(String::as_str), Some("4"));
    assert_eq!(grants.kind, livekit_protocol::participant_info::Kind::Agent as i32);
}

#[test]
fn fields_that_are_null_are_absent() {
    let mut some = claims();
    some["attributes"] = json!({"color": null, "seat": "4"});
    let grants = verify_join(&ring(), &hs256(&some), now()).unwrap();
    assert_eq!(grants.attributes.len(), 1, "{:?}", grants.attributes);
    let plain = verify_join(&ring(), &hs256(&claims()), now()).unwrap();
    let mut nulls = claims();
    for field in ["attributes", "metadata", "kind", "sip", "roomConfig", "sha256", "nbf", "unknown"] {
        nulls[field] = json!(null);
    }
    for grant in ["canPublish", "canSubscribe", "canPublishData", "canPublishSources", "hidden", "recorder"] {
        nulls["video"][grant] = json!(null);
    }
    assert_eq!(verify_join(&ring(), &hs256(&nulls), now()).unwrap(), plain);
    nulls["exp"] = json!(null);
    assert!(verify_join(&ring(), &hs256(&nulls), now()).is_err(), "a token without an end");
}

#[test]
fn a_token_of_the_meeting_page_is_of_a_guest() {
    assert!(!verify_join(&ring(), &hs256(&claims()), now()).unwrap().guest);
    let mut guest = claims();
    guest["attributes"] = json!({ GUEST_ATTRIBUTE: "true" });
    assert!(verify_join(&ring(), &hs256(&guest), now()).unwrap().guest);
}

#[test]
fn a_key_that_asks_for_an_audience_takes_only_tokens_for_it() {
    let mut ring = ring();
    assert!(ring.require_audience("devkey", "cluster-1"));
    assert!(!ring.require_audience("unknown", "cluster-1"));
    let verify = |audience: Option<Value>| {
        let mut claims = claims();
        claims["aud"] = audience.unwrap_or_default();
        verify_join(&ring, &hs256(&claims), now()).map(|grants| grants.identity)
    };
    for good in [json!("cluster-1"), json!(["cluster-0", "cluster-1"])] {
        assert_eq!(verify(Some(good)).unwrap(), "ada");
    }
    for bad in [json!("cluster-2"), json!("cluster-11"), json!([]), json!(["a"]), json!(1), json!({})] {
        assert_eq!(verify(Some(bad.clone())), Err(TokenError::Audience), "{bad}");
    }
    assert_eq!(verify(None), Err(TokenError::Audience));
    // Other keys ask for none.
    let other = with("/iss", json!("other"));
    let token = sign(json!({"alg": "HS256"}), &other, "other-secret");
    assert!(verify_join(&ring, &token, now()).is_ok());
}

#[test]
fn sources_restrict_publishing_even_when_unknown() {
    let mut some = claims();
    some["video"]["canPublishSources"] = json!(["microphone", "hologram"]);
    let grants = verify_join(&ring(), &hs256(&some), now()).unwrap();
    assert!(grants.may_publish(TrackSource::Microphone));
    assert!(!grants.may_publish(TrackSource::Camera));
    some["video"]["canPublishSources"] = json!(["hologram"]);
    let grants = verify_join(&ring(), &hs256(&some), now()).unwrap();
    assert!(!grants.may_publish(TrackSource::Camera) && !grants.may_publish(TrackSource::Unknown));
    some["video"]["canPublishSources"] = json!(["camera"]);
    some["video"]["canPublish"] = json!(false);
    assert!(!verify_join(&ring(), &hs256(&some), now()).unwrap().may_publish(TrackSource::Camera));
}

#[test]
fn clocks_may_differ_by_the_leeway_only() {
    let at = |exp: u64, nbf: u64| {
        let mut some = claims();
        some["exp"] = json!(exp);
        some["nbf"] = json!(nbf);
        verify_join(&ring(), &hs256(&some), now()).map(|_| ())
    };
    assert_eq!(at(NOW - 59, 0), Ok(()));
    assert_eq!(at(NOW - 60, 0), Err(TokenError::Expired));
    assert_eq!(at(NOW + 1, NOW + 60), Ok(()));
    assert_eq!(at(NOW + 1, NOW + 61), Err(TokenError::NotYetValid));
}

#[test]
fn no_bad_token_is_accepted() {
    use TokenError as E;
    let good = hs256(&claims());
    let part = |n: usize| good.split('.').nth(n).unwrap().to_owned();
    let none = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        format!("{header}.{}.", part(1))
    };
    let header = |extra: Value, secret: &str| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        for (key, value) in extra.as_object().unwrap() {
            header[key] = value.clone();
        }
        sign(header, &claims(), secret)
    };
    let signature = part(2);
    let flipped = format!("{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);

    let corpus: Vec<(&str, String, TokenError)> = vec![
        ("nothing", String::new(), E::Missing),
        ("a word", "token".into(), E::Malformed),
        ("dots only", "..".into(), E::Malformed),
        ("two parts", format!("{}.{}", part(0), part(1)), E::Malformed),
        ("four parts", format!("{good}.{}", part(2)), E::Malformed),
        ("five parts as of a JWE", format!("{good}.a.b"), E::Malformed),
        ("alg none", none("none"), E::Algorithm),
        ("alg None", none("None"), E::Algorithm),
        ("alg NONE with the good signature", format!("{}{}", none("NONE"), part(2)), E::Algorithm),
        ("alg empty", none(""), E::Algorithm),
        ("alg HS384", sign(json!({"alg": "HS384"}), &claims(), "secret"), E::Algorithm),
        ("alg HS512", sign(json!({"alg": "HS512"}), &claims(), "secret"), E::Algorithm),
        (
            "alg RS256 signed with the secret",
            sign(json!({"alg": "RS256"}), &claims(), "secret"),
            E::Algorithm,
        ),
        ("alg EdDSA", sign(json!({"alg": "EdDSA"}), &claims(), "secret"), E::Algorithm),
        ("alg lower case", sign(json!({"alg": "hs256"}), &claims(), "secret"), E::Algorithm),
        ("alg a number", sign(json!({"alg": 256}), &claims(), "secret"), E::Algorithm),
        ("alg missing", sign(json!({"typ": "JWT"}), &claims(), "secret"), E::Algorithm),
        ("header not an object", sign_raw("[\"HS256\"]", &claims().to_string(), "secret"), E::Malformed),
        ("header not JSON", sign_raw("HS256", &claims().to_string(), "secret"), E::Malformed),
        ("critical extension", header(json!({"crit": ["b64"], "b64": false}), "secret"), E::Malformed),
        ("kid of another key", header(json!({"kid": "other"}), "other-secret"), E::Signature),
        ("kid as a path", header(json!({"kid": "../../dev/null"}), ""), E::Signature),
        ("kid as SQL", header(json!({"kid": "x' UNION SELECT 'a"}), "a"), E::Signature),
        (
            "a key of its own in jwk",
            header(json!({"jwk": {"kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine")}}), "mine"),
            E::Signature,
        ),
        (
            "a key of its own by jku",
            header(json!({"jku": "https://evil.example/jwks"}), "mine"),
            E::Signature,
        ),
        ("empty secret", header(json!({}), ""), E::Signature),
        ("secret of another key", header(json!({}), "other-secret"), E::Signature),
        ("secret with a space", header(json!({}), "secret "), E::Signature),
        ("signature empty", format!("{}.{}.", part(0), part(1)), E::Signature),
        ("signature cut", format!("{}.{}.{}", part(0), part(1), &part(2)[..20]), E::Signature),
        ("signature altered", format!("{}.{}.{flipped}", part(0), part(1)), E::Signature),
        (
            "claims altered",
            format!(
                "{}.{}.{}",
                part(0),
                URL_SAFE_NO_PAD.encode(with("/sub", json!("eve")).to_string()),
                part(2)
            ),
            E::Signature,
        ),
        (
            "issuer changed to another key after signing",
            format!(
                "{}.{}.{}",
                part(0),
                URL_SAFE_NO_PAD.encode(with("/iss", json!("other")).to_string()),
                part(2)
            ),
            E::Signature,
        ),
        ("unknown issuer", hs256(&with("/iss", json!("nobody"))), E::UnknownKey),
        ("empty issuer", hs256(&with("/iss", json!(""))), E::UnknownKey),
        ("issuer with other case", hs256(&with("/iss", json!("DevKey"))), E::UnknownKey),
        ("issuer missing", hs256(&without("iss")), E::Malformed),
        ("issuer a list", hs256(&with("/iss", json!(["devkey", "other"]))), E::Malformed),
        ("expired", hs256(&with("/exp", json!(NOW - 3600))), E::Expired),
        ("expiry missing", hs256(&without("exp")), E::Expired),
        ("expiry zero", hs256(&with("/exp", json!(0))), E::Expired),
        ("expiry negative", hs256(&with("/exp", json!(-1))), E::Malformed),
        ("expiry a text", hs256(&with("/exp", json!("tomorrow"))), E::Malformed),
        ("not yet valid", hs256(&with("/nbf", json!(NOW + 3600))), E::NotYetValid),
        ("no join", hs256(&with("/video/roomJoin", json!(false))), E::NoJoin),
        ("no grants", hs256(&without("video")), E::NoJoin),
        ("only admin", hs256(&with("/video", json!({"roomAdmin": true, "room": "seminar"}))), E::NoJoin),
        (
            "grants a list",
            hs256(&with("/video", json!([false, false, false, false, true, "seminar"]))),
            E::Malformed,
        ),
        ("join a text", hs256(&with("/video/roomJoin", json!("true"))), E::Malformed),
        ("no identity", hs256(&without("sub")), E::NoIdentity),
        ("empty identity", hs256(&with("/sub", json!(""))), E::NoIdentity),
        ("no room", hs256(&with("/video", json!({"roomJoin": true}))), E::NoRoom),
        ("long identity", hs256(&with("/sub", json!("x".repeat(257)))), E::TooLong),
        ("long room", hs256(&with("/video/room", json!("x".repeat(257)))), E::TooLong),
        ("identity with a line break", hs256(&with("/sub", json!("ada\nadmin"))), E::BadName),
        ("room with a zero", hs256(&with("/video/room", json!("seminar\0"))), E::BadName),
        ("padded base64", format!("{good}="), E::Malformed),
        ("leading space", format!(" {good}"), E::Malformed),
        ("too long", format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES)), E::Malformed),
        ("payload not an object", sign_raw("{\"alg\":\"HS256\"}", "null", "secret"), E::Malformed),
    ];
    assert!(corpus.len() >= 30);
    for (what, token, expected) in corpus {
        let got = verify_join(&ring(), &token, now());
        assert_eq!(got.map(|_| ()), Err(expected), "{what}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let printed = format!("{:?}", ring());
    assert!(!printed.contains("secret\"") && !printed.contains("other-secret"), "{printed}");
    assert!(printed.contains("redacted"));
}

#[test]
fn a_key_without_a_secret_is_not_added() {
    let mut ring = KeyRing::new();
    assert!(!ring.insert("open", "", "ku.dk"));
    let token = sign(json!({"alg": "HS256"}), &with("/iss", json!("open")), "");
    assert_eq!(verify_join(&ring, &token, now()).map(|_| ()), Err(TokenError::UnknownKey));
}
