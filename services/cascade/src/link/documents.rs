//! The signed documents of the two nodes of a link: each tells the other which versions it holds.

use super::established::EstablishedLink;
use super::runtime::LinkRuntime;
use super::table::LinkState;
use crate::documents::{HeldDocument, decode, encode};
use crate::event::DownReason;
use std::time::Duration;
use systir_proto::cluster::v1::DocumentList;
use systir_proto::cluster::v1::session_message::Body;
use tokio::time::Instant;

/// Between two lists of a peer that the node sees, at least.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells the peer of a link which documents this node holds.
pub(super) fn announce(runtime: &LinkRuntime, link: &EstablishedLink) {
    link.send(Body::Documents(encode(&runtime.handler.document_versions())));
}

/// The same on all links.
pub(crate) fn announce_to_all(runtime: &LinkRuntime) {
    let list = encode(&runtime.handler.document_versions());
    for peer in runtime.table.peers().values() {
        if let LinkState::Up(link) = &peer.state {
            link.send(Body::Documents(list.clone()));
        }
    }
}

/// The peer's last list that the node has not seen.
#[derive(Default)]
pub(super) struct Offers {
    waiting: Option<Vec<HeldDocument>>,
    passed_on: Option<Instant>,
}

impl Offers {
    /// A list arrives. It replaces one that still waits.
    pub(super) fn receive(&mut self, list: DocumentList) -> Result<(), DownReason> {
        self.waiting = Some(decode(list).map_err(|what| DownReason::Protocol(what.to_owned()))?);
        Ok(())
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns when the waiting list may be passed on.
    pub(super) async fn due(&self) {
        if let Some(last) = self.passed_on {
            tokio::time::sleep_until(last + INTERVAL).await;
        }
    }

    /// Passes the waiting list on to the node.
    pub(super) fn pass_on(&mut self, runtime: &LinkRuntime, link: &EstablishedLink) {
        if let Some(offered) = self.waiting.take() {
            self.passed_on = Some(Instant::now());
            runtime.handler.documents_offered(&link.connection.peer(), offered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use systir_proto::cluster::v1::DocumentVersion;

    #[test]
    fn the_newest_list_waits_and_a_malformed_one_ends_the_link() {
        let mut offers = Offers::default();
        assert!(!offers.is_waiting());
        offers.receive(DocumentList::default()).unwrap();
        assert_eq!(offers.waiting, Some(Vec::new()));
        let without_hash =
            DocumentVersion { kind: 1, owner: "ku.dk".to_owned(), version: 1, ..Default::default() };
        let refused = offers.receive(DocumentList { documents: vec![without_hash] });
        assert!(matches!(refused, Err(DownReason::Protocol(_))), "{refused:?}");
    }
}
