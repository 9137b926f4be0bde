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
    publishers: u32,
    /// Of each publisher's video, VP8 in one layer; 0: no video.
    kbps: u32,
    audio: bool,
    subscribers: u32,
    /// Messages and a file are sent, instead of a length of time measured.
    data: bool,
    seconds: u64,
}

const MESSAGES: u32 = 300;

/// All loads.
pub(crate) const LOADS: [Load; 4] = [
    Load {
        name: "video",
        publishers: 1,
        kbps: 1_500,
        audio: false,
        subscribers: 50,
        data: false,
        seconds: 10,
    },
    Load {
        name: "meeting",
        publishers: 6,
        kbps: 600,
        audio: true,
        subscribers: 30,
        data: false,
        seconds: 10,
    },
    Load { name: "audio", publishers: 1, kbps: 0, audio: true, subscribers: 100, data: false, seconds: 10 },
    Load { name: "data", publishers: 1, kbps: 0, audio: false, subscribers: 5, data: true, seconds: 0 },
];

impl Load {
    /// With fewer subscribers, and shorter.
    pub(crate) fn quick(self) -> Self {
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
        let mut client = path.command(At::Server, &programs.client);
        client.arg("load").arg("-url").arg(format!("ws://{SERVER}:{PORT}"));
        client
            .arg(format!("-publishers={}", self.publishers))
            .arg(format!("-subscribers={}", self.subscribers));
        client.arg(format!("-video={}", self.kbps)).arg(format!("-audio={}", self.audio));
        client.arg(format!("-messages={MESSAGES}"));
        let this = *self;
        tokio::task::spawn_blocking(move || {
            if this.data { this.data(&mut client) } else { this.media(&running, &mut client) }
        })
        .await?
    }

    /// Starts the clients, in the room.
    fn join(client: &mut std::process::Command) -> Result<DrivenClient> {
        let mut client = DrivenClient::start(client, "load", "run `make compare`")?;
        event(&mut client, "published")?;
        Ok(client)
    }

    fn figure(&self, name: &'static str, unit: &'static str, goal: Goal, value: f64) -> Figure {
        let (publishers, subscribers) = (self.publishers, self.subscribers);
        Figure {
            part: self.name,
            group: format!("{}, {publishers} to {subscribers}", self.name),
            name,
            unit,
            goal,
            value,
        }
    }

    fn media(&self, running: &Running, client: &mut std::process::Command) -> Result<Vec<Figure>> {
        let length = Duration::from_secs(self.seconds);
        // What it costs to run at all, which is no cost of packets.
        let idle = used(running, length)?;
        let mut client = Self::join(client)?;
        std::thread::sleep(SETTLE);
        let before = resident_mib(running.pid())?;
        client.send_line("subscribe")?;
        let joined = event(&mut client, "subscribed")?;
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
        let joins = percentiles(&joined["join_ms"])?;
        let media = percentiles(&joined["media_ms"])?;
        Ok(vec![
            self.figure("processor time per packet received", "µs", Goal::AtMost(8.0), cost),
            self.figure("packets received", "1/s", Goal::None, packets / length.as_secs_f64()),
            self.figure("packets missing", "%", Goal::AtMost(0.1), 100.0 * missing / (packets + missing)),
            self.figure(
                "memory per subscriber",
                "MB",
                Goal::AtMost(0.5),
                (after - before) / f64::from(self.subscribers),
            ),
            self.figure("join p50", "ms", Goal::AtMost(300.0), joins[0]),
            self.figure("join p95", "ms", Goal::AtMost(300.0), joins[1]),
            self.figure("join to the first packet of all tracks p50", "ms", Goal::None, media[0]),
            self.figure("join to the first packet of all tracks p95", "ms", Goal::None, media[1]),
        ])
    }

    fn data(&self, client: &mut std::process::Command) -> Result<Vec<Figure>> {
        let mut client = Self::join(client)?;
        client.send_line("subscribe")?;
        event(&mut client, "subscribed")?;
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
        if self.data {
            return Ok(None);
        }
        let video =
            floor::Stream { bytes: 1_200, burst: (self.kbps * 1_000 / 8 / 30).div_ceil(1_200), rate: 30 };
        let audio = floor::Stream { bytes: 100, burst: 1, rate: 50 };
        let streams: Vec<floor::Stream> =
            [(self.kbps > 0).then_some(video), self.audio.then_some(audio)].into_iter().flatten().collect();
        floor::microseconds_per_packet(self.subscribers, self.publishers, &streams, self.seconds).map(Some)
    }
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
