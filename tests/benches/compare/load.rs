//! Loads without loss: what a packet, a join and a subscriber cost a server. The clients are LiveKit's Go
//! SDK, many in one process, on the same machine as the server.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use systir_tests::driven_client::DrivenClient;
use systir_tests::impaired_path::{At, Condition, ImpairedPath, SERVER};
use systir_tests::server_process::PORT;

use crate::floor;
use crate::proc::{processor_time, resident_mib};
use crate::servers::{Programs, Running, Server};
use crate::table::{Figure, Goal};

/// Between the last join and the measurement.
const SETTLE: Duration = Duration::from_secs(3);

/// Who publishes what to how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// For --only and the table.
    pub(crate) name: &'static str,
    pub(crate) rooms: u32,
    /// Of each room.
    pub(crate) publishers: u32,
    /// Of each publisher's video, VP8 in one layer; 0: no video.
    pub(crate) kbps: u32,
    pub(crate) audio: bool,
    /// Of each room.
    pub(crate) subscribers: u32,
    /// What is measured.
    pub(crate) kind: Kind,
    pub(crate) seconds: u64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Packets, memory and joins, for a length of time.
    Media,
    /// Packets and memory only: a point of a curve.
    Point,
    /// Messages and a file.
    Data,
}

const MESSAGES: u32 = 300;

/// The first room.
pub(crate) const FIRST_ROOM: &str = "load-0";

/// A load of one room for ten seconds.
const MEDIA: Load = Load {
    name: "",
    rooms: 1,
    publishers: 1,
    kbps: 0,
    audio: false,
    subscribers: 50,
    kind: Kind::Media,
    seconds: 10,
};

/// All loads.
pub(crate) const LOADS: [Load; 4] = [
    Load { name: "video", kbps: 1_500, ..MEDIA },
    Load { name: "meeting", publishers: 6, kbps: 600, audio: true, subscribers: 30, ..MEDIA },
    Load { name: "audio", audio: true, subscribers: 100, ..MEDIA },
    Load { name: "data", subscribers: 5, kind: Kind::Data, seconds: 0, ..MEDIA },
];

impl Load {
    /// With fewer subscribers, and shorter. The points of a curve stay.
    pub(crate) fn quick(self) -> Self {
        if self.kind == Kind::Point {
            return self;
        }
        Self {
            subscribers: self.subscribers.min(5 + self.subscribers / 4),
            seconds: self.seconds.min(5),
            ..self
        }
    }

    /// Runs it once against one server.
    pub(crate) async fn measure(
        &self,
        path: &ImpairedPath,
        programs: &Programs,
        server: Server,
    ) -> Result<Vec<Figure>> {
        path.set(Condition::Free)?;
        let running = server.start(path, programs).await?;
        let mut client = self.client(path, programs);
        let this = *self;
        tokio::task::spawn_blocking(move || match this.kind {
            Kind::Data => this.data(&mut client),
            Kind::Media | Kind::Point => this.media(&running, &mut client),
        })
        .await?
    }

    /// The program with all clients.
    pub(crate) fn client(&self, path: &ImpairedPath, programs: &Programs) -> std::process::Command {
        let mut client = path.command(At::Server, &programs.client);
        client.arg("load").arg("-url").arg(format!("ws://{SERVER}:{PORT}"));
        client
            .arg(format!("-rooms={}", self.rooms))
            .arg(format!("-publishers={}", self.publishers))
            .arg(format!("-subscribers={}", self.subscribers));
        client.arg(format!("-video={}", self.kbps)).arg(format!("-audio={}", self.audio));
        client.arg(format!("-messages={MESSAGES}"));
        client
    }

    /// Starts the clients, of which the publishers join.
    pub(crate) fn join(client: &mut std::process::Command) -> Result<DrivenClient> {
        let mut client = DrivenClient::start(client, "load", "run `make compare`")?;
        event(&mut client, "published")?;
        Ok(client)
    }

    /// All subscribers join. Returns how long each took.
    pub(crate) fn subscribe(client: &mut DrivenClient) -> Result<Value> {
        client.send_line("subscribe")?;
        event(client, "subscribed")
    }

    /// Its name in the table.
    pub(crate) fn group(&self) -> String {
        let (publishers, subscribers) = (self.publishers, self.subscribers);
        let rooms = if self.rooms > 1 { format!("{} rooms of ", self.rooms) } else { String::new() };
        format!("{}, {rooms}{publishers} to {subscribers}", self.name)
    }

    fn figure(&self, name: &'static str, unit: &'static str, goal: Goal, value: f64) -> Figure {
        Figure { group: self.group(), name, unit, goal, value }
    }

    /// How many times LiveKit's cost of a packet ours should go into.
    fn cost_goal(&self) -> Goal {
        match self.name {
            "video" | "audio" => Goal::LiveKitBy(6.0),
            "meeting" => Goal::LiveKitBy(5.0),
            _ => Goal::None,
        }
    }

    fn media(&self, running: &Running, client: &mut std::process::Command) -> Result<Vec<Figure>> {
        let length = Duration::from_secs(self.seconds);
        // What it costs to run at all, which is no cost of packets.
        let idle = used(running, length)?;
        let mut client = Self::join(client)?;
        std::thread::sleep(SETTLE);
        let before = resident_mib(running.pid())?;
        let joined = Self::subscribe(&mut client)?;
        std::thread::sleep(SETTLE);
        let first = count(&mut client)?;
        let busy = used(running, length)?;
        let last = count(&mut client)?;
        let after = resident_mib(running.pid())?;
        let [packets, missing] = [0, 1].map(|at| (last[at] - first[at]).max(0.0));
        if packets < 1.0 {
            bail!("no packets arrived");
        }
        let cost = busy.saturating_sub(idle).as_secs_f64() * 1e6 / packets;
        let memory_goal = if self.kind == Kind::Point { Goal::None } else { Goal::AtMost(0.25) };
        let memory = (after - before) / f64::from(self.rooms * self.subscribers);
        let mut figures = vec![
            self.figure("processor time per packet received", "µs", self.cost_goal(), cost),
            self.figure("packets received", "1/s", Goal::None, packets / length.as_secs_f64()),
            self.figure("packets missing", "%", Goal::AtMost(0.1), 100.0 * missing / (packets + missing)),
            self.figure("memory per subscriber", "MB", memory_goal, memory),
        ];
        if self.kind == Kind::Media {
            figures.extend(join_figures(&self.group(), &joined)?);
        }
        Ok(figures)
    }

    fn data(&self, client: &mut std::process::Command) -> Result<Vec<Figure>> {
        let mut client = Self::join(client)?;
        Self::subscribe(&mut client)?;
        std::thread::sleep(SETTLE);
        client.send_line("data")?;
        let received = event(&mut client, "data")?;
        let number = |name: &str| received[name].as_f64().with_context(|| format!("no {name}: {received}"));
        let share = |got: f64, wanted: f64| 100.0 * got / wanted;
        Ok(vec![
            self.figure(
                "300 messages of 1 kB at once, received",
                "%",
                Goal::AtLeast(100.0),
                share(number("messages")?, number("wanted")?),
            ),
            self.figure("until the last message", "ms", Goal::None, number("messages_ms")?),
            self.figure(
                "a file of 1 MB, received intact",
                "%",
                Goal::AtLeast(100.0),
                share(number("files")?, number("files_wanted")?),
            ),
            self.figure("until the whole file", "s", Goal::None, number("file_ms")? / 1_000.0),
        ])
    }

    /// What sealing and sending the same packets costs: see [`floor`].
    pub(crate) fn floor(&self) -> Result<Option<f64>> {
        if self.kind == Kind::Data {
            return Ok(None);
        }
        let video =
            floor::Stream { bytes: 1_200, burst: (self.kbps * 1_000 / 8 / 30).div_ceil(1_200), rate: 30 };
        let audio = floor::Stream { bytes: 100, burst: 1, rate: 50 };
        let streams: Vec<floor::Stream> =
            [(self.kbps > 0).then_some(video), self.audio.then_some(audio)].into_iter().flatten().collect();
        let subscribers = self.rooms * self.subscribers;
        floor::microseconds_per_packet(subscribers, self.publishers, &streams, self.seconds).map(Some)
    }
}

/// Of each join: until the client is in the room, and until it receives media.
pub(crate) fn join_figures(group: &str, joined: &Value) -> Result<Vec<Figure>> {
    let [join_p50, join_p95] = percentiles(&joined["join_ms"])?;
    let [media_p50, media_p95] = percentiles(&joined["media_ms"])?;
    let figure = |name, goal, value| Figure { group: group.to_owned(), name, unit: "ms", goal, value };
    Ok(vec![
        figure("join p50", Goal::AtMost(50.0), join_p50),
        figure("join p95", Goal::AtMost(150.0), join_p95),
        figure("join to the first media p50", Goal::None, media_p50),
        figure("join to the first media p95", Goal::None, media_p95),
    ])
}

/// Waits for an event of the clients.
fn event(client: &mut DrivenClient, name: &str) -> Result<Value> {
    let found = client.wait_for(name, |event| {
        (event["event"] == name || event["event"] == "failed").then(|| event.clone())
    })?;
    if found["event"] == "failed" {
        bail!("{}", found["reason"]);
    }
    Ok(found)
}

/// Packets received and missing so far.
fn count(client: &mut DrivenClient) -> Result<[f64; 2]> {
    client.send_line("count")?;
    let counted = event(client, "count")?;
    let number = |name: &str| counted[name].as_f64().with_context(|| format!("no {name}: {counted}"));
    Ok([number("packets")?, number("missing")?])
}

/// The server's processor time in a length of time.
fn used(running: &Running, length: Duration) -> Result<Duration> {
    let before = processor_time(running.pid())?;
    std::thread::sleep(length);
    Ok(processor_time(running.pid())?.saturating_sub(before))
}

/// The median and the 95th percentile.
fn percentiles(values: &Value) -> Result<[f64; 2]> {
    let mut values: Vec<f64> = values.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
    };
    Ok([at(50).context("no joins")?, at(95).context("no joins")?])
}
