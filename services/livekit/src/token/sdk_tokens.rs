//! Claims of tokens of every LiveKit server SDK, in `golden/tokens`; its README says how each was made.

use std::{fs, path::PathBuf};

use livekit_protocol::participant_info::Kind;
use serde_json::Value;

use super::tests::{hs256, ring};
use super::*;

fn files() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/tokens");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

fn claims(name: &str) -> Value {
    let path = files().into_iter().find(|path| path.file_stem().unwrap() == name).unwrap();
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The grants of the token, a minute before it expires.
fn grants(name: &str) -> Grants {
    let claims = claims(name);
    let now = UNIX_EPOCH + Duration::from_secs(claims["exp"].as_f64().unwrap() as u64 - 60);
    let grants = verify_join(&ring(), &hs256(&claims), now);
    grants.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(ending: &str) -> Vec<String> {
    let names = files().into_iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name.ends_with(ending)).collect()
}

fn attributes(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_plain_token_of_each_sdk_joins_with_livekits_defaults() {
    let names = names("-plain");
    assert_eq!(names.len(), 8, "{names:?}");
    for name in names {
        let grants = grants(&name);
        let expires = grants.expires;
        assert_eq!(Grants { expires: 0, ..grants }, Grants::new("ku.dk", "seminar", "ada"), "{name}");
        assert_eq!(expires, claims(&name)["exp"].as_f64().unwrap() as u64, "{name}");
    }
}

#[test]
fn a_token_with_all_claims_of_each_sdk_grants_them() {
    let names = names("-full");
    assert_eq!(names.len(), 9, "{names:?}");
    for name in names {
        let grants = grants(&name);
        let claims = claims(&name);
        // Not all SDKs have these.
        let has = |claim: &str| claims.pointer(claim).is_some();
        let expected = Grants {
            name: "Ada".to_owned(),
            metadata: r#"{"role":"chair"}"#.to_owned(),
            attributes: attributes(if has("/attributes") {
                &[("seat", "4"), ("color", "teal")]
            } else {
                &[]
            }),
            kind: if has("/kind") { Kind::Agent } else { Kind::Standard } as i32,
            can_publish: true,
            can_subscribe: false,
            can_publish_data: false,
            can_publish_sources: Some(vec![
                PublishSource::Microphone,
                PublishSource::ScreenShare,
                PublishSource::ScreenShareAudio,
            ]),
            can_update_own_metadata: true,
            hidden: true,
            recorder: true,
            agent: has("/video/agent"),
            room_admin: true,
            expires: grants.expires,
            ..Grants::new("ku.dk", "seminar", "ada")
        };
        assert_eq!(grants, expected, "{name}");
    }
}

/// What the Rust SDK writes. Its times are those of the file.
fn rust_sdk(token: livekit_token::AccessToken, name: &str) -> Value {
    let payload = token.to_jwt().unwrap().split('.').nth(1).unwrap().to_owned();
    let mut written: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    for time in ["exp", "nbf"] {
        written[time] = claims(name)[time].clone();
    }
    written
}

#[test]
fn the_rust_sdk_writes_these_claims() {
    use livekit_token::{
        AccessToken, AgentGrants, InferenceGrants, ObservabilityGrants, SIPGrants, VideoGrants,
    };
    let token = || AccessToken::with_api_key("devkey", "secret").with_identity("ada");
    let join = VideoGrants { room_join: true, room: "seminar".to_owned(), ..Default::default() };
    let plain = token().with_grants(join.clone());
    assert_eq!(rust_sdk(plain, "rust-plain"), claims("rust-plain"));
    let video = VideoGrants {
        room_create: true,
        room_list: true,
        room_record: true,
        room_admin: true,
        destination_room: "overflow".to_owned(),
        can_publish: Some(true),
        can_subscribe: Some(false),
        can_publish_data: Some(false),
        can_publish_sources: ["microphone", "screen_share", "screen_share_audio"].map(str::to_owned).into(),
        can_update_own_metadata: Some(true),
        ingress_admin: true,
        hidden: true,
        recorder: true,
        agent: true,
        ..join
    };
    let room = livekit_protocol::RoomConfiguration {
        name: "seminar".to_owned(),
        empty_timeout: 300,
        max_participants: 40,
        agents: vec![livekit_protocol::RoomAgentDispatch {
            agent_name: "notes".to_owned(),
            metadata: "{}".to_owned(),
            ..Default::default()
        }],
        tags: [("term".to_owned(), "autumn".to_owned())].into(),
        ..Default::default()
    };
    let full = token()
        .with_name("Ada")
        .with_kind("agent")
        .with_metadata(r#"{"role":"chair"}"#)
        .with_attributes([("seat", "4"), ("color", "teal")])
        .with_grants(video)
        .with_sip_grants(SIPGrants { admin: true, call: true })
        .with_agent_grants(AgentGrants { admin: true, ..Default::default() })
        .with_inference_grants(InferenceGrants::default().with_perform())
        .with_observability_grants(ObservabilityGrants::default().with_write())
        .with_sha256("q0w5pbX1m+Vqv6+mXPJQMr9BxFv0EA1kWfZrGBb6w6s=")
        .with_room_config(room);
    assert_eq!(rust_sdk(full, "rust-full"), claims("rust-full"));
}

#[test]
fn a_token_of_the_command_line_joins() {
    let grants = grants("livekit-cli");
    assert_eq!(grants.can_publish_sources, Some(vec![PublishSource::Microphone, PublishSource::ScreenShare]));
    assert!(grants.can_update_own_metadata && grants.can_subscribe && grants.can_publish_data);
    assert_eq!(grants.attributes, attributes(&[("seat", "4")]));
}

#[test]
fn tokens_of_la_suite_meet_join() {
    let color = ("color", "hsl(200, 75%, 60%)");
    let guest = grants("meet-guest");
    assert_eq!(guest.attributes, attributes(&[color, ("is_authenticated", "false")]), "room_role is null");
    assert!(guest.can_publish && !guest.room_admin && !guest.can_update_own_metadata);
    assert_eq!(guest.can_publish_sources.as_ref().map(Vec::len), Some(4));
    let owner = grants("meet-owner");
    let expected = [color, ("room_role", "owner"), ("is_authenticated", "true")];
    assert_eq!(owner.attributes, attributes(&expected));
    assert!(owner.room_admin);
    let listener = grants("meet-listener");
    assert!(!listener.can_publish && listener.can_subscribe && listener.can_publish_data);
}
