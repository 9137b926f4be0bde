//! What attacks from outside cost others: the time of their joins, the latency and loss of their media, and the node's
//! memory, before and during each attack. The attackers run on the same machine and take its processor time as well. What that
//! costs is measured too, as a control: the same flood towards a port where nobody listens.

mod connections;
mod datagrams;
mod flood;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use systir_load::{Config, run_with};
use systir_tests::cluster::{Cluster, token};
use systir_tests::scripted::ScriptedClient;
use tokio_util::sync::CancellationToken;

use crate::phases::phases;
use crate::proc::{processor_time, resident_mib};
use flood::Flood;

const NODE: &str = "cph-1";
/// Participants of the meeting that goes on during the attacks. Two of them publish audio and video.
const MEETING: usize = 6;
/// Pause between two joins.
const PAUSE: Duration = Duration::from_millis(40);

/// An attack, and the words for it.
#[derive(Debug, Clone, Copy)]
enum Attack {
    HalfOpenHttp,
    HalfOpenIceTcp,
    HalfOpenTls,
    BadTokens,
    RandomPackets,
    UnknownChecks,
    QuicInitials,
}

impl Attack {
    const ALL: [Self; 7] = [
        Self::HalfOpenHttp,
        Self::HalfOpenIceTcp,
        Self::HalfOpenTls,
        Self::BadTokens,
        Self::RandomPackets,
        Self::UnknownChecks,
        Self::QuicInitials,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::HalfOpenHttp => "10,000 half-open HTTP connections",
            Self::HalfOpenIceTcp => "2,000 silent ICE-TCP connections",
            Self::HalfOpenTls => "200 TLS handshakes a second on the gRPC port",
            Self::BadTokens => "500 joins a second with forged tokens",
            Self::RandomPackets => "100,000 random packets a second on the media port",
            Self::UnknownChecks => "50,000 checks a second of unknown participants",
            Self::QuicInitials => "10,000 QUIC Initial packets a second",
        }
    }

    /// The port of the node that is attacked.
    fn port(self, cluster: &Cluster) -> SocketAddr {
        let offset = match self {
            Self::HalfOpenHttp | Self::BadTokens => 10,
            Self::HalfOpenIceTcp => 11,
            Self::HalfOpenTls => 1,
            Self::RandomPackets | Self::UnknownChecks => 12,
            Self::QuicInitials => 0,
        };
        SocketAddr::from(([127, 0, 0, 1], cluster.port(NODE, offset)))
    }

    fn start(self, to: SocketAddr) -> Result<Flood> {
        match self {
            Self::HalfOpenHttp => connections::hold(to, 10_000, 4_000, b"GET /rtc?access_token=".to_vec()),
            Self::HalfOpenIceTcp => connections::hold(to, 2_000, 1_000, Vec::new()),
            Self::HalfOpenTls => connections::hold(to, 400, 200, connections::client_hello()?),
            Self::BadTokens => connections::hold(to, 50, 500, connections::forged_join()),
            Self::RandomPackets => datagrams::send(to, 100_000, datagrams::random_packet),
            Self::UnknownChecks => datagrams::send(to, 50_000, datagrams::unknown_check),
            Self::QuicInitials => datagrams::send(to, 10_000, datagrams::quic_initial),
        }
    }
}

/// A port of both protocols where nobody listens.
fn port_of_nobody() -> Result<SocketAddr> {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if UdpSocket::bind(tcp).is_ok() {
            return Ok(tcp);
        }
    }
    bail!("no port is free for both TCP and UDP")
}

/// What others get, and what the node takes.
#[derive(Debug, Serialize)]
struct Sample {
    joins: usize,
    join_p50_ms: f64,
    join_p99_ms: f64,
    media_p50_ms: f64,
    media_p99_ms: f64,
    media_lost_percent: f64,
    /// Anonymous resident memory at the end.
    memory_mib: f64,
    /// Of one core, all threads of the node.
    processor_percent: f64,
}

/// One attack: before it, while the same flood goes to a port where nobody listens, during it, and how much the attackers
/// sent.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    attack: &'static str,
    before: Sample,
    control: Sample,
    during: Sample,
    /// Packets or connections a second.
    attacks_per_second: f64,
}

pub(crate) async fn measure(cluster: &Cluster, seconds: u64, progress: impl Fn(&str)) -> Result<Vec<Row>> {
    let length = Duration::from_secs(seconds);
    let mut rows = Vec::new();
    for (number, attack) in Attack::ALL.into_iter().enumerate() {
        progress(attack.name());
        let before = sample(cluster, &format!("before-{number}"), length).await?;
        let flood = attack.start(port_of_nobody()?)?;
        let control = sample(cluster, &format!("control-{number}"), length).await?;
        flood.stop().await?;
        let flood = attack.start(attack.port(cluster))?;
        let begun = Instant::now();
        let during = sample(cluster, &format!("during-{number}"), length).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let attacks_per_second = flood.stop().await? as f64 / seconds;
        rows.push(Row { attack: attack.name(), before, control, during, attacks_per_second });
    }
    Ok(rows)
}

/// A meeting, and joins to another room all the while.
async fn sample(cluster: &Cluster, room: &str, length: Duration) -> Result<Sample> {
    let pid = cluster.pid(NODE)?;
    let config = Config {
        url: cluster.url(NODE),
        room: room.to_owned(),
        participants: MEETING,
        publishers: Some(2),
        rate: 20.0,
        duration: length,
        ..Config::default()
    };
    let (watcher, mut phases) = phases();
    let others = async {
        phases.recv().await;
        let (begun, used) = (Instant::now(), processor_time(pid)?);
        let mut times = Vec::new();
        while phases.is_empty() {
            let token = token(&format!("{room}-others"), &format!("other-{}", times.len()))?;
            let join = Instant::now();
            let client = ScriptedClient::join(&cluster.url(NODE), &token, "").await?;
            times.push(join.elapsed());
            drop(client);
            tokio::time::sleep(PAUSE).await;
        }
        let used = processor_time(pid)?.saturating_sub(used);
        let processor = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        anyhow::Ok((times, resident_mib(pid)?, processor))
    };
    let (report, others) = tokio::join!(run_with(config, CancellationToken::new(), watcher), others);
    let (report, (mut times, memory_mib, processor_percent)) = (report?, others?);
    ensure!(report.joined == MEETING, "not all joined: {:?}", report.refused);
    ensure!(!times.is_empty(), "nobody joined meanwhile");
    times.sort_unstable();
    let percentile = |part: usize| {
        let index = (times.len() * part).div_ceil(100).saturating_sub(1);
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    Ok(Sample {
        joins: times.len(),
        join_p50_ms: percentile(50),
        join_p99_ms: percentile(99),
        media_p50_ms: report.latency_p50_ms,
        media_p99_ms: report.latency_p99_ms,
        media_lost_percent: report.loss_percent,
        memory_mib,
        processor_percent,
    })
}

/// A table for the terminal: each cell says before, while nobody gets the flood, and during it.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "attack",
        "made, 1/s",
        "joins p50, ms",
        "joins p99, ms",
        "media p50, ms",
        "media p99, ms",
        "media lost, %",
        "memory, MiB",
        "processor, %",
    ]);
    for Row { attack, before, control, during, attacks_per_second } in rows {
        let pair = |of: fn(&Sample) -> f64, digits: usize| {
            let (before, control, during) = (of(before), of(control), of(during));
            Cell::new(format!("{before:.digits$} → {control:.digits$} → {during:.digits$}"))
                .set_alignment(CellAlignment::Right)
        };
        table.add_row([
            Cell::new(attack),
            Cell::new(format!("{attacks_per_second:.0}")).set_alignment(CellAlignment::Right),
            pair(|sample| sample.join_p50_ms, 1),
            pair(|sample| sample.join_p99_ms, 1),
            pair(|sample| sample.media_p50_ms, 2),
            pair(|sample| sample.media_p99_ms, 2),
            pair(|sample| sample.media_lost_percent, 3),
            pair(|sample| sample.memory_mib, 0),
            pair(|sample| sample.processor_percent, 0),
        ]);
    }
    table.to_string()
}
