//! A real Chromium with a fake camera and microphone, and a page for each participant.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::output_lines::OutputLines;
use crate::process::{ChildProcess, log_file};
use crate::scenario;

/// Limit, in seconds, for what the page does without further input.
const TIMEOUT: u64 = 45;

/// What the page knows of each track of others, and what it received of it.
const RECEIVED: &str = "(async () => {
    const lines = [];
    for (const [identity, remote] of systirRoom().remoteParticipants) {
        for (const publication of remote.trackPublications.values()) {
            const line = [identity, publication.trackSid, publication.kind, publication.isSubscribed ? 'subscribed' : '-'];
            line.push(`${publication.track?.attachedElements.length ?? 0} elements`);
            const stats = await publication.track?.getRTCStatsReport();
            for (const entry of stats?.values() ?? []) {
                if (entry.type !== 'inbound-rtp') continue;
                line.push(`${entry.packetsReceived} packets, ${entry.framesDecoded ?? '-'} frames, energy ${entry.totalAudioEnergy ?? '-'}`);
            }
            lines.push(line.join(' '));
        }
    }
    return lines;
})()";

/// What a page publishes, with the figures of each layer, in lines for the log of a failed test.
const SENT: &str = "(async () => {
    const lines = [];
    for (const publication of systirRoom().localParticipant.trackPublications.values()) {
        const stats = await publication.track?.getRTCStatsReport();
        for (const entry of stats?.values() ?? []) {
            if (entry.type !== 'outbound-rtp') continue;
            lines.push([publication.trackSid, publication.kind, publication.isMuted ? 'muted' : '', entry.rid ?? '-',
                entry.active ? 'on' : 'off', `${entry.frameWidth ?? '-'} px`, `${entry.framesEncoded ?? '-'} frames`,
                `${entry.packetsSent} packets`, entry.qualityLimitationReason ?? ''].join(' '));
        }
    }
    return lines;
})()";

/// The browser. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct Browser {
    child: ChildProcess,
    stdin: ChildStdin,
    stdout: OutputLines,
    /// Width and height of the camera on pages opened from now on; `None`: what the page asks for.
    pub camera_size: Option<(u32, u32)>,
    // Removed after the browser has ended.
    _profile: TempDir,
}

/// The folder of the test clients.
#[must_use]
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

impl Browser {
    /// Starts Chromium.
    ///
    /// # Errors
    /// When Node.js, the node modules or Chromium are missing; the message says what to install.
    pub fn start() -> Result<Self> {
        Self::with(Command::new("node"), &[])
    }

    /// Starts Chromium so that a page at this address gets camera and microphone, although it is
    /// served neither on loopback nor over TLS.
    ///
    /// # Errors
    /// As [`Browser::start`].
    pub fn start_for(address: &str) -> Result<Self> {
        let flag = format!("--unsafely-treat-insecure-origin-as-secure={address}");
        Self::with(Command::new("node"), &[flag])
    }

    /// Starts Chromium with more command-line flags. `node` is the command that runs Node.js, for example
    /// in a network namespace.
    ///
    /// # Errors
    /// As [`Browser::start`].
    pub fn with(mut node: Command, flags: &[String]) -> Result<Self> {
        if !clients().join("node_modules/puppeteer-core").is_dir() {
            bail!("puppeteer-core is missing: run tests/clients/node-clients");
        }
        if !Path::new(&std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())).exists()
        {
            bail!("chromium is not installed: apt-get install chromium");
        }
        let profile = tempfile::Builder::new().prefix("systir-chromium-").tempdir()?;
        let mut child = ChildProcess::start(
            node.arg("browser.mjs")
                .arg(profile.path())
                .args(flags)
                .current_dir(clients())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log_file("browser")?),
            "apt-get install nodejs",
        )?;
        let stdin = child.0.stdin.take().context("no standard input")?;
        let stdout = OutputLines::of(child.0.stdout.take().context("no standard output")?);
        let mut browser = Self { child, stdin, stdout, camera_size: Some((320, 180)), _profile: profile };
        browser.answer("Chromium's start", TIMEOUT)?;
        Ok(browser)
    }

    fn answer(&mut self, what: &str, seconds: u64) -> Result<Value> {
        let Some(line) = self.stdout.next(what, Duration::from_secs(seconds))? else {
            bail!("the browser's driver ended: {:?}", self.child.0.try_wait());
        };
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(error) = answer.get("error") {
            bail!("{error}");
        }
        Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
    }

    /// Sends a command of `clients/browser.mjs` and returns its result.
    ///
    /// # Errors
    /// When the command fails.
    pub fn command(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.stdin, "{command}")?;
        self.stdin.flush()?;
        let seconds = command["seconds"].as_u64().unwrap_or_default() + TIMEOUT;
        let what = format!("in the browser: {command}");
        self.answer(&what, seconds).with_context(|| what.clone())
    }

    /// Opens the meeting page for a participant and joins.
    ///
    /// # Errors
    /// When the participant cannot join; with the text that the page shows.
    pub fn join(&mut self, gateway_url: &str, room: &str, participant: &str) -> Result<()> {
        self.try_join(gateway_url, room, participant)?;
        self.joined(participant)
    }

    /// Opens the meeting page with a URL that contains a token, and joins.
    ///
    /// # Errors
    /// When the participant cannot join; with the text that the page shows.
    pub fn join_with_token(
        &mut self,
        gateway_url: &str,
        room: &str,
        participant: &str,
        token: &str,
    ) -> Result<()> {
        self.open(participant, &format!("{gateway_url}/?room={room}&name={participant}#token={token}"))?;
        self.click(participant, "#join-button")?;
        self.joined(participant)
    }

    fn joined(&mut self, participant: &str) -> Result<()> {
        let joined =
            "!document.getElementById('meeting').hidden || !document.getElementById('problem').hidden";
        self.wait(participant, joined, TIMEOUT)?;
        let problem = self.eval(participant, "document.getElementById('problem').textContent")?;
        if problem.as_str().is_some_and(|text| !text.is_empty()) {
            bail!("{participant} was refused: {problem}");
        }
        Ok(())
    }

    /// Opens the meeting page for a participant and presses Join.
    ///
    /// # Errors
    /// When there is no such page.
    pub fn try_join(&mut self, gateway_url: &str, room: &str, participant: &str) -> Result<()> {
        self.open(participant, &format!("{gateway_url}/?room={room}&name={participant}"))?;
        self.click(participant, "#join-button")
    }

    /// Opens a URL in a page of its own.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn open(&mut self, participant: &str, url: &str) -> Result<()> {
        let camera = self.camera_size.map(|(width, height)| [width, height]);
        self.command(&json!({"do": "open", "page": participant, "url": url, "camera": camera}))?;
        Ok(())
    }

    /// Clicks on an element.
    ///
    /// # Errors
    /// When there is no such element.
    pub fn click(&mut self, participant: &str, selector: &str) -> Result<()> {
        self.command(&json!({"do": "click", "page": participant, "selector": selector}))?;
        Ok(())
    }

    /// Evaluates an expression on a participant's page.
    ///
    /// # Errors
    /// When it throws.
    pub fn eval(&mut self, participant: &str, code: &str) -> Result<Value> {
        self.command(&json!({"do": "eval", "page": participant, "code": code}))
    }

    /// Waits until an expression is true on a participant's page.
    ///
    /// # Errors
    /// When it does not become true within `seconds`.
    pub fn wait(&mut self, participant: &str, code: &str, seconds: u64) -> Result<Value> {
        let waited =
            self.command(&json!({"do": "wait", "page": participant, "code": code, "seconds": seconds}));
        if waited.is_err()
            && let Ok(log) = self.command(&json!({"do": "log", "page": participant}))
        {
            eprintln!("console of {participant}'s page: {log:#}");
        }
        waited
    }

    /// Waits until a participant receives audio and video of `others` participants.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_media(&mut self, participant: &str, others: usize) -> Result<()> {
        let code = format!(
            "(async () => {{
                const room = systirRoom();
                if (!room || room.remoteParticipants.size < {others}) return false;
                let videos = 0, audios = 0;
                for (const remote of room.remoteParticipants.values()) {{
                    for (const publication of remote.trackPublications.values()) {{
                        if (!publication.track) continue;
                        const stats = await publication.track.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video' && entry.framesDecoded > 5) videos += 1;
                            if (entry.kind === 'audio' && entry.packetsReceived > 20) audios += 1;
                        }}
                    }}
                }}
                return videos >= {others} && audios >= {others};
            }})()"
        );
        self.wait(participant, &code, TIMEOUT)?;
        Ok(())
    }

    /// Waits until a participant's page has decoded `frames` more video frames of each of these
    /// participants, and `frames` times 10 ms more of their audio, which must not be silence.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_new_media(&mut self, participant: &str, others: &[&str], frames: u64) -> Result<()> {
        let code = format!(
            "(async () => {{
                window.mediaBefore ??= {{}};
                for (const identity of {others:?}) {{
                    const remote = systirRoom().remoteParticipants.get(identity);
                    const now = {{ video: 0, audio: 0 }};
                    for (const publication of remote?.trackPublications.values() ?? []) {{
                        const stats = await publication.track?.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video') now.video += entry.framesDecoded;
                            if (entry.kind === 'audio' && entry.totalAudioEnergy > 0)
                                now.audio += entry.totalSamplesReceived - entry.concealedSamples;
                        }}
                    }}
                    const before = window.mediaBefore[identity] ??= now;
                    // 10 ms of audio are 480 samples.
                    if (now.video < before.video + {frames} || now.audio < before.audio + {frames} * 480) return false;
                }}
                window.mediaBefore = undefined;
                return true;
            }})()"
        );
        let waited = self.wait(participant, &code, TIMEOUT);
        if waited.is_err() {
            if let Ok(received) = self.eval(participant, RECEIVED) {
                eprintln!("tracks on {participant}'s page: {received:#}");
            }
            // The others may be in other programs.
            for publisher in others.iter().chain([&participant]) {
                if let Ok(sent) = self.eval(publisher, SENT) {
                    eprintln!("sent by {publisher}'s page: {sent:#}");
                }
            }
        }
        waited.with_context(|| format!("{participant} receives audio and video of {others:?}"))?;
        Ok(())
    }

    /// Watches the next `frames` video frames of `other`: the longest pause before a frame in ms, and
    /// the share of audio samples that the page concealed meanwhile.
    ///
    /// # Errors
    /// When no frame comes for 20 s.
    pub fn longest_pause_and_concealed_share(
        &mut self,
        participant: &str,
        other: &str,
        frames: u32,
    ) -> Result<(f64, f64)> {
        let code = format!(
            "(async () => {{
                const remote = systirRoom().remoteParticipants.get({other:?});
                const tracks = [...remote.trackPublications.values()].map(publication => publication.track);
                const video = tracks.find(track => track.kind === 'video').attachedElements[0];
                const samples = async () => {{
                    const report = await tracks.find(track => track.kind === 'audio').getRTCStatsReport();
                    const stats = [...report.values()].find(entry => entry.type === 'inbound-rtp');
                    return [stats.totalSamplesReceived, stats.concealedSamples];
                }};
                const next = () => new Promise((shown, failed) => {{
                    setTimeout(() => failed(new Error('no video frame for 20 s')), 20000);
                    video.requestVideoFrameCallback(shown);
                }});
                const [total, concealed] = await samples();
                let last = await next(), longest = 0;
                for (let count = 0; count < {frames}; count += 1) {{
                    const now = await next();
                    longest = Math.max(longest, now - last);
                    last = now;
                }}
                const [totalNow, concealedNow] = await samples();
                return [longest, (concealedNow - concealed) / (totalNow - total)];
            }})()"
        );
        let answer = self.eval(participant, &code)?;
        let number = |index: usize| answer[index].as_f64().with_context(|| format!("not a number: {answer}"));
        Ok((number(0)?, number(1)?))
    }

    /// Saves a screenshot of a participant's page among the artefacts, as `NAME.png`.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn screenshot(
        &mut self,
        participant: &str,
        name: &str,
        (width, height): (u32, u32),
    ) -> Result<PathBuf> {
        let file = scenario::artefacts()?.join(format!("{name}.png"));
        self.command(
            &json!({"do": "screenshot", "page": participant, "file": file, "width": width, "height": height}),
        )?;
        Ok(file)
    }

    /// Closes a participant's page.
    ///
    /// # Errors
    /// When there is no such page.
    pub fn close(&mut self, participant: &str) -> Result<()> {
        self.command(&json!({"do": "close", "page": participant}))?;
        Ok(())
    }
}
