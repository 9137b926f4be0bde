//! A real Chromium with fake camera and microphone, one page for each person.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::output_lines::Lines;
use crate::process::{Owned, log_file};
use crate::scenario;

/// How long the browser may take for something that the page does by itself.
const PATIENCE: u64 = 45;

/// The browser. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct Browser {
    child: Owned,
    to: ChildStdin,
    from: Lines,
    /// The size that cameras give from now on; the page's own choice when there is none.
    pub pictures: Option<(u32, u32)>,
    // Removed after the browser has ended.
    _profile: TempDir,
}

/// Where the clients of the tests lie.
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
        Self::with(&[])
    }

    /// Starts Chromium, which gives the page at this address camera and microphone, though it is
    /// neither on this machine's loopback nor served over TLS.
    ///
    /// # Errors
    /// As [`Browser::start`].
    pub fn start_for(address: &str) -> Result<Self> {
        Self::with(&[format!("--unsafely-treat-insecure-origin-as-secure={address}")])
    }

    fn with(flags: &[String]) -> Result<Self> {
        if !clients().join("node_modules/puppeteer-core").is_dir() {
            bail!("puppeteer-core is missing: run tests/clients/node-clients");
        }
        if !Path::new(&std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())).exists()
        {
            bail!("chromium is not installed: apt-get install chromium");
        }
        let profile = tempfile::Builder::new().prefix("systir-chromium-").tempdir()?;
        let mut child = Owned::start(
            Command::new("node")
                .arg("browser.mjs")
                .arg(profile.path())
                .args(flags)
                .current_dir(clients())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log_file("browser")?),
            "apt-get install nodejs",
        )?;
        let to = child.0.stdin.take().context("no standard input")?;
        let from = Lines::of(child.0.stdout.take().context("no standard output")?);
        let mut browser = Self { child, to, from, pictures: Some((320, 180)), _profile: profile };
        browser.answer("Chromium's start", PATIENCE)?;
        Ok(browser)
    }

    fn answer(&mut self, what: &str, seconds: u64) -> Result<Value> {
        let Some(line) = self.from.next(what, Duration::from_secs(seconds))? else {
            bail!("the browser's driver ended: {:?}", self.child.0.try_wait());
        };
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(error) = answer.get("error") {
            bail!("{error}");
        }
        Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
    }

    /// Sends one command of `clients/browser.mjs`.
    ///
    /// # Errors
    /// What the page answered.
    pub fn carry_out(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.to, "{command}")?;
        self.to.flush()?;
        let seconds = command["seconds"].as_u64().unwrap_or_default() + PATIENCE;
        let what = format!("in the browser: {command}");
        self.answer(&what, seconds).with_context(|| what.clone())
    }

    /// Opens the meeting page for a person and joins.
    ///
    /// # Errors
    /// When the page does not get into the meeting; with the page's own words.
    pub fn join(&mut self, front_door: &str, room: &str, person: &str) -> Result<()> {
        self.try_join(front_door, room, person)?;
        self.joined(person)
    }

    /// Opens the meeting page with a link that holds a token, and joins.
    ///
    /// # Errors
    /// When the page does not get into the meeting; with the page's own words.
    pub fn join_with(&mut self, front_door: &str, room: &str, person: &str, token: &str) -> Result<()> {
        self.open(person, &format!("{front_door}/?room={room}&name={person}#token={token}"))?;
        self.click(person, "#join-button")?;
        self.joined(person)
    }

    fn joined(&mut self, person: &str) -> Result<()> {
        let joined =
            "!document.getElementById('meeting').hidden || !document.getElementById('problem').hidden";
        self.wait(person, joined, PATIENCE)?;
        let problem = self.eval(person, "document.getElementById('problem').textContent")?;
        if problem.as_str().is_some_and(|text| !text.is_empty()) {
            bail!("{person} was refused: {problem}");
        }
        Ok(())
    }

    /// Opens the meeting page for a person and presses Join.
    ///
    /// # Errors
    /// When there is no such page.
    pub fn try_join(&mut self, front_door: &str, room: &str, person: &str) -> Result<()> {
        self.open(person, &format!("{front_door}/?room={room}&name={person}"))?;
        self.click(person, "#join-button")
    }

    /// Opens an address in a page of its own.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn open(&mut self, person: &str, url: &str) -> Result<()> {
        let pictures = self.pictures.map(|(width, height)| [width, height]);
        self.carry_out(&json!({"do": "open", "page": person, "url": url, "pictures": pictures}))?;
        Ok(())
    }

    /// Clicks on an element.
    ///
    /// # Errors
    /// When there is none.
    pub fn click(&mut self, person: &str, selector: &str) -> Result<()> {
        self.carry_out(&json!({"do": "click", "page": person, "selector": selector}))?;
        Ok(())
    }

    /// What an expression is on a person's page.
    ///
    /// # Errors
    /// What it threw.
    pub fn eval(&mut self, person: &str, code: &str) -> Result<Value> {
        self.carry_out(&json!({"do": "eval", "page": person, "code": code}))
    }

    /// Waits until an expression is true on a person's page.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn wait(&mut self, person: &str, code: &str, seconds: u64) -> Result<Value> {
        let waited = self.carry_out(&json!({"do": "wait", "page": person, "code": code, "seconds": seconds}));
        if waited.is_err()
            && let Ok(log) = self.carry_out(&json!({"do": "log", "page": person}))
        {
            eprintln!("the page of {person} said: {log:#}");
        }
        waited
    }

    /// Waits until a person sees moving pictures of `others` people and hears each of them.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn sees_and_hears(&mut self, person: &str, others: usize) -> Result<()> {
        let code = format!(
            "(async () => {{
                const room = systirRoom();
                if (!room || room.remoteParticipants.size < {others}) return false;
                let seen = 0, heard = 0;
                for (const who of room.remoteParticipants.values()) {{
                    for (const publication of who.trackPublications.values()) {{
                        if (!publication.track) continue;
                        const stats = await publication.track.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video' && entry.framesDecoded > 5) seen += 1;
                            if (entry.kind === 'audio' && entry.packetsReceived > 20) heard += 1;
                        }}
                    }}
                }}
                return seen >= {others} && heard >= {others};
            }})()"
        );
        self.wait(person, &code, PATIENCE)?;
        Ok(())
    }

    /// Waits until a person's page has decoded `frames` more pictures and audible sound of each of
    /// these people.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn watches(&mut self, person: &str, people: &[&str], frames: u64) -> Result<()> {
        let code = format!(
            "(async () => {{
                window.seenThen ??= {{}};
                for (const identity of {people:?}) {{
                    const who = systirRoom().remoteParticipants.get(identity);
                    const now = {{ video: 0, audio: 0 }};
                    for (const publication of who?.trackPublications.values() ?? []) {{
                        const stats = await publication.track?.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video') now.video += entry.framesDecoded;
                            if (entry.kind === 'audio' && entry.totalAudioEnergy > 0)
                                now.audio += entry.totalSamplesReceived - entry.concealedSamples;
                        }}
                    }}
                    const then = window.seenThen[identity] ??= now;
                    // A hundredth of a second of sound is 480 samples.
                    if (now.video < then.video + {frames} || now.audio < then.audio + {frames} * 480) return false;
                }}
                window.seenThen = undefined;
                return true;
            }})()"
        );
        self.wait(person, &code, PATIENCE).with_context(|| format!("{person} sees and hears {people:?}"))?;
        Ok(())
    }

    /// Of so many pictures of `other` from now on the longest pause before one (ms), and which share of
    /// their sound in that time the page had to make up.
    ///
    /// # Errors
    /// When the pictures do not come.
    pub fn worst(&mut self, person: &str, other: &str, pictures: u32) -> Result<(f64, f64)> {
        let code = format!(
            "(async () => {{
                const who = systirRoom().remoteParticipants.get({other:?});
                const tracks = [...who.trackPublications.values()].map(publication => publication.track);
                const picture = tracks.find(track => track.kind === 'video').attachedElements[0];
                const sound = async () => {{
                    const report = await tracks.find(track => track.kind === 'audio').getRTCStatsReport();
                    const stats = [...report.values()].find(entry => entry.type === 'inbound-rtp');
                    return [stats.totalSamplesReceived, stats.concealedSamples];
                }};
                const next = () => new Promise((shown, failed) => {{
                    setTimeout(() => failed(new Error('no picture for 20 s')), 20000);
                    picture.requestVideoFrameCallback(shown);
                }});
                const [all, madeUp] = await sound();
                let last = await next(), longest = 0;
                for (let count = 0; count < {pictures}; count += 1) {{
                    const now = await next();
                    longest = Math.max(longest, now - last);
                    last = now;
                }}
                const [allNow, madeUpNow] = await sound();
                return [longest, (madeUpNow - madeUp) / (allNow - all)];
            }})()"
        );
        let answer = self.eval(person, &code)?;
        let number = |index: usize| answer[index].as_f64().with_context(|| format!("not a number: {answer}"));
        Ok((number(0)?, number(1)?))
    }

    /// Keeps a picture of a person's page among the artefacts, as `NAME.png`.
    ///
    /// # Errors
    /// When none can be taken.
    pub fn shot(&mut self, person: &str, name: &str, (width, height): (u32, u32)) -> Result<PathBuf> {
        let file = scenario::artefacts()?.join(format!("{name}.png"));
        let shot = json!({"do": "shot", "page": person, "file": file, "width": width, "height": height});
        self.carry_out(&shot)?;
        Ok(file)
    }

    /// Closes a person's page.
    ///
    /// # Errors
    /// When there is none.
    pub fn close(&mut self, person: &str) -> Result<()> {
        self.carry_out(&json!({"do": "close", "page": person}))?;
        Ok(())
    }
}
