//! A hostile node: an attacker has the certificate and the node key of a real node, and speaks gRPC and QUIC with code
//! of its own. Whatever it claims, asks and tells, honest nodes send no media and no signalling to a node that policy
//! does not approve, and meetings go on. The kernel counts the packets, outside of every node.

mod home;
mod neighbour;
mod script;
mod spill_node;
mod unapproved;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use script::Script;
use serde_json::{Value, json};
use systir_documents::{Grant, SignedGrant, SigningKey};
use systir_hostile_node::{HostileNode, LINK, Target, hello, serve};
use systir_identity::{Credentials, NodeCertificate, TrustBundle, TrustDomain};
use systir_proto::cluster::v1::room_message::Body as RoomBody;
use systir_proto::cluster::v1::session_message::Body;
use systir_proto::cluster::v1::{
    CarryingNode, GrantPurpose, GrantRequest, OpenRoom, RoomAssignment, RoomMessage, grant_reply,
};
use systir_tests::cluster::Cluster;
use systir_tests::hostile_etcd::{HostileEtcd, Record};
use systir_tests::meeting::{Member, wait_until_all_hear};
use systir_tests::network_namespace::{PacketCounters, in_namespace, run_in_namespace};
use systir_tests::scenario::run_scenario_within;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::unapproved_node::{UNAPPROVED, assert_idle, ruleset};

/// Limit of each wait for an honest node.
const LIMIT: Duration = Duration::from_secs(15);

/// Limit of a whole scenario.
const SCENARIO: Duration = Duration::from_secs(120);

/// Runs a scenario in its own network namespace. `name`: its test.
pub(crate) fn run_attack<F: Future<Output = Result<()>>>(name: &'static str, scenario: F) -> Result<()> {
    if in_namespace() {
        return run_scenario_within(SCENARIO, scenario);
    }
    run_scenario_within(SCENARIO, async move {
        tokio::task::spawn_blocking(move || run_in_namespace(name, SCENARIO)).await?
    })
}

/// A cluster that is attacked.
pub(crate) struct Attacked {
    pub(crate) etcd: HostileEtcd,
    pub(crate) cluster: Cluster,
    pub(crate) packets: PacketCounters,
}

impl Attacked {
    pub(crate) async fn start(capacities: &[(&str, u32)]) -> Result<Self> {
        let (etcd, cluster) = HostileEtcd::start(capacities).await?;
        let packets = PacketCounters::load(&ruleset(&cluster))?;
        Ok(Self { etcd, cluster, packets })
    }

    fn credentials(&self, node: &str) -> Result<Credentials> {
        let read = |file: String| std::fs::read_to_string(self.cluster.folder().join(file));
        let roots = TrustBundle::new().with(TrustDomain::new("nordu.net")?, &read("ca.pem".to_owned())?)?;
        let own = NodeCertificate::from_pem(&read(format!("{node}.pem"))?, &read(format!("{node}.key"))?)?;
        Ok(Credentials::new(own, roots)?)
    }

    pub(crate) fn node_key(&self, node: &str) -> Result<SigningKey> {
        let key = self.cluster.documents()?.node_key(node).context("no node key")?;
        Ok(key.to_text().parse()?)
    }

    fn target(&self, node: &str) -> Result<Target> {
        let at = |offset| SocketAddr::new(link_address(node), self.cluster.port(node, offset));
        Ok(Target { id: TrustDomain::new("nordu.net")?.relay(node)?, quic: at(0), grpc: at(1) })
    }

    /// A hostile node with the identity of this one, which must not run. It dials from the address of its links.
    fn hostile(&self, node: &str) -> Result<HostileNode> {
        HostileNode::at(link_address(node), self.credentials(node)?, self.node_key(node)?)
    }

    /// The attacker takes over a node: its process ends, and the attacker's code listens at its address for gRPC.
    async fn seize(&mut self, node: &str) -> Result<Seized> {
        let leases = self.etcd.records("nodes/").await?;
        let lease = leases.into_iter().find(|(key, _)| key.ends_with(&format!("/{node}")));
        self.cluster.kill(node);
        let listener = TcpListener::bind(self.target(node)?.grpc).await?;
        let script = Arc::new(Script::default());
        let server = serve(listener, self.credentials(node)?, self.node_key(node)?, script.clone());
        // It ends with this value. If it fails before, the test misses its answers.
        let mut serving = JoinSet::new();
        serving.spawn(server);
        let node = self.hostile(node)?;
        Ok(Seized { node, script, lease: lease.context("no lease")?, _serving: serving })
    }

    /// The grant in the record of the only room.
    async fn grant_in_etcd(&self) -> Result<String> {
        let rooms = self.etcd.records("rooms/").await?;
        let (_, record) = rooms.first().context("no room in etcd")?;
        let record: Value = serde_json::from_slice(record)?;
        Ok(record["grant"].as_str().context("no grant")?.to_owned())
    }

    fn read(&self, note: &str) -> Result<Grant> {
        let documents = self.cluster.documents()?;
        let keys = |home: &str| documents.node_key(home).map(SigningKey::public).into_iter().collect();
        Ok(SignedGrant::verify(note, keys)?.grant().clone())
    }

    /// A changed grant that lists all nodes in all roles, signed anew with the key of a node.
    fn sign(&self, signer: &str, grant: &Grant, change: impl FnOnce(&mut Grant)) -> Result<String> {
        let all = || ["cph-1", "sto-1", UNAPPROVED].map(str::to_owned).into();
        let mut forged = grant.clone();
        (forged.terms.homes, forged.terms.spill, forged.terms.gateways) = (all(), all(), all());
        change(&mut forged);
        Ok(SignedGrant::sign(forged, &self.node_key(signer)?)?.note().to_string())
    }

    /// The attacker writes a lease, as of now, with other fields.
    async fn write_lease(&self, (key, lease): &Record, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut lease: Value = serde_json::from_slice(lease)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        lease["load"]["at_ms"] = json!(now);
        change(&mut lease);
        self.etcd.put(&(key.clone(), lease.to_string().into_bytes())).await
    }

    /// No packet came to or from the unapproved node. The counters work: an approved node has packets.
    pub(crate) async fn assert_unapproved_idle(&self) -> Result<()> {
        assert_idle(&self.cluster, &self.packets).await?;
        for what in ["address", "signalling"] {
            assert_eq!(self.packets.packets(&format!("aws_sto_1_{what}"))?, 0, "packets at its {what}");
        }
        for counter in ["sto_1_address", "cph_1_address"] {
            ensure!(self.packets.packets(counter)? > 0, "{counter} counts nothing");
        }
        Ok(())
    }
}

fn link_address(node: &str) -> IpAddr {
    Cluster::link_address(node).into()
}

/// A node whose place the attacker took.
struct Seized {
    node: HostileNode,
    script: Arc<Script>,
    /// Its last true lease.
    lease: Record,
    _serving: JoinSet<Result<()>>,
}

/// The next message of a hostile node's link that matches.
async fn until<T>(
    node: &mut HostileNode,
    what: &str,
    mut matching: impl FnMut(&Body) -> Option<T>,
) -> Result<T> {
    let mut seen = Vec::new();
    let found = async {
        while let Some(body) = node.receive().await? {
            if let Some(found) = matching(&body) {
                return Ok(found);
            }
            seen.push(format!("{body:?}"));
        }
        anyhow::bail!("the link ended")
    };
    timeout(LIMIT, found)
        .await
        .unwrap_or_else(|_| anyhow::bail!("not within {LIMIT:?}"))
        .with_context(|| format!("{what}; instead: {seen:?}"))
}

/// Opens a link with its QUIC connection.
async fn link(node: &mut HostileNode, to: &Target) -> Result<()> {
    node.session(to, hello("cph-1")).await?;
    ensure!(node.quic(to, LINK).await?, "the QUIC connection is not bound");
    Ok(())
}

/// Asks for a room's grant, and tells one. None: refused.
async fn ask_grant(
    node: &HostileNode,
    to: &Target,
    room: &str,
    purpose: GrantPurpose,
    grant: &str,
) -> Result<Option<String>> {
    let request = GrantRequest {
        room: room.to_owned(),
        grant: grant.to_owned(),
        purpose: purpose.into(),
        ..GrantRequest::default()
    };
    let reply = node.client(to).await?.ask_grant(request).await?.into_inner();
    match reply.result.context("an empty reply")? {
        grant_reply::Result::Assignment(told) => Ok(Some(told.grant)),
        grant_reply::Result::Refused(refused) => {
            ensure!(refused.assignment.is_none(), "a refusal tells the grant: {refused:?}");
            Ok(None)
        }
    }
}

fn open_room(room: &str, epoch: u64, grant: &str) -> Body {
    Body::OpenRoom(OpenRoom { room: room.to_owned(), epoch, policy_version: 1, grant: grant.to_owned() })
}

fn in_room(room: &str, body: RoomBody) -> Body {
    Body::Room(RoomMessage { room: room.to_owned(), body: Some(body) })
}

/// A grant, and that the unapproved node carries the room.
fn told(grant: &str) -> RoomAssignment {
    let carrying = CarryingNode { node: UNAPPROVED.to_owned(), since_ms: 1 };
    RoomAssignment { grant: grant.to_owned(), spill: vec![carrying], created_ms: 1 }
}

/// Counts the datagrams of a link that are more than a heartbeat, until it is dropped.
async fn count_packets(connection: &quinn::Connection, count: &mut usize) {
    while let Ok(datagram) = connection.read_datagram().await {
        // A heartbeat has one byte.
        *count += usize::from(datagram.len() > 1);
    }
    // The connection has ended: the caller decides what that means.
    std::future::pending().await
}

/// Waits until all members have received all others anew a few times: what a node sends elsewhere has come by then.
async fn while_media_flows(members: &[Member]) -> Result<()> {
    for _ in 0..3 {
        for member in members {
            member.client.clear_packets();
        }
        wait_until_all_hear(members).await?;
    }
    Ok(())
}
