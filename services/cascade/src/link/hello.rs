//! `Hello`: the first message of a session in both directions.

use crate::quic::LinkId;
use systir_identity::SpiffeId;
use systir_proto::LINK_VERSION;
use systir_proto::cluster::v1::Hello;
use systir_rtp::extension_table;
use tonic::Status;

/// This node's Hello.
pub(super) fn hello(me: &SpiffeId, link_id: [u8; 16], connections: u8) -> Hello {
    Hello {
        version: LINK_VERSION,
        extension_table: extension_table::VERSION,
        link_id: link_id.to_vec().into(),
        node: me.to_string(),
        connections: connections.into(),
    }
}

/// Checks the Hello of a peer that dialled: the link id, and how many connections the link has.
pub(super) fn check(hello: &Hello) -> Result<(LinkId, u8), Status> {
    if hello.version != LINK_VERSION {
        return Err(Status::failed_precondition(format!(
            "link version {} is not supported; this node uses {LINK_VERSION}",
            hello.version
        )));
    }
    if hello.extension_table != extension_table::VERSION {
        return Err(Status::failed_precondition(format!(
            "extension table {} is not supported; this node uses {}",
            hello.extension_table,
            extension_table::VERSION
        )));
    }
    let id = LinkId::try_from(hello.link_id.as_ref())
        .map_err(|_| Status::invalid_argument("a link id has 16 bytes"))?;
    let connections =
        u8::try_from(hello.connections).ok().filter(|connections| (1..=8).contains(connections));
    let connections = connections.ok_or_else(|| Status::invalid_argument("a link has 1 to 8 connections"))?;
    Ok((id, connections))
}

/// Entry point for the fuzz target: this node answers what it accepts with a Hello that is accepted too.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(peer: &Hello) {
    if let Ok((id, connections)) = check(peer)
        && let Ok(me) = "spiffe://nordu.net/relay/cph-1".parse()
    {
        assert!((1..=8).contains(&connections));
        assert_eq!(check(&hello(&me, id, connections)).ok(), Some((id, connections)));
    }
}
