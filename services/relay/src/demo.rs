//! Three nodes on loopback in one process with an embedded registry: a home node in Copenhagen, an approved
//! spill node in Stockholm, and a node on a machine leased from a cloud company, which no policy approves.
//! Only media also uses the machine's outside address, for browsers without a loopback candidate.

mod forward;
mod instructions;
mod log;
mod policy_page;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use systir_identity::{TrustDomain, ca};
use systir_placement::SeatQuotas;
use systir_policy::demo as texts;
use systir_policy::demo::signed::SignedDemo;
use systir_registry::LocalStore;
use systir_room_tag::RoomKey;
use tokio_util::sync::CancellationToken;

use crate::config::{self, RelayConfig};
use crate::node::Node;

pub use self::log::open as open_log;

/// Options of the demo.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Seats of a node, such as `cph-1=2`; can be repeated.
    #[arg(long = "capacity", value_name = "NODE=N", value_parser = capacity)]
    capacities: Vec<(String, u32)>,
    /// Starts only this node, with its own registry: it knows no other node, running or not. It refuses a
    /// room for which policy does not allow it as home.
    #[arg(long, value_name = "NODE", value_parser = NODES.map(|(name, _)| name))]
    only: Option<String>,
    /// First port of the first node (links); its HTTP port is 10 higher. The next nodes add 100 and 200.
    #[arg(long, default_value_t = 7870, value_name = "PORT", value_parser = value_parser!(u16).range(1..=65_000))]
    ports: u16,
    /// Another address of this machine that also serves pages, signalling and media, besides loopback; for
    /// tests.
    #[arg(long, value_name = "IP", value_parser = address)]
    address: Option<Ipv4Addr>,
    /// Log file, overwritten at each start [default: `.demo/demo.log`, with --only `.demo/NODE.log`].
    /// Warnings are also shown on the terminal.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn capacity(text: &str) -> Result<(String, u32), String> {
    let (node, count) = text.split_once('=').ok_or("write NODE=N, such as cph-1=2")?;
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or("a node needs at least one seat")?;
    if NODES.iter().all(|(name, _)| *name != node) {
        return Err(format!("there is no node {node}; nodes are {}", NODES.map(|(name, _)| name).join(", ")));
    }
    Ok((node.to_owned(), count))
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    let ip: Ipv4Addr = text.parse().map_err(|_| "write an IPv4 address, such as 192.0.2.7".to_owned())?;
    if ip.is_unspecified() { Err(format!("clients cannot use the address {ip}")) } else { Ok(ip) }
}

impl DemoOptions {
    /// The nodes to start: index in [`NODES`], name and capacity.
    fn nodes(&self) -> impl Iterator<Item = (u16, &'static str, u32)> {
        let numbered = (0_u16..).zip(NODES);
        numbered.filter(|(_, (name, _))| self.only.as_deref().is_none_or(|only| only == *name)).map(
            |(index, (name, default))| {
                let option = self.capacities.iter().rfind(|(node, _)| node == name);
                (index, name, option.map_or(default, |(_, count)| *count))
            },
        )
    }

    /// A node's first port.
    fn base(&self, index: u16) -> u16 {
        self.ports + 100 * index
    }

    /// The file that the nodes log to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        let default = || Path::new(".demo").join(format!("{}.log", self.only.as_deref().unwrap_or("demo")));
        self.log.clone().unwrap_or_else(default)
    }
}

/// Names and capacities.
const NODES: [(&str, u32); 3] = [("cph-1", 4), ("sto-1", 6), (UNAPPROVED, 6)];
/// The node that no rule of `ku.dk` permits.
const UNAPPROVED: &str = "aws-sto-1";

/// The file of `ku.dk`'s room key.
pub(crate) const ROOM_KEY: &str = "ku.dk.room-key";

/// Log and trace settings of the demo.
#[must_use]
pub fn telemetry() -> config::TelemetrySection {
    config::TelemetrySection {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        otlp: std::env::var("SYSTIR_TELEMETRY__OTLP").ok(),
        log: std::env::var("SYSTIR_TELEMETRY__LOG").unwrap_or_else(|_| "warn,systir=info".to_owned()),
        json: false,
    }
}

/// Runs until `stop`.
///
/// # Errors
/// When a node cannot start, usually because a port is in use.
pub async fn run(options: DemoOptions, stop: CancellationToken) -> Result<()> {
    let folder = tempfile::tempdir().context("the folder for the demo's certificates cannot be created")?;
    let documents = write_files(folder.path())?;
    let store = LocalStore::default();
    let mut nodes = Vec::new();
    for (index, name, capacity) in options.nodes() {
        let base = options.base(index);
        let address = options.address.unwrap_or(Ipv4Addr::LOCALHOST);
        let config = config(folder.path(), &documents, name, capacity, base, address.into());
        let http = config.http.listen;
        let node = Node::start(config, Arc::new(store.registry()))
            .await
            .with_context(|| format!("{name} did not start"))?;
        nodes.push(node);
        if address != Ipv4Addr::LOCALHOST {
            let second = SocketAddr::from((address, http.port()));
            tokio::spawn(forward::run(forward::bind(second).await?, http, stop.clone()));
        }
    }
    tokio::spawn(policy_page::make(folder.path().join("documents"), documents.institution_key().public()));
    instructions::print(&options)?;
    stop.cancelled().await;
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}

/// Writes the certificates, keys and signed documents of the demo's nodes.
pub(crate) fn write_files(folder: &Path) -> Result<SignedDemo> {
    let domain = TrustDomain::new("nordu.net")?;
    let now = SystemTime::now();
    let authority = ca::create(&domain, now)?;
    for (name, _) in NODES {
        let issued = ca::issue(&authority, &domain.relay(name)?, now, Duration::from_secs(24 * 3600))?;
        std::fs::write(folder.join(format!("{name}.pem")), issued.certificate)?;
        std::fs::write(folder.join(format!("{name}.key")), issued.key)?;
    }
    let loopback = "127.0.0.0/8".parse()?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let names = NODES.map(|(name, _)| name);
    let documents = SignedDemo::new(&authority.certificate, &names, vec![loopback], seconds, rand::random)?;
    std::fs::write(folder.join(ROOM_KEY), &*RoomKey::from_bytes(rand::random()).to_text())?;
    std::fs::create_dir_all(folder.join("documents"))?;
    for (name, text) in documents.files()? {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(documents)
}

/// The configuration of a node on loopback that also offers media at `address`.
pub(crate) fn config(
    folder: &Path,
    documents: &SignedDemo,
    name: &str,
    capacity: u32,
    base: u16,
    address: IpAddr,
) -> RelayConfig {
    // ku.dk does not approve the third node as gateway, so it may hold neither ku.dk's API key nor its room key.
    let holds_key = name != UNAPPROVED;
    let at = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, base + offset));
    RelayConfig {
        node: config::NodeSection {
            name: name.to_owned(),
            cluster: "nordunet".to_owned(),
            capacity,
            seats_per_identity: SeatQuotas::PER_IDENTITY,
            key: folder.join(format!("{name}.node-key")),
        },
        http: config::HttpSection {
            listen: at(10),
            certificate: None,
            key: None,
            behind_proxy: false,
            proxy_protocol: Vec::new(),
            connections: 1_024,
            max_token_hours: config::default_max_token_hours(),
        },
        media: media(base + 12, address),
        links: config::LinksSection {
            quic: at(0),
            grpc: at(1),
            advertise: None,
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            ceiling_mbps: 1_000,
        },
        telemetry: config::TelemetrySection { listen: at(2), ..telemetry() },
        registry: config::RegistrySection {
            etcd: Vec::new(),
            ca: None,
            certificate: None,
            key: None,
            lease_seconds: 10,
        },
        policy: config::PolicySection {
            operator: texts::OPERATOR.to_owned(),
            documents: folder.join("documents"),
            state: folder.join(format!("{name}.state")),
            grant_seconds: 600,
            operators: BTreeMap::from([(
                texts::OPERATOR.to_owned(),
                config::OperatorSection {
                    trust_domain: "nordu.net".to_owned(),
                    keys: vec![documents.operator_key().public().to_string()],
                    threshold: None,
                },
            )]),
            institutions: BTreeMap::from([(
                texts::INSTITUTION.to_owned(),
                config::InstitutionSection {
                    keys: vec![documents.institution_key().public().to_string()],
                    threshold: None,
                    seats: None,
                },
            )]),
        },
        keys: holds_key.then(api_key).into_iter().collect(),
        room_keys: holds_key.then(|| room_key(folder)).into_iter().collect(),
        page: config::PageSection { guest_key: holds_key.then(|| "devkey".to_owned()) },
        drain: config::DrainSection {
            api_key: Some("devkey".to_owned()),
            secret: Some("secret".to_owned()),
            ..config::DrainSection::default()
        },
        journal: config::JournalSection::default(),
    }
}

fn api_key() -> (String, config::ApiKeySection) {
    let key = config::ApiKeySection {
        institution: texts::INSTITUTION.to_owned(),
        secret: Some("secret".to_owned()),
        secret_file: None,
        audience: None,
        // The demo says that its secret is public.
        allow_weak_secret: true,
    };
    ("devkey".to_owned(), key)
}

fn room_key(folder: &Path) -> (String, config::RoomKeySection) {
    let key = config::RoomKeySection {
        institution: texts::INSTITUTION.to_owned(),
        key: None,
        key_file: Some(folder.join(ROOM_KEY)),
        creates: true,
    };
    ("demo".to_owned(), key)
}

/// A browser on this machine may have no loopback candidate (Firefox never has one), so media is also offered
/// at the machine's outside address.
fn media(port: u16, address: IpAddr) -> config::MediaSection {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut advertise = vec![loopback];
    for other in std::iter::once(address).chain(outside_address()) {
        if !advertise.contains(&other) {
            advertise.push(other);
        }
    }
    let (ip, advertise) = match advertise.len() {
        1 => (Ipv4Addr::LOCALHOST, Vec::new()),
        _ => (Ipv4Addr::UNSPECIFIED, advertise),
    };
    // ICE-TCP on the port before the UDP port.
    let tcp = Some(SocketAddr::from((ip, port - 1)));
    config::MediaSection { listen: SocketAddr::from((ip, port)), advertise, tcp, workers: 1 }
}

/// The local address of the default route. Connecting a UDP socket sends no packet.
fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertised(address: &str) -> Vec<IpAddr> {
        media(7882, address.parse().unwrap()).advertise
    }

    #[test]
    fn media_is_offered_at_loopback_and_at_the_address_option() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(advertised("192.0.2.7")[..2], [loopback, "192.0.2.7".parse::<IpAddr>().unwrap()]);
        // Without the option only the outside address is added, if the machine has one.
        let default = advertised("127.0.0.1");
        assert_eq!(default.len(), if outside_address().is_some() { 2 } else { 0 });
        assert!(default.first().is_none_or(|first| *first == loopback));
    }

    #[test]
    fn a_node_that_runs_alone_keeps_its_ports_and_its_capacity() {
        let options = DemoOptions {
            capacities: vec![("sto-1".to_owned(), 9)],
            only: Some("sto-1".to_owned()),
            ports: 7870,
            address: None,
            log: None,
        };
        let nodes: Vec<_> = options.nodes().collect();
        assert_eq!(nodes, [(1, "sto-1", 9)]);
        assert_eq!(options.base(1), 7970);
        assert_eq!(options.log_file(), Path::new(".demo/sto-1.log"));
    }
}
