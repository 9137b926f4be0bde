//! One Chromium publishes, another one subscribes behind an impaired link; what the second one receives,
//! phase by phase. Both use LiveKit's client, so the server can be any that speaks its protocol.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::{Browser, clients};
use crate::cluster::token;
use crate::impaired_path::{At, Condition, ImpairedPath, SERVER};
use crate::moving_picture;
use crate::process::memory_folder;
use crate::server_process::PORT;

const ROOM: &str = "impaired";
const PUBLISHER: &str = "anna";
const SUBSCRIBER: &str = "bo";
/// The publisher's bandwidth estimate has to grow until it sends the largest layer.
const STEADY: Duration = Duration::from_secs(60);

/// A length of time with one condition of the link.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// For the reader.
    pub name: &'static str,
    /// Set at its beginning.
    pub condition: Condition,
    /// Its length.
    pub seconds: u32,
}

/// All phases, one after the other.
pub const PHASES: [Phase; 5] = [
    Phase { name: "free", condition: Condition::Free, seconds: 8 },
    Phase { name: "1 Mbit/s", condition: Condition::Rate(1_000), seconds: 20 },
    Phase { name: "400 kbit/s", condition: Condition::Rate(400), seconds: 15 },
    Phase { name: "free again", condition: Condition::Free, seconds: 15 },
    Phase { name: "5 % loss", condition: Condition::Loss(5), seconds: 15 },
];

/// What the subscriber received in a phase, from `getStats`. The fields are those of
/// `tests/clients/impaired.js`.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// Decoded.
    pub frames_per_second: f64,
    /// Freezes that ended in the phase.
    pub freezes: u32,
    /// The freeze at its end included.
    pub frozen_seconds: f64,
    /// Of the video, most of the time.
    pub width: u32,
    /// Of the last decoded frame.
    pub last_width: u32,
    /// From the phase's beginning to a decoded frame of at least that width.
    pub seconds_to_640: Option<f64>,
    /// As above.
    pub seconds_to_1280: Option<f64>,
    /// The share of audio samples that were made up.
    pub concealed_percent: f64,
    /// Received video.
    pub video_kbps: f64,
    /// The mean time in the jitter buffer.
    pub video_delay_ms: f64,
    /// The mean time in the jitter buffer.
    pub audio_delay_ms: f64,
    /// Not received, also not by retransmission.
    pub video_packets_lost: i64,
    /// As above.
    pub audio_packets_lost: i64,
    /// Negative acknowledgements that the subscriber sent.
    pub nacks: u32,
    /// Requests for a key frame that the subscriber sent.
    pub plis: u32,
}

/// A layer that the publisher sends.
#[derive(Debug, Clone, Deserialize)]
pub struct SentLayer {
    /// Of the video.
    pub width: u32,
    /// Encoded.
    pub frames_per_second: f64,
    /// Sent, without retransmissions.
    pub kbps: f64,
}

/// The two browsers in a room. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct ImpairedMeeting {
    publisher: Browser,
    subscriber: Browser,
    // Removed after the browsers have ended.
    _picture: TempDir,
}

impl ImpairedMeeting {
    /// Joins both, and waits until the subscriber receives the largest layer.
    ///
    /// # Errors
    /// When one cannot join, or the largest layer does not arrive.
    pub fn start(path: &ImpairedPath) -> Result<Self> {
        let folder = memory_folder()?;
        let picture = folder.path().join("picture.y4m");
        moving_picture::write(&picture)?;
        let camera = format!("--use-file-for-fake-video-capture={}", picture.display());
        let publisher = page(path.command(At::Server, "node"), &[camera], PUBLISHER, "publish")?;
        let subscriber = page(path.command(At::Subscriber, "node"), &[], SUBSCRIBER, "subscribe")?;
        let mut meeting = Self { publisher, subscriber, _picture: folder };
        let begun = Instant::now();
        // Twice, so that what follows begins in a steady state.
        let mut steady = 0;
        while steady < 2 {
            let received = meeting.measure(2)?;
            steady =
                if received.last_width >= 1280 && received.frozen_seconds == 0.0 { steady + 1 } else { 0 };
            if begun.elapsed() > STEADY {
                bail!("no steady 1280x720 within {STEADY:?}: {received:?}, sent {:?}", meeting.sent()?);
            }
        }
        Ok(meeting)
    }

    /// Sets the condition of a phase and measures for its length.
    ///
    /// # Errors
    /// When the link cannot be set, or the page fails.
    pub fn run(&mut self, path: &ImpairedPath, phase: &Phase) -> Result<Received> {
        path.set(phase.condition)?;
        self.measure(phase.seconds)
    }

    fn measure(&mut self, seconds: u32) -> Result<Received> {
        let answer = evaluate(&mut self.subscriber, SUBSCRIBER, &format!("measure({seconds})"), seconds)?;
        serde_json::from_value(answer).context("figures of the subscriber's page")
    }

    /// What the publisher sends, over the next 3 s, smallest layer first.
    ///
    /// # Errors
    /// When the page fails.
    pub fn sent(&mut self) -> Result<Vec<SentLayer>> {
        let answer = evaluate(&mut self.publisher, PUBLISHER, "sent(3)", 3)?;
        serde_json::from_value(answer).context("figures of the publisher's page")
    }
}

/// A browser with the page, in the room.
fn page(node: Command, flags: &[String], name: &str, role: &str) -> Result<Browser> {
    let mut browser = Browser::with(node, flags)?;
    browser.camera_size = None;
    browser.open(name, &format!("file://{}", clients().join("impaired.html").display()))?;
    let join = format!("{role}('ws://{SERVER}:{PORT}', '{}')", token(ROOM, name)?);
    browser.eval(name, &join).with_context(|| format!("{name} joins"))?;
    Ok(browser)
}

/// Evaluates an expression that takes that long.
fn evaluate(browser: &mut Browser, name: &str, code: &str, seconds: u32) -> Result<Value> {
    browser.command(&json!({"do": "eval", "page": name, "code": code, "seconds": seconds}))
}
