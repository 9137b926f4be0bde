//! Writes the parts that all of our descriptions share.

use std::fmt::Write as _;

use sdp_types::{Attribute, Connection, Media, Session, Time};

use super::{CandidateProtocol, IceCandidate, LocalTransport, MAX_MESSAGE_BYTES, Origin};

const UNSPECIFIED_ADDRESS: &str = "0.0.0.0";

pub(super) fn session(origin: Origin, bundle: &[&str], mixed_extensions: bool) -> Session {
    let mut attributes = Vec::new();
    if !bundle.is_empty() {
        attributes.push(value("group", format!("BUNDLE {}", bundle.join(" "))));
    }
    if mixed_extensions {
        attributes.push(flag("extmap-allow-mixed"));
    }
    attributes.push(value("msid-semantic", " WMS *"));
    attributes.push(flag("ice-lite"));
    Session {
        origin: sdp_types::Origin {
            username: None,
            sess_id: origin.session.to_string(),
            sess_version: origin.version,
            nettype: "IN".into(),
            addrtype: "IP4".into(),
            unicast_address: "127.0.0.1".into(),
        },
        session_name: "-".into(),
        session_description: None,
        uri: None,
        emails: Vec::new(),
        phones: Vec::new(),
        connection: None,
        bandwidths: Vec::new(),
        times: vec![Time { start_time: 0, stop_time: 0, repeats: Vec::new() }],
        time_zones: Vec::new(),
        key: None,
        attributes,
        medias: Vec::new(),
    }
}

pub(super) fn media(media: &str, port: u16, proto: &str, fmt: String) -> Media {
    Media {
        media: media.into(),
        port,
        num_ports: None,
        proto: proto.into(),
        fmt,
        media_title: None,
        connections: vec![Connection {
            nettype: "IN".into(),
            addrtype: "IP4".into(),
            connection_address: UNSPECIFIED_ADDRESS.into(),
        }],
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

pub(super) fn flag(name: &str) -> Attribute {
    Attribute { attribute: name.into(), value: None }
}

pub(super) fn value(name: &str, value: impl Into<String>) -> Attribute {
    Attribute { attribute: name.into(), value: Some(value.into()) }
}

/// Writes candidates (only the first m-line of the bundle needs them), credentials and fingerprint.
pub(super) fn transport(into: &mut Media, host: LocalTransport<'_>, setup: &str, with_candidates: bool) {
    if with_candidates {
        for (index, candidate) in host.candidates.iter().enumerate() {
            into.attributes.push(value("candidate", candidate_line(index, candidate)));
        }
        into.attributes.push(flag("end-of-candidates"));
    }
    into.attributes.push(value("ice-ufrag", host.ice.ufrag.as_str()));
    into.attributes.push(value("ice-pwd", host.ice.pwd.as_str()));
    into.attributes.push(value("fingerprint", fingerprint(host.fingerprint)));
    into.attributes.push(value("setup", setup));
}

/// A candidate attribute (RFC 8839 section 5.1). Priorities (RFC 8445 section 5.1.2) follow the order of the
/// list, with UDP before TCP.
fn candidate_line(index: usize, candidate: &IceCandidate) -> String {
    let local = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let (transport, preference, suffix) = match candidate.protocol {
        CandidateProtocol::Udp => ("udp", 126_u32, ""),
        // RFC 6544 section 4.2: passive, with a lower priority than UDP.
        CandidateProtocol::Tcp => ("tcp", 90, " tcptype passive"),
    };
    let priority = (preference << 24) | ((local & 0xffff) << 8) | 255;
    let (ip, port) = (candidate.address.ip().to_canonical(), candidate.address.port());
    format!("{} 1 {transport} {priority} {ip} {port} typ host{suffix}", index + 1)
}

fn fingerprint(digest: &[u8; 32]) -> String {
    let mut text = String::from("sha-256 ");
    for (index, byte) in digest.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

pub(super) fn data_channel(into: &mut Media) {
    into.attributes.push(value("sctp-port", "5000"));
    into.attributes.push(value("max-message-size", MAX_MESSAGE_BYTES.to_string()));
}

pub(super) fn text(session: &Session) -> String {
    let mut bytes = Vec::new();
    // Writing to memory does not fail; if it did, clients would refuse the empty description.
    let _ = session.write(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}
