//! etcd and the other nodes, asked with this node's identity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use systir_cascade::{HeldDocument, PeerAddress, PeerProbe};
use systir_doctor::etcd::{self, EtcdEndpoint, RoleFacts};
use systir_doctor::peers::{self, PeerFacts};
use systir_doctor::{Finding, FindingArea};
use systir_documents::{AcceptedDocuments, DocumentRefused, NodeKey, Pins};
use systir_policy::{Authority, PolicyMetrics};
use systir_registry::{EtcdAnswers, Lease, LocalStore};
use systir_version::VersionRange;

use crate::config::RelayConfig;
use crate::documents::start::StartPolicy;
use crate::node_directory::NodeDirectory;
use crate::startup_files::{self, StartupFiles};

/// Limit of fetching what a node has and this one has not.
const FETCH_LIMIT: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Default)]
pub(super) struct NetworkFound {
    pub(super) findings: Vec<Finding>,
    /// Seconds by which the clocks of other nodes are ahead.
    pub(super) ahead: Vec<i64>,
}

/// Asks etcd, then the nodes whose addresses it knows.
pub(super) async fn check(
    config: &RelayConfig,
    start: Option<StartPolicy>,
    files: Option<StartupFiles>,
) -> NetworkFound {
    let mut found = NetworkFound::default();
    let name = &config.node.name;
    let (authority, known) = match start {
        Some(StartPolicy { pins, documents, engine, .. }) => {
            let authority = Arc::new(Authority::new(engine, name, Arc::<PolicyMetrics>::default()));
            (Some(authority), Some((pins, documents.accepted().clone())))
        }
        None => (None, None),
    };
    let institutions = authority.as_ref().map(|authority| authority.approving()).unwrap_or_default();
    // Its files were checked before.
    let Ok(etcd) = startup_files::etcd(config) else { return found };
    let answers = systir_registry::probe(&etcd, name, &institutions).await;
    found.findings.extend(registry(name, &answers));
    let (Some(authority), Some((pins, accepted)), Some(files)) = (authority, known, files) else {
        let what = "not asked: this node's own documents, certificate or key cannot be used";
        found.findings.push(Finding::warning(FindingArea::Peers, "other nodes", what));
        return found;
    };
    if let Some(error) = &answers.failed {
        let what =
            format!("not asked: their addresses are in etcd, which did not tell them: {}", error.reason());
        found.findings.push(Finding::warning(FindingArea::Peers, "other nodes", what));
        return found;
    }
    // Addresses come from the leases that were read just now.
    let directory =
        Arc::new(NodeDirectory::new(authority.clone(), Arc::new(LocalStore::default().registry())));
    let probe = PeerProbe::new(files.credentials, NodeKey::from(files.node_key), directory.clone());
    let others = authority.nodes().into_iter().filter(|facts| facts.id != *name);
    // As a running node: those that no institution approves get no packet from here.
    let others = others.filter(|facts| directory.is_approved_anywhere(&facts.id));
    let asked = others.map(|facts| {
        let lease = answers.leases.iter().find(|lease| lease.node.as_str() == facts.id);
        let asker = Asker { probe: &probe, pins: &pins, accepted: &accepted };
        async move { asker.ask(&facts.id, &facts.spiffe_id, lease).await }
    });
    for facts in join_all(asked).await {
        found.ahead.extend(facts.ahead);
        found.findings.push(peers::peer(&facts, VersionRange::OWN));
    }
    found
}

fn registry(node: &str, answers: &EtcdAnswers) -> Vec<Finding> {
    let mut findings: Vec<Finding> = answers
        .endpoints
        .iter()
        .map(|(address, answer)| {
            let answer =
                answer.as_ref().map_err(|error| error.reason().into_owned()).map(|status| EtcdEndpoint {
                    version: status.version.clone(),
                    has_leader: status.has_leader,
                    faults: status.faults.clone(),
                });
            etcd::endpoint(address, answer.as_ref().map_err(String::as_str))
        })
        .collect();
    if answers.endpoints.iter().all(|(_, answer)| answer.is_err()) {
        return findings;
    }
    let controlled = answers.is_root.map(|is_root| !is_root);
    findings.push(etcd::access_control(controlled));
    let facts = RoleFacts {
        refused: answers.refused.clone(),
        excessive: answers.excessive,
        failed: answers.failed.as_ref().map(|error| error.reason().into_owned()),
    };
    findings.push(etcd::role(node, controlled == Some(true), &facts));
    findings
}

/// What is needed to ask another node.
struct Asker<'a> {
    probe: &'a PeerProbe,
    pins: &'a Pins,
    accepted: &'a AcceptedDocuments,
}

impl Asker<'_> {
    async fn ask(&self, node: &str, spiffe_id: &str, lease: Option<&Lease>) -> PeerFacts {
        let mut facts = PeerFacts { node: node.to_owned(), ..PeerFacts::default() };
        let Some(lease) = lease else { return facts };
        facts.version = Some(lease.version.clone());
        facts.versions = Some(lease.versions);
        let (Ok(id), Ok(grpc), Ok(quic)) = (spiffe_id.parse(), lease.grpc.parse(), lease.quic.parse()) else {
            facts.grpc = Some(format!("its lease states no addresses: {}, {}", lease.grpc, lease.quic));
            return facts;
        };
        let peer = PeerAddress { id, grpc, quic };
        let (answer, quic) = tokio::join!(self.probe.ask(&peer), self.probe.connect_quic(&peer));
        facts.quic = quic.err().map(|error| format!("{error} ({})", peer.quic));
        match answer {
            Ok((held, date)) => {
                facts.ahead = date.as_deref().and_then(seconds_ahead);
                let compared = tokio::time::timeout(FETCH_LIMIT, self.compare(&peer, held, &mut facts)).await;
                if compared.is_err() {
                    facts.unverified.push("they could not be fetched within 3 s".to_owned());
                }
            }
            Err(error) => facts.grpc = Some(format!("{error} ({})", peer.grpc)),
        }
        facts
    }

    /// Compares what the node holds with what is held here. What is other or newer there is fetched and verified under the pins
    /// here.
    async fn compare(&self, peer: &PeerAddress, held: Vec<HeldDocument>, facts: &mut PeerFacts) {
        for HeldDocument { id, version, hash } in held {
            if self.pins.keys_of(&id).is_none() {
                continue;
            }
            let own = self.accepted.newest(&id);
            let same_version = own.is_some_and(|own| own.version() == version);
            if own.is_some_and(|own| {
                own.version() > version || (own.version() == version && own.hash() == hash)
            }) {
                continue;
            }
            let verified = match self.probe.fetch(peer, &id, version).await {
                Ok(note) => self.pins.verify(&note).map_err(|error: DocumentRefused| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match verified {
                Err(error) => facts.unverified.push(format!("{id} version {version}: {error}")),
                Ok(_) if same_version => facts.conflicting.push(format!("{id} version {version}")),
                Ok(_) => facts.newer.push(format!("{id} version {version}")),
            }
        }
    }
}

/// By how many seconds a clock that shows this date is ahead.
fn seconds_ahead(date: &str) -> Option<i64> {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())
    };
    Some(seconds(httpdate::parse_http_date(date).ok()?)? - seconds(SystemTime::now())?)
}
