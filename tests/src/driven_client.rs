//! Client programs that read a command from each line of standard input and print events as a JSON
//! object per line: LiveKit's Go SDK and a real Firefox. Every wait has a limit.

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::clients;
use crate::output_lines::OutputLines;
use crate::process::{ChildProcess, log_file};

/// Limit for what the client does without further input.
const TIMEOUT: Duration = Duration::from_secs(45);

/// One client program. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct DrivenClient {
    // Dropped first: its pipes close with it.
    child: ChildProcess,
    stdin: ChildStdin,
    stdout: OutputLines,
    /// Events that no wait has returned yet.
    unread: Vec<Value>,
    // Removed after the program has ended.
    _profile: Option<TempDir>,
}

impl DrivenClient {
    /// Starts any such program. Its standard error goes to a log of that name; `install` says in an error how to
    /// get the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &str, install: &str) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file(log)?);
        let mut child = ChildProcess::start(command, install)?;
        let stdin = child.0.stdin.take().context("no standard input")?;
        let stdout = OutputLines::of(child.0.stdout.take().context("no standard output")?);
        Ok(Self { child, stdin, stdout, unread: Vec::new(), _profile: None })
    }

    /// Joins with the Go SDK (pion). The commands are those of `clients/go/main.go`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn go(url: &str, token: &str) -> Result<Self> {
        let program = clients().join("go/client");
        if !program.is_file() {
            bail!("the Go client is missing: run tests/clients/go-client");
        }
        let url = url.replacen("http", "ws", 1);
        let mut client =
            Self::start(Command::new(program).arg(url).arg(token), "go", "run tests/clients/go-client")?;
        client.wait_for("the Go client in the room", |event| match event["event"].as_str() {
            Some("connected" | "refused") => Some(event["event"] == "connected"),
            _ => None,
        })?;
        Ok(client)
    }

    /// Starts Firefox.
    ///
    /// # Errors
    /// When Firefox, Node.js or the node modules are missing.
    pub fn firefox() -> Result<Self> {
        Self::firefox_with(Command::new("node"))
    }

    /// Starts Firefox. `node` is the command that runs Node.js, for example in a network namespace.
    ///
    /// # Errors
    /// As [`DrivenClient::firefox`].
    pub fn firefox_with(mut node: Command) -> Result<Self> {
        if !Path::new(&std::env::var("FIREFOX").unwrap_or_else(|_| "/usr/bin/firefox-esr".to_owned()))
            .exists()
        {
            bail!("firefox-esr is not installed: apt-get install firefox-esr");
        }
        if !clients().join("node_modules/puppeteer-core").is_dir() {
            bail!("puppeteer-core is missing: run tests/clients/node-clients");
        }
        let profile = tempfile::Builder::new().prefix("systir-firefox-").tempdir()?;
        node.arg("firefox.mjs").arg(profile.path()).current_dir(clients());
        let mut browser = Self::start(&mut node, "firefox", "apt-get install nodejs")?;
        browser._profile = Some(profile);
        browser.answer("Firefox's start", TIMEOUT)?;
        Ok(browser)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush()).context("the client has ended")
    }

    /// Sends a command of `clients/go/main.go` and waits until it is done.
    ///
    /// # Errors
    /// When it fails.
    pub fn command(&mut self, command: &str) -> Result<()> {
        self.send_line(command)?;
        let done = self.wait_for(command, |event| {
            let matches = event["command"] == command;
            (matches && (event["event"] == "done" || event["event"] == "failed")).then(|| event.clone())
        })?;
        if done["event"] == "failed" {
            bail!("{command}: {}", done["reason"]);
        }
        Ok(())
    }

    /// Discards the unread events of that name.
    pub fn discard(&mut self, name: &str) {
        self.unread.retain(|event| event["event"] != name);
    }

    /// Takes the unread events of that name that have been printed before the last event that a wait returned.
    pub fn take(&mut self, name: &str) -> Vec<Value> {
        let (taken, rest) =
            std::mem::take(&mut self.unread).into_iter().partition(|event| event["event"] == name);
        self.unread = rest;
        taken
    }

    /// Waits for an event; unread earlier ones count.
    ///
    /// # Errors
    /// When none comes; with the unread events.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&Value) -> Option<T>) -> Result<T> {
        self.within(TIMEOUT, what, find)
    }

    fn within<T>(&mut self, limit: Duration, what: &str, find: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let found = self.unread.iter().enumerate().find_map(|(at, event)| Some((at, find(event)?)));
        if let Some((at, found)) = found {
            self.unread.remove(at);
            return Ok(found);
        }
        let end = Instant::now() + limit;
        loop {
            let line = self.stdout.next(what, end.saturating_duration_since(Instant::now()));
            let Some(line) = line.with_context(|| format!("unread events: {:?}", self.unread))? else {
                bail!(
                    "the client ended ({:?}) before {what}; unread events: {:?}",
                    self.child.0.try_wait(),
                    self.unread
                )
            };
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match find(&event) {
                Some(found) => return Ok(found),
                None => self.unread.push(event),
            }
        }
    }

    /// Waits for an event about a participant's track of that name.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for_track_event(&mut self, event: &str, identity: &str, name: &str) -> Result<Value> {
        self.wait_for(&format!("`{event}` of {identity}'s {name}"), |one| {
            let matches = one["event"] == event && one["participant"] == identity && one["name"] == name;
            matches.then(|| one.clone())
        })
    }

    /// Waits until this number of whole video frames, or of audio packets, of a track has arrived with
    /// no packet missing.
    ///
    /// # Errors
    /// When they do not arrive.
    pub fn wait_for_frames(&mut self, identity: &str, name: &str, frames: u64) -> Result<()> {
        loop {
            let media = self.wait_for_track_event("media", identity, name)?;
            if media["frames"].as_u64() >= Some(frames) && media["missing"] == 0 {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, what: &str, limit: Duration) -> Result<Value> {
        let answer = self.within(limit, what, |event| {
            (event.get("ok").is_some() || event.get("error").is_some()).then(|| event.clone())
        })?;
        match answer.get("error") {
            Some(error) => bail!("{what}: {error}"),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Sends a command of `clients/firefox.mjs` and returns its result.
    ///
    /// # Errors
    /// When the command fails.
    pub fn browser_command(&mut self, command: &Value) -> Result<Value> {
        self.send_line(&command.to_string())?;
        let seconds = Duration::from_secs(command["seconds"].as_u64().unwrap_or_default());
        self.answer(&command.to_string(), seconds + TIMEOUT)
    }

    /// Opens the meeting page in Firefox for a participant and joins.
    ///
    /// # Errors
    /// When the participant cannot join; with the text that the page shows.
    pub fn join_page(&mut self, gateway_url: &str, room: &str, participant: &str) -> Result<()> {
        let url = format!("{gateway_url}/?room={room}&name={participant}");
        self.browser_command(&json!({"do": "open", "page": participant, "url": url}))?;
        self.browser_command(&json!({"do": "click", "page": participant, "selector": "#join-button"}))?;
        let joined =
            "!document.getElementById('meeting').hidden || !document.getElementById('problem').hidden";
        self.browser_command(&json!({"do": "wait", "page": participant, "code": joined, "seconds": 45}))?;
        let problem = "document.getElementById('problem').textContent";
        let problem = self.browser_command(&json!({"do": "eval", "page": participant, "code": problem}))?;
        if problem.as_str().is_some_and(|text| !text.is_empty()) {
            bail!("{participant} was refused: {problem}");
        }
        Ok(())
    }

    /// Waits until a participant in Firefox receives audio and video of each of these names.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_media(&mut self, participant: &str, names: &[&str]) -> Result<()> {
        let code = format!(
            "(async () => {{
                for (const name of {names:?}) {{
                    const remote = [...systirRoom().remoteParticipants.values()].find((one) => one.name === name);
                    let frames = 0, packets = 0;
                    for (const publication of remote?.trackPublications.values() ?? []) {{
                        const stats = await publication.track?.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video') frames += entry.framesDecoded;
                            if (entry.kind === 'audio') packets += entry.packetsReceived;
                        }}
                    }}
                    if (frames < 15 || packets < 50) return false;
                }}
                return true;
            }})()"
        );
        self.browser_command(&json!({"do": "wait", "page": participant, "code": code, "seconds": 45}))?;
        Ok(())
    }
}
