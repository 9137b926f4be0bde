//! Three nodes on loopback in one process, with the registry embedded: a home in Copenhagen, an
//! approved sister in Stockholm, and a machine leased from a cloud that nobody approved. Media alone
//! goes beyond loopback, for browsers that have no way to it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use systir_identity::{TrustDomain, ca};
use systir_policy::demo as texts;
use systir_registry::LocalStore;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::node::Node;

/// How the demonstration is run.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many people a node carries, such as `cph-1=2`; may be given for each node.
    #[arg(long = "capacity", value_name = "NODE=N", value_parser = capacity)]
    capacities: Vec<(String, u32)>,
    /// First port of the first node (links); HTTP is 10 further. The next nodes add 100 and 200.
    #[arg(long, default_value_t = 7870, value_name = "PORT", value_parser = value_parser!(u16).range(1..=65_000))]
    ports: u16,
    /// Address that clients are told for media; loopback unless a test has its own network.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP", value_parser = address)]
    address: IpAddr,
}

fn capacity(text: &str) -> Result<(String, u32), String> {
    let (node, count) = text.split_once('=').ok_or("write NODE=N, such as cph-1=2")?;
    let count = count.parse().ok().filter(|count| *count > 0);
    let count = count.ok_or("a node carries one person at least")?;
    if NODES.iter().all(|(name, _)| *name != node) {
        return Err(format!("there is no node {node}; there are {}", NODES.map(|(name, _)| name).join(", ")));
    }
    Ok((node.to_owned(), count))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| "write an address, such as 127.0.0.1".to_owned())?;
    if ip.is_unspecified() { Err(format!("nobody can send to {ip}")) } else { Ok(ip) }
}

/// Names and capacities.
const NODES: [(&str, u32); 3] = [("cph-1", 4), ("sto-1", 6), ("aws-sto-1", 6)];

/// Where the demonstration logs.
#[must_use]
pub fn telemetry() -> config::Telemetry {
    config::Telemetry {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        otlp: std::env::var("SYSTIR_TELEMETRY__OTLP").ok(),
        log: std::env::var("SYSTIR_TELEMETRY__LOG").unwrap_or_else(|_| "warn,systir_relay=info".to_owned()),
        json: false,
    }
}

/// Runs until `stop`.
///
/// # Errors
/// When a node cannot start, for the most part because a port is taken.
pub async fn run(options: Options, stop: CancellationToken) -> Result<()> {
    let folder = tempfile::tempdir().context("no folder for the demonstration's certificates")?;
    write_files(folder.path())?;
    let store = LocalStore::default();
    let mut nodes = Vec::new();
    for (index, (name, capacity)) in NODES.iter().enumerate() {
        let capacity =
            options.capacities.iter().rfind(|(node, _)| node == name).map_or(*capacity, |(_, count)| *count);
        let base = options.ports + 100 * index as u16;
        let config = config(folder.path(), name, capacity, base, options.address);
        let node = Node::start(config, Arc::new(store.registry()))
            .await
            .with_context(|| format!("{name} did not start"))?;
        nodes.push(node);
    }
    announce(&options)?;
    stop.cancelled().await;
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}

pub(crate) fn write_files(folder: &Path) -> Result<()> {
    let domain = TrustDomain::new("nordu.net")?;
    let authority = ca::create(&domain, SystemTime::now())?;
    let files = [
        ("ca.pem", authority.certificate.as_str()),
        ("nodes.toml", texts::NODES),
        ("zones.toml", texts::ZONES),
        ("floor.cedar", texts::FLOOR),
        ("ku.dk.cedar", texts::KU_DK),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text)?;
    }
    for (name, _) in NODES {
        let issued =
            ca::issue(&authority, &domain.relay(name)?, SystemTime::now(), Duration::from_secs(24 * 3600))?;
        std::fs::write(folder.join(format!("{name}.pem")), issued.certificate)?;
        std::fs::write(folder.join(format!("{name}.key")), issued.key)?;
    }
    Ok(())
}

pub(crate) fn config(folder: &Path, name: &str, capacity: u32, base: u16, address: IpAddr) -> Config {
    let at = |offset: u16| SocketAddr::from((address, base + offset));
    Config {
        node: config::Node { name: name.to_owned(), cluster: "nordunet".to_owned(), capacity },
        http: config::Http {
            listen: at(10),
            certificate: None,
            key: None,
            behind_proxy: false,
            connections: 1_024,
        },
        media: media(at(12)),
        links: config::Links {
            quic: at(0),
            grpc: at(1),
            advertise: None,
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            trust: BTreeMap::from([("nordu.net".to_owned(), folder.join("ca.pem"))]),
            ceiling_mbps: 1_000,
        },
        telemetry: config::Telemetry { listen: at(2), ..telemetry() },
        registry: config::Registry {
            etcd: Vec::new(),
            ca: None,
            certificate: None,
            key: None,
            lease_seconds: 10,
        },
        policy: config::Policy {
            nodes: folder.join("nodes.toml"),
            zones: folder.join("zones.toml"),
            floor: folder.join("floor.cedar"),
            institutions: BTreeMap::from([(
                texts::INSTITUTION.to_owned(),
                config::Institution { file: folder.join("ku.dk.cedar"), version: 1 },
            )]),
        },
        keys: BTreeMap::from([(
            "devkey".to_owned(),
            config::Key {
                institution: texts::INSTITUTION.to_owned(),
                secret: Some("secret".to_owned()),
                secret_file: None,
            },
        )]),
        page: config::Page { guest_key: Some("devkey".to_owned()) },
    }
}

/// A browser on this machine may have no candidate on loopback (Firefox never has): it reaches the
/// media at the address that the machine has outside, so this is told too.
fn media(at: SocketAddr) -> config::Media {
    let (listen, advertise) = match outside(at.ip()) {
        Some(outside) => (SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port())), vec![at.ip(), outside]),
        None => (at, Vec::new()),
    };
    // TCP beside UDP, on the port before.
    let tcp = Some(SocketAddr::new(listen.ip(), at.port() - 1));
    config::Media { listen, advertise, tcp, workers: 1 }
}

/// Where media is taken beside loopback.
fn outside(address: IpAddr) -> Option<IpAddr> {
    (address == IpAddr::V4(Ipv4Addr::LOCALHOST)).then(outside_address).flatten()
}

/// The address that packets to the rest of the world would leave from; none is sent.
fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn announce(options: &Options) -> Result<()> {
    let door = format!("http://{}", SocketAddr::from((options.address, options.ports + 10)));
    let cloud = format!("http://{}", SocketAddr::from((options.address, options.ports + 210)));
    let seats = |name: &str| {
        let usual = NODES.iter().find(|(node, _)| *node == name).map_or(0, |(_, count)| *count);
        options.capacities.iter().rfind(|(node, _)| node == name).map_or(usual, |(_, count)| *count)
    };
    let (home, sister) = (seats("cph-1"), seats("sto-1"));
    // The other programs lie beside this one.
    let beside = |name: &str| {
        let path =
            std::env::current_exe().map(|path| path.with_file_name(name)).unwrap_or_else(|_| name.into());
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(&here).unwrap_or(&path).display().to_string()
    };
    let (load, ctl) = (beside("systir-load"), beside("systirctl"));
    let reach = match outside(options.address) {
        Some(outside) => format!(
            "Pages, signalling and links are on {} alone; media also on {outside} (browsers have no way to loopback).",
            options.address
        ),
        None => format!("All of it is on {} alone.", options.address),
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "
  Systir: three nodes of nordunet on this machine

    cph-1      Copenhagen, own machine        home, room for {home}
    sto-1      Stockholm, own machine         approved sister, room for {sister}
    aws-sto-1  Stockholm, leased machine      controlled from US, not approved by ku.dk

  1. Open the meeting page, join, and press (i): one node relays it, in Denmark.
       {door}/?room=demo
  2. In a second terminal, fill the home. These people stay until Ctrl-C.
       {load} --url {door} --room demo --participants {home} --video --audio --stay
     The home has room for {home}: whoever comes last is the sister's first guest, and your (i)
     shows her at once. Open the page in another window too, and see everybody.
  3. In a third terminal, fill the sister as well.
       {load} --url {door} --room demo --participants {sister} --identity-prefix more --stay
     The next window is refused, and the page says why; aws-sto-1 stays idle.
     It lets nobody in by itself either:
       {cloud}/?room=demo
  4. Which node would carry the next person, and why?
       {ctl} --url {door} nodes
       {ctl} --url {door} explain demo

  {reach}
  The key `devkey` and its secret are public: say nothing here that is private.

  Ctrl-C ends all.
"
    )?;
    out.flush()?;
    Ok(())
}
