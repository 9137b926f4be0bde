//! Seeds that are text: descriptions of real clients, configuration, HTTP bodies; and small binary ones.

use systir_room_tag::test_keys;
use systir_version::VersionRange;

use super::{Seed, root};

/// Copies of files, each under the name of its own.
fn copies(target: &'static str, files: &[(&str, &str)]) -> Vec<Seed> {
    let copy = |(name, file): &(&str, &str)| {
        let text = std::fs::read(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        (target, (*name).to_owned(), text)
    };
    files.iter().map(copy).collect()
}

fn texts(target: &'static str, texts: &[(&str, &[u8])]) -> Vec<Seed> {
    texts.iter().map(|(name, text)| (target, (*name).to_owned(), text.to_vec())).collect()
}

/// A header of version 2: command and protocol, and what follows the length.
fn proxy_v2(command: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short header").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, protocol], &length, body, b"GET / HTTP/1.1\r\n"]
        .concat()
}

fn proxy_headers() -> Vec<Seed> {
    let ports = [0x12, 0x34, 0x01, 0xbb];
    let v4 = [&[192, 0, 2, 7, 198, 51, 100, 1], ports.as_slice()].concat();
    let v6 = [&[0x20; 32], ports.as_slice()].concat();
    let with_name = [v4.as_slice(), &[2, 0, 4], b"host", &[3, 0, 4, 1, 2, 3, 4]].concat();
    texts(
        "proxy_header",
        &[
            ("v1-tcp4", b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\nGET / HTTP/1.1\r\n"),
            ("v1-tcp6", b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\nGET"),
            ("v1-unknown", b"PROXY UNKNOWN\r\nGET"),
            ("v2-tcp4", &proxy_v2(1, 0x11, &v4)),
            ("v2-tcp6", &proxy_v2(1, 0x21, &v6)),
            ("v2-local", &proxy_v2(0, 0, &[])),
            ("v2-more", &proxy_v2(1, 0x11, &with_name)),
        ],
    )
}

/// Claims, after what the institution asks of its tokens; and a token.
fn tokens() -> Vec<Seed> {
    let plain =
        br#"{"iss":"devkey","sub":"ada","exp":1800003600,"video":{"roomJoin":true,"room":"seminar"}}"#;
    let all = br#"{"iss":"devkey","sub":"ada","nbf":1800000000,"exp":1800086400,"name":"Ada","kind":"standard","metadata":"{}",
        "attributes":{"a":"b"},"sha256":"","sip":{"admin":true},"video":{"roomJoin":true,"room":"seminar","roomAdmin":true,
        "canPublish":true,"canSubscribe":true,"canPublishData":false,"canPublishSources":["camera","SCREEN_SHARE","x"],
        "canUpdateOwnMetadata":true,"hidden":true,"recorder":true,"agent":true}}"#;
    let guest = br#"{"iss":"devkey","sub":"guest-1","exp":1800000600,"aud":"systir","attributes":{"systir.guest":"true"},
        "video":{"roomJoin":true,"room":"seminar","canPublish":false}}"#;
    let short =
        br#"{"iss":"devkey","sub":"ada","nbf":1799999999.5,"exp":1800003600.25,"aud":["another","systir"],
        "attributes":{"a":null},"video":{"roomJoin":true,"room":"seminar","hidden":null,"canPublish":null}}"#;
    let claims = |choices: u8, claims: &[u8]| [&[choices], claims].concat();
    texts(
        "token",
        &[
            ("joins", systir_fuzz::claims::signed(plain).as_bytes()),
            ("claims", &claims(0, plain)),
            ("claims-all", &claims(0, all)),
            ("claims-guest", &claims(1, guest)),
            ("claims-short", &claims(3, short)),
            // A guest who may publish a camera only; times, and an attribute that is null.
            ("changes", &claims(4, b"\x0b\x04\x04true\x13\x06\x01x\x10\x02\x09\x08\x00\x00")),
            ("changed-times", &claims(7, b"\x03\x0b\x7f\xff\x02\x0a\x80\x64\x0b\x01")),
        ],
    )
}

/// Steps of a node that is offered grants: the nodes are cph-2, which is itself, cph-1, osl-1, and one that is not approved.
fn grant_offers() -> Vec<Seed> {
    const ALL: u8 = 0xff;
    let first = [5, 5, 1, 0, 0, 0b10, ALL, 0x80, 0].as_slice();
    let gone = |node: u8| [8, node];
    // After cph-1.
    let takeover = [5, 6, 2, 2, 0, 0b1001_0010, ALL, 0x80, 0].as_slice();
    let (own, leads) = ([4, 0].as_slice(), [2, 0].as_slice());
    // After cph-2, from osl-1 itself, two epochs later.
    let back = [5, 6, 2, 3, 0, 0b1000_0010, ALL, 0x80, 0].as_slice();
    let deny = [1, 1].as_slice();
    let other_room = [5, 6, 2, 0, 0, 0b10, ALL, 0x80, 0].as_slice();
    let ours = [first, &gone(1), takeover, &gone(2), own].concat();
    texts(
        "grant_offers",
        &[
            ("first", first),
            ("takeover", &[first, &gone(1), takeover].concat()),
            ("own", &ours),
            ("back", &[ours.as_slice(), leads, back].concat()),
            ("denied", &[first, deny, other_room].concat()),
        ],
    )
}

fn descriptions() -> Vec<Seed> {
    const CAPTURED: &str = "services/livekit/golden/captured";
    let of = |target, suffix: &str| {
        let clients = ["chromium", "firefox", "libwebrtc", "pion"];
        let files = clients.map(|client| format!("{CAPTURED}/{client}-{suffix}.sdp"));
        let names: Vec<_> = clients
            .iter()
            .zip(&files)
            .map(|(client, file)| (format!("captured-{client}"), file.as_str()))
            .collect();
        let names: Vec<_> = names.iter().map(|(name, file)| (name.as_str(), *file)).collect();
        copies(target, &names)
    };
    [of("offer", "offer"), of("answer", "subscriber-answer")].concat()
}

pub(super) fn all() -> Vec<Seed> {
    let tags = ["", "lecture", "a name of more than thirty-two bytes, in two blocks"];
    let names = ["tag-of-none", "tag", "tag-of-two-blocks"];
    let tags = names.iter().zip(tags).map(|(name, room)| {
        let key = test_keys::room(room).key();
        let tag = key.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
        ("room_tag", (*name).to_owned(), tag)
    });
    let mut block = vec![0; 32];
    block[..9].copy_from_slice(b"\0\x07lecture");
    let range = VersionRange::new(0, 3).expect("a range");
    [
        proxy_headers(),
        tokens(),
        grant_offers(),
        descriptions(),
        copies(
            "profile",
            &[
                ("copenhagen", "examples/policy/copenhagen/profile.toml"),
                ("consortium", "examples/policy/consortium/profile.toml"),
                ("exam-rooms", "examples/policy/exam-rooms/profile.toml"),
                ("leased-when-full", "examples/policy/leased-when-full/profile.toml"),
            ],
        ),
        copies(
            "config",
            &[
                ("deploy", "deploy/node.toml"),
                ("two-machines-1", "deploy/two-machines/cph-1.toml"),
                ("two-machines-2", "deploy/two-machines/sto-1.toml"),
            ],
        ),
        texts(
            "api_bodies",
            &[
                ("drain", br#"{"node":"cph-1","deadline_seconds":3600}"#),
                ("undrain", br#"{"node":"cph-1"}"#),
                ("guest", br#"{"room":"lecture","name":"Ada \u00e6"}"#),
                ("unknown-field", br#"{"node":"cph-1","now":true}"#),
            ],
        ),
        texts(
            "version",
            &[
                ("bytes", &range.to_bytes()),
                ("json", &serde_json::to_vec(&range).expect("JSON")),
                ("later", br#"{"newest":3,"oldest":2,"more":1}"#),
                ("reversed", br#"{"oldest":3,"newest":2}"#),
            ],
        ),
        texts("room_tag", &[("block", &block), ("two-blocks", &[block.as_slice(), &[0; 32]].concat())]),
        tags.collect(),
    ]
    .concat()
}
