//! What a hostile node answers: it accepts and confirms everything, and tells what the test says.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use systir_cascade::{BoxFuture, Handler, HeldDocument, ListedNodes, SignalStream};
use systir_documents::{DocumentId, PublicKey};
use systir_identity::{ProvenIdentity, SpiffeId};
use systir_proto::cluster::v1 as wire;
use systir_proto::cluster::v1::grant_reply::Result as Asked;
use systir_proto::cluster::v1::reserve_reply::Result as Reserved;
use systir_proto::cluster::v1::{GrantRequest, ReserveRequest, SignalStart};

use super::*;

/// What the hostile node tells, and what it is asked.
#[derive(Default)]
pub(super) struct Script {
    /// What it tells as the grant of each room.
    pub(super) grant: Mutex<String>,
    /// The documents that it states to have. It gives none.
    pub(super) documents: Mutex<Vec<HeldDocument>>,
    /// Why it refuses seats, if it does. Then it tells its grant too.
    pub(super) refuses: Mutex<Option<wire::RefusalCode>>,
    /// Does it wait with its answer to a request to open a room?
    pub(super) waits: AtomicBool,
    /// Which calls honest nodes made.
    pub(super) asked: Mutex<Vec<&'static str>>,
    /// The participants that gateways gave it.
    pub(super) started: Mutex<Vec<SignalStart>>,
    /// Their signalling, kept open.
    pub(super) streams: Mutex<Vec<SignalStream>>,
    /// If set, it answers the next request for a seat only after this.
    pub(super) answers_after: Mutex<Option<tokio::sync::oneshot::Receiver<()>>>,
}

impl Script {
    fn asked(&self, call: &'static str) {
        self.asked.lock().unwrap().push(call);
    }

    pub(super) fn told(&self) -> wire::RoomAssignment {
        let carrying = wire::CarryingNode { node: "aws-sto-1".to_owned(), since_ms: 1 };
        wire::RoomAssignment {
            grant: self.grant.lock().unwrap().clone(),
            spill: vec![carrying],
            ..Default::default()
        }
    }
}

impl Handler for Script {
    fn open_room<'a>(
        &'a self,
        _: &'a ProvenIdentity,
        _: &'a wire::OpenRoom,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.asked("open_room");
        Box::pin(async {
            while self.waits.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })
    }

    fn may_open(&self, _: &ProvenIdentity, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn grant(&self, _: &str) -> String {
        self.grant.lock().unwrap().clone()
    }

    fn may_be_open(&self, _: &str) -> bool {
        true
    }

    fn ask_grant<'a>(&'a self, _: &'a ProvenIdentity, _: GrantRequest) -> BoxFuture<'a, wire::GrantReply> {
        self.asked("ask_grant");
        Box::pin(ready(wire::GrantReply { result: Some(Asked::Assignment(self.told())) }))
    }

    fn reserve<'a>(&'a self, _: &'a ProvenIdentity, _: ReserveRequest) -> BoxFuture<'a, wire::ReserveReply> {
        self.asked("reserve");
        let refuses = *self.refuses.lock().unwrap();
        let result = if let Some(code) = refuses {
            Reserved::Refused(wire::ReserveRefused {
                code: code.into(),
                assignment: Some(self.told()),
                ..Default::default()
            })
        } else {
            Reserved::Admitted(wire::Admitted { ttl_seconds: 10, last_join: 0 })
        };
        let answers_after = self.answers_after.lock().unwrap().take();
        Box::pin(async {
            if let Some(after) = answers_after {
                let _ = after.await;
            }
            wire::ReserveReply { result: Some(result) }
        })
    }

    fn release<'a>(&'a self, _: &'a ProvenIdentity, _: wire::ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }

    fn signal<'a>(
        &'a self,
        _: &'a ProvenIdentity,
        start: SignalStart,
        stream: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.asked("signal");
        self.started.lock().unwrap().push(start);
        self.streams.lock().unwrap().push(stream);
        Box::pin(ready(Ok(())))
    }

    fn document_versions(&self) -> Vec<HeldDocument> {
        self.documents.lock().unwrap().clone()
    }

    fn documents_offered(&self, _: &ProvenIdentity, _: Vec<HeldDocument>) {}

    fn document(&self, _: &ProvenIdentity, _: &DocumentId, _: u64) -> Option<Arc<str>> {
        self.asked("document");
        None
    }
}

/// Lists every node, at every address.
pub(super) struct Everybody(pub(super) HashMap<SpiffeId, PublicKey>);

impl ListedNodes for Everybody {
    fn node_keys(&self, node: &SpiffeId) -> Vec<PublicKey> {
        self.0.get(node).cloned().into_iter().collect()
    }

    fn may_dial(&self, _: &SpiffeId, _: IpAddr) -> bool {
        true
    }

    fn is_node_address(&self, _: IpAddr) -> bool {
        true
    }
}
