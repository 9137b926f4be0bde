//! The cost of a packet on a link: two nodes' links in this process, QUIC over loopback, packets at
//! growing rates. CPU time is that of both nodes together, including encryption and decryption.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use systir_cascade::{
    BoxFuture, FlowId, Handler, HeldDocument, LinkEvent, Links, LinksConfig, ListedNodes, Parity,
    PeerAddress, RoomBody, SignalStream, WorkerPort,
};
use systir_documents::{DocumentId, KeyError, PublicKey, SigningKey};
use systir_forwarding::batch::{BatchReceiver, BatchSender, Priority, batch_ring};
use systir_identity::{Credentials, NodeCertificate, ProvenIdentity, SpiffeId, TrustBundle, TrustDomain, ca};
use systir_proto::cluster::v1::{
    GrantReply, GrantRequest, OpenRoom, ReleaseRequest, ReserveReply, ReserveRequest, SignalStart, Subscribe,
};
use systir_reason::{Reason, Refusal};
use tokio::sync::mpsc;

/// RTP payload and header of a full video packet.
const PACKET: usize = 1_112;
/// Packets in a batch, as for one video frame.
const BATCH: u32 = 8;
const RATES: [u32; 5] = [5_000, 10_000, 20_000, 40_000, 80_000];
const LENGTH: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Lists every node with one key, and allows every room.
struct Open;

fn node_key() -> Result<SigningKey, KeyError> {
    SigningKey::from_seed("bench", [7; 32])
}

impl ListedNodes for Open {
    fn node_keys(&self, _: &SpiffeId) -> Vec<PublicKey> {
        node_key().map(|key| key.public()).into_iter().collect()
    }

    fn may_dial(&self, _: &SpiffeId, _: IpAddr) -> bool {
        true
    }

    fn is_node_address(&self, _: IpAddr) -> bool {
        true
    }
}

impl Handler for Open {
    fn open_room<'a>(&'a self, _: &'a ProvenIdentity, _: &'a OpenRoom) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn may_open(&self, _: &ProvenIdentity, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn grant(&self, _: &str) -> String {
        String::new()
    }

    fn may_be_open(&self, _: &str) -> bool {
        true
    }

    fn ask_grant<'a>(&'a self, _: &'a ProvenIdentity, _: GrantRequest) -> BoxFuture<'a, GrantReply> {
        Box::pin(async { GrantReply { result: None } })
    }

    fn reserve<'a>(&'a self, _: &'a ProvenIdentity, _: ReserveRequest) -> BoxFuture<'a, ReserveReply> {
        Box::pin(async { ReserveReply { result: None } })
    }

    fn release<'a>(&'a self, _: &'a ProvenIdentity, _: ReleaseRequest) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn signal<'a>(
        &'a self,
        _: &'a ProvenIdentity,
        _: SignalStart,
        _: SignalStream,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async { Err(Refusal::new(Reason::RoomRefused, "no gateways here")) })
    }

    fn document_versions(&self) -> Vec<HeldDocument> {
        Vec::new()
    }

    fn documents_offered(&self, _: &ProvenIdentity, _: Vec<HeldDocument>) {}

    fn document(&self, _: &ProvenIdentity, _: &DocumentId, _: u64) -> Option<Arc<str>> {
        None
    }
}

struct Node {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    address: PeerAddress,
    to_links: BatchSender,
    from_links: BatchReceiver,
}

impl Node {
    async fn start(authority: &ca::Pem, domain: &TrustDomain, name: &str) -> Result<Self> {
        let issued = ca::issue(authority, &domain.relay(name)?, SystemTime::now(), ca::NODE_LIFE)?;
        let certificate = NodeCertificate::from_pem(&issued.certificate, &issued.key)?;
        let bundle = TrustBundle::new().with(domain.clone(), &authority.certificate)?;
        let credentials = Credentials::new(certificate, bundle)?;
        let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let grpc = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address =
            PeerAddress { id: credentials.id().clone(), grpc: grpc.local_addr()?, quic: quic.local_addr()? };
        let mut config = LinksConfig::new(credentials, node_key()?.into(), Arc::new(Open), quic, grpc);
        let (to_links, from) = batch_ring(8 << 20, config.notifier.waker());
        // The receiver polls.
        let (to, from_links) = batch_ring(64 << 20, std::task::Waker::noop().clone());
        config.workers.push(WorkerPort { from, to });
        let (links, events) = Links::start(config, Arc::new(Open))?;
        Ok(Self { links, events, address, to_links, from_links })
    }

    /// The first event that matches.
    async fn until<T>(&mut self, what: &str, matching: impl Fn(LinkEvent) -> Option<T>) -> Result<T> {
        let found = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = matching(event) {
                    return Ok(found);
                }
            }
            bail!("links ended")
        };
        tokio::time::timeout(TIMEOUT, found).await.with_context(|| what.to_owned())?
    }

    /// The number of the link once the room is open on it.
    async fn opened(&mut self) -> Result<u32> {
        let opened = |event| match event {
            LinkEvent::RoomOpened { link, .. } => Some(link),
            _ => None,
        };
        self.until("no link came up", opened).await
    }
}

#[derive(Default)]
struct Round {
    sent: u64,
    arrived: u64,
    seconds: f64,
    cpu: Duration,
}

fn round(a: &mut Node, b: &mut Node, link: u32, flow: FlowId, rate: u32) -> Result<Round> {
    let mut packet = vec![0x5a; PACKET];
    packet[..2].copy_from_slice(&[0x80, 96]);
    let mut round = Round::default();
    let cpu = cpu_time()?;
    let begun = Instant::now();
    let receive = |b: &mut Node, round: &mut Round| {
        while let Some(batch) = b.from_links.recv() {
            round.arrived += batch.len() as u64;
            b.from_links.recycle(batch);
        }
    };
    while begun.elapsed() < LENGTH {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while round.sent < due {
            let mut batch = a.to_links.fresh();
            for _ in 0..BATCH {
                batch.push(link, flow.raw(), Priority::Base, &packet);
            }
            a.to_links.send(batch);
            round.sent += u64::from(BATCH);
        }
        receive(b, &mut round);
        std::thread::sleep(Duration::from_micros(500));
    }
    round.seconds = begun.elapsed().as_secs_f64();
    // Packets in flight still count as arrived.
    let last = Instant::now();
    while round.arrived < round.sent && last.elapsed() < Duration::from_millis(500) {
        receive(b, &mut round);
        std::thread::sleep(Duration::from_millis(1));
    }
    round.cpu = cpu_time()?.saturating_sub(cpu);
    Ok(round)
}

/// CPU time of this process (proc(5)), in ticks of 10 ms.
fn cpu_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let domain = TrustDomain::new("nordu.net")?;
    let authority = ca::create(&domain, SystemTime::now())?;
    let (mut a, mut b, link, flow) = runtime.block_on(async {
        let mut a = Node::start(&authority, &domain, "cph-1").await?;
        let mut b = Node::start(&authority, &domain, "sto-1").await?;
        a.links.open_room("ku.dk/lecture", b.address.clone(), 1, 1);
        let link = a.opened().await?;
        b.opened().await?;
        let flow = FlowId::new(Parity::of(&b.address.id, &a.address.id), 0, 1).context("no flow")?;
        let subscribe = Subscribe { track_sid: "TR_x".to_owned(), layer: 0, flow: flow.raw() };
        b.links.send(&a.address.id, "ku.dk/lecture", RoomBody::Subscribe(subscribe))?;
        let subscribed = |event| matches!(event, LinkEvent::Message { .. }).then_some(());
        a.until("no subscription came", subscribed).await?;
        anyhow::Ok((a, b, link, flow))
    })?;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["link, packets/s offered", "arrived/s", "Mbit/s", "lost", "CPU, both nodes"]);
    for rate in RATES {
        let round = round(&mut a, &mut b, link, flow, rate)?;
        let arrived = round.arrived as f64 / round.seconds;
        let lost = 100.0 * (1.0 - round.arrived as f64 / round.sent.max(1) as f64);
        let cells = [
            rate.to_string(),
            format!("{arrived:.0}"),
            format!("{:.0}", arrived * PACKET as f64 * 8.0 / 1e6),
            format!("{lost:.2} %"),
            format!("{:.1} µs a packet", round.cpu.as_secs_f64() * 1e6 / round.arrived.max(1) as f64),
        ];
        table.add_row(cells.map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right)));
    }
    writeln!(std::io::stdout(), "{table}")?;
    runtime.block_on(async {
        a.links.shutdown().await;
        b.links.shutdown().await;
    });
    Ok(())
}
