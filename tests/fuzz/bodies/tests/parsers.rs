//! Parsers and their fuzz targets. A function that is named like a parser and whose first parameter is text or bytes must be in
//! these lists, so that a new one is noticed. Parsers with other names are not found.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use systir_fuzz::TARGETS;

/// Files under `services`, and the target that reaches their parsers.
const PARSERS: &[(&str, &str)] = &[
    ("assignment/src/lib.rs", "room_key"),
    ("cascade/src/frame.rs", "frame"),
    ("cascade/src/grpc/first_message.rs", "messages"),
    ("cascade/src/grpc/session_codec.rs", "messages"),
    ("documents/src/document.rs", "document"),
    ("documents/src/grant.rs", "grant"),
    ("documents/src/hash.rs", "grant"),
    ("documents/src/key.rs", "document"),
    ("documents/src/lifetime.rs", "document"),
    ("documents/src/node_note.rs", "grant"),
    ("documents/src/note.rs", "document"),
    ("documents/src/pins.rs", "document"),
    ("documents/src/prefix.rs", "document"),
    ("documents/src/ticket.rs", "ticket"),
    ("documents/src/ticket_permission.rs", "ticket"),
    ("forwarding/src/codec/vp8.rs", "vp8"),
    ("grants/src/offer.rs", "grant_offers"),
    ("identity/src/spiffe.rs", "spiffe"),
    ("journal/src/line.rs", "journal"),
    ("journal/src/time.rs", "journal"),
    ("livekit/src/entries.rs", "signal"),
    ("livekit/src/sdp/description.rs", "offer"),
    ("livekit/src/sdp/offer.rs", "offer"),
    ("livekit/src/token/grants.rs", "token"),
    ("policy-profile/src/hours.rs", "profile"),
    ("policy-profile/src/profile.rs", "profile"),
    ("policy/src/action.rs", "policy"),
    ("policy/src/sentence.rs", "policy"),
    ("registry/src/record.rs", "record"),
    ("room/src/body.rs", "room_link"),
    ("room/src/core/tickets.rs", "room_link"),
    ("room/src/ticket.rs", "room_link"),
    ("room/src/wire.rs", "room_update"),
    ("rtp/src/header.rs", "rtp_header"),
    ("rtp/src/link.rs", "link_packet"),
    ("rtp/src/rtcp/mod.rs", "rtcp"),
    ("rtp/src/rtcp/remb.rs", "rtcp"),
    ("rtp/src/twcc.rs", "rtcp"),
    ("transport/src/dcep.rs", "dcep"),
    ("transport/src/sctp/mod.rs", "established_sctp"),
    ("transport/src/srtp/mod.rs", "srtp"),
    ("transport/src/transport.rs", "srtp"),
];

/// Files whose parsers read only what their operator gives to their own program, and why that needs no target.
const OWN: &[(&str, &str)] = &[
    ("ctl/src/dates.rs", "an argument of systirctl"),
    ("documents/src/signing_key.rs", "a private key of one's own"),
    ("policy-proof/src/decision_table.rs", "a table in a test or on the command line"),
    ("policy/src/demo.rs", "files of this repository"),
    ("policy/src/signing.rs", "a document that one is about to sign"),
    ("relay/src/api_keys.rs", "a name in one's own configuration"),
    ("relay/src/startup_files.rs", "a field of one's own configuration"),
    ("room-tag/src/room_key.rs", "a secret of one's own"),
];

/// Files whose functions compare foreign input or pass it on, and read nothing of it themselves.
const UNREAD: &[(&str, &str)] = &[
    ("cascade/src/link/link_rooms.rs", "finds the room of a key"),
    ("cascade/src/quic/link_media.rs", "queues a message, which the room decodes: room_link"),
    ("identity/src/verify.rs", "rustls verifies the signature of a handshake"),
    ("registry/src/assignments/records.rs", "passes a grant to its verification: grant"),
    ("relay/src/serve/connection_limit.rs", "compares the first bytes with those of HTTP/2"),
    ("transport/src/srtp/cm.rs", "compares a tag: srtp"),
];

const NAMES: [&str; 15] = [
    "parse",
    "decode",
    "open",
    "open_rtp",
    "open_rtcp",
    "parse_link_packet",
    "from_bytes",
    "from_key",
    "from_str",
    "read",
    "check",
    "receive",
    "judge",
    "fields",
    "verify",
];

/// How the names of other parsers of text begin.
const OF_TEXT: [&str; 4] = ["parse_", "decode_", "read_", "verify_"];

/// How the names of other parsers of bytes begin.
const OF_BYTES: [&str; 7] = ["parse_", "decode_", "read_", "verify_", "check_", "receive_", "has_"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name of the function that the text after `fn ` begins with, and the type of its first parameter.
fn signature(text: &str) -> Option<(&str, &str)> {
    let (name, parameters) = text.split_once('(')?;
    let name = name.split('<').next().unwrap_or_default();
    let parameters = ["&self,", "&mut self,"]
        .iter()
        .find_map(|receiver| parameters.trim_start().strip_prefix(receiver))
        .unwrap_or(parameters);
    let (_, of_type) = parameters.split([',', ')']).next().unwrap_or_default().split_once(": ")?;
    Some((name, of_type.trim_end()))
}

/// Is there a parser in the file, outside its tests?
fn has_parser(text: &str) -> bool {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.split("fn ").skip(1).filter_map(signature).any(|(name, of_type)| {
        let is_reference = of_type.starts_with('&');
        let begins = if of_type == "Bytes" || is_reference && of_type.ends_with("[u8]") {
            OF_BYTES.as_slice()
        } else if is_reference && of_type.ends_with("str") {
            &OF_TEXT
        } else {
            return false;
        };
        NAMES.contains(&name) || begins.iter().any(|begin| name.starts_with(begin))
    })
}

#[test]
fn parsers_are_found_by_their_names_and_their_first_parameter() {
    for parser in [
        "fn parse(text: &str) -> Option<Self> {",
        "    fn check(&mut self, data: &[u8]) -> Result<(), Status> {",
        "pub(crate) fn judge(\n    me: &str,\n    held: Option<&HeldGrant>,\n)",
        "fn verify<'a>(&self, note: &'a str)",
        "fn has_few_fields(message: &[u8])",
        "fn verify_if(\n        note: Bytes,\n",
    ] {
        assert!(has_parser(parser), "{parser}");
        assert!(!has_parser(&format!("#[cfg(test)]\nmod tests {{ {parser} }}")), "{parser}");
    }
    for other in
        ["fn parse(file: &Path)", "fn check_name(name: &str)", "fn read(&self)", "fn hello(me: &str)"]
    {
        assert!(!has_parser(other), "{other}");
    }
}

#[test]
fn each_parser_has_a_target() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../services");
    let mut files = Vec::new();
    for service in std::fs::read_dir(&services).unwrap() {
        sources(&service.unwrap().path().join("src"), &mut files);
    }
    let is_test = |path: &Path| {
        path.ends_with("fuzz.rs") || path.iter().any(|part| part.to_string_lossy().contains("test"))
    };
    let found: BTreeSet<String> = files
        .iter()
        .map(|path| (path.strip_prefix(&services).unwrap(), path))
        .filter(|(name, path)| !is_test(name) && has_parser(&std::fs::read_to_string(path).unwrap()))
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    let listed: BTreeMap<&str, &str> = PARSERS.iter().chain(OWN).chain(UNREAD).copied().collect();
    for file in &found {
        assert!(
            listed.contains_key(file.as_str()),
            "{file} parses foreign input: add a fuzz target, and the file to this list"
        );
    }
    for (file, target) in PARSERS {
        assert!(found.contains(*file), "{file} has no parser any more");
        assert!(TARGETS.iter().any(|(name, _)| name == target), "{file}: there is no target {target}");
    }
    for (file, _) in OWN.iter().chain(UNREAD) {
        assert!(found.contains(*file), "{file} has no parser any more");
    }
}
