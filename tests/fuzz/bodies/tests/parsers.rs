//! Parsers and their fuzz targets. A function that is named like a parser and takes text or bytes must be in this list, so
//! that a new one is noticed. Parsers with other names are not found.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use systir_fuzz::TARGETS;

/// Files under `services`, and the target that reaches their parsers.
const PARSERS: &[(&str, &str)] = &[
    ("assignment/src/lib.rs", "room_key"),
    ("cascade/src/frame.rs", "frame"),
    ("documents/src/document.rs", "document"),
    ("documents/src/grant.rs", "grant"),
    ("documents/src/hash.rs", "grant"),
    ("documents/src/key.rs", "document"),
    ("documents/src/note.rs", "document"),
    ("documents/src/prefix.rs", "document"),
    ("documents/src/ticket.rs", "ticket"),
    ("documents/src/ticket_permission.rs", "ticket"),
    ("forwarding/src/codec/vp8.rs", "vp8"),
    ("identity/src/spiffe.rs", "spiffe"),
    ("journal/src/line.rs", "journal"),
    ("livekit/src/sdp/description.rs", "offer"),
    ("livekit/src/sdp/offer.rs", "offer"),
    ("livekit/src/token/grants.rs", "token"),
    ("policy-profile/src/hours.rs", "profile"),
    ("policy-profile/src/profile.rs", "profile"),
    ("policy/src/action.rs", "policy"),
    ("policy/src/sentence.rs", "policy"),
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
    ("room-tag/src/room_key.rs", "a secret of one's own"),
];

const NAMES: [&str; 9] = [
    "parse",
    "decode",
    "open",
    "open_rtp",
    "open_rtcp",
    "parse_link_packet",
    "from_bytes",
    "from_key",
    "from_str",
];

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

/// Is there a parser in the file, outside its tests?
fn has_parser(text: &str) -> bool {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter_map(|line| line.split_once("fn ")).any(|(_, signature)| {
        let Some((name, parameters)) = signature.split_once('(') else { return false };
        let name = name.split('<').next().unwrap_or_default();
        let first = |receiver: &str| parameters.trim_start_matches(receiver);
        let first = first("&mut self, ").split([',', ')']).next().unwrap_or_default();
        let is_foreign = first.contains(": &") && (first.ends_with("[u8]") || first.ends_with("str"));
        NAMES.contains(&name) && is_foreign
    })
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
    let listed: BTreeMap<&str, &str> = PARSERS.iter().chain(OWN).copied().collect();
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
    assert!(OWN.iter().all(|(file, _)| found.contains(*file)), "a file of OWN has no parser any more");
}
