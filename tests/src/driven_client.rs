//! Client programs that are told line by line what to do, and say what happens as one JSON object a
//! line: LiveKit's Go SDK, and a real Firefox. Nothing is waited for without a limit.

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::clients;
use crate::output_lines::Lines;
use crate::process::{Owned, log_file};

/// How long something may take that the client does by itself.
const PATIENCE: Duration = Duration::from_secs(45);

/// One client program. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct Talker {
    // Ended first: its pipes close with it.
    child: Owned,
    to: ChildStdin,
    from: Lines,
    /// What it said and nobody asked for yet.
    kept: Vec<Value>,
    // Removed after the program has ended.
    _profile: Option<TempDir>,
}

impl Talker {
    fn start(command: &mut Command, log: &str, install: &str) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file(log)?);
        let mut child = Owned::start(command, install)?;
        let to = child.0.stdin.take().context("no standard input")?;
        let from = Lines::of(child.0.stdout.take().context("no standard output")?);
        Ok(Self { child, to, from, kept: Vec::new(), _profile: None })
    }

    /// Joins with the Go SDK (pion). The commands are those of `clients/go/main.go`.
    ///
    /// # Errors
    /// When it was not built, or does not get in.
    pub fn go(url: &str, token: &str) -> Result<Self> {
        let program = clients().join("go/client");
        if !program.is_file() {
            bail!("the Go client is missing: run tests/clients/go-client");
        }
        let url = url.replacen("http", "ws", 1);
        let mut client =
            Self::start(Command::new(program).arg(url).arg(token), "go", "run tests/clients/go-client")?;
        client.until("the Go client in the room", |said| match said["event"].as_str() {
            Some("connected" | "refused") => Some(said["event"] == "connected"),
            _ => None,
        })?;
        Ok(client)
    }

    /// Starts Firefox.
    ///
    /// # Errors
    /// When Firefox, Node.js or the node modules are missing.
    pub fn firefox() -> Result<Self> {
        if !Path::new(&std::env::var("FIREFOX").unwrap_or_else(|_| "/usr/bin/firefox-esr".to_owned()))
            .exists()
        {
            bail!("firefox-esr is not installed: apt-get install firefox-esr");
        }
        if !clients().join("node_modules/puppeteer-core").is_dir() {
            bail!("puppeteer-core is missing: run tests/clients/node-clients");
        }
        let profile = tempfile::Builder::new().prefix("systir-firefox-").tempdir()?;
        let mut command = Command::new("node");
        command.arg("firefox.mjs").arg(profile.path()).current_dir(clients());
        let mut browser = Self::start(&mut command, "firefox", "apt-get install nodejs")?;
        browser._profile = Some(profile);
        browser.answer("Firefox's start", PATIENCE)?;
        Ok(browser)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.to, "{line}").and_then(|()| self.to.flush()).context("the client has ended")
    }

    /// Gives a command of `clients/go/main.go` and waits until it was carried out.
    ///
    /// # Errors
    /// What it answers.
    pub fn carry_out(&mut self, command: &str) -> Result<()> {
        self.tell(command)?;
        let done = self.until(command, |said| {
            let mine = said["command"] == command;
            (mine && (said["event"] == "done" || said["event"] == "failed")).then(|| said.clone())
        })?;
        if done["event"] == "failed" {
            bail!("{command}: {}", done["reason"]);
        }
        Ok(())
    }

    /// What it said so far of that kind does not count any more.
    pub fn forget(&mut self, event: &str) {
        self.kept.retain(|said| said["event"] != event);
    }

    /// Waits for something that the program says, also among what it said and nobody asked for.
    ///
    /// # Errors
    /// When it does not, with all that it said.
    pub fn until<T>(&mut self, what: &str, find: impl Fn(&Value) -> Option<T>) -> Result<T> {
        self.within(PATIENCE, what, find)
    }

    fn within<T>(&mut self, limit: Duration, what: &str, find: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let found = self.kept.iter().enumerate().find_map(|(at, said)| Some((at, find(said)?)));
        if let Some((at, found)) = found {
            self.kept.remove(at);
            return Ok(found);
        }
        let end = Instant::now() + limit;
        loop {
            let line = self.from.next(what, end.saturating_duration_since(Instant::now()));
            let Some(line) = line.with_context(|| format!("it said {:?}", self.kept))? else {
                bail!(
                    "the client ended ({:?}) before {what}; it said {:?}",
                    self.child.0.try_wait(),
                    self.kept
                )
            };
            let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
            match find(&said) {
                Some(found) => return Ok(found),
                None => self.kept.push(said),
            }
        }
    }

    /// Waits for an event of that name about a track of somebody.
    ///
    /// # Errors
    /// When it does not come.
    pub fn of_track(&mut self, event: &str, identity: &str, name: &str) -> Result<Value> {
        self.until(&format!("`{event}` of {identity}'s {name}"), |said| {
            let fits = said["event"] == event && said["of"] == identity && said["name"] == name;
            fits.then(|| said.clone())
        })
    }

    /// Waits until so many whole pictures, or packets of sound, of a track have come without a hole.
    ///
    /// # Errors
    /// When they do not.
    pub fn receives(&mut self, identity: &str, name: &str, frames: u64) -> Result<()> {
        loop {
            let media = self.of_track("media", identity, name)?;
            if media["frames"].as_u64() >= Some(frames) && media["missing"] == 0 {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, what: &str, limit: Duration) -> Result<Value> {
        let answer = self.within(limit, what, |said| {
            (said.get("ok").is_some() || said.get("error").is_some()).then(|| said.clone())
        })?;
        match answer.get("error") {
            Some(error) => bail!("{what}: {error}"),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Gives a command of `clients/firefox.mjs`.
    ///
    /// # Errors
    /// What the page answered.
    pub fn ask(&mut self, command: &Value) -> Result<Value> {
        self.tell(&command.to_string())?;
        let seconds = Duration::from_secs(command["seconds"].as_u64().unwrap_or_default());
        self.answer(&command.to_string(), seconds + PATIENCE)
    }

    /// Opens the meeting page in Firefox for a person and joins.
    ///
    /// # Errors
    /// When the page does not get into the meeting; with the page's own words.
    pub fn join_page(&mut self, front_door: &str, room: &str, person: &str) -> Result<()> {
        let url = format!("{front_door}/?room={room}&name={person}");
        self.ask(&json!({"do": "open", "page": person, "url": url}))?;
        self.ask(&json!({"do": "click", "page": person, "selector": "#join-button"}))?;
        let joined =
            "!document.getElementById('meeting').hidden || !document.getElementById('problem').hidden";
        self.ask(&json!({"do": "wait", "page": person, "code": joined, "seconds": 45}))?;
        let problem = "document.getElementById('problem').textContent";
        let problem = self.ask(&json!({"do": "eval", "page": person, "code": problem}))?;
        if problem.as_str().is_some_and(|text| !text.is_empty()) {
            bail!("{person} was refused: {problem}");
        }
        Ok(())
    }

    /// Waits until a person in Firefox has moving pictures and sound of each of these names.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn watches(&mut self, person: &str, names: &[&str]) -> Result<()> {
        let code = format!(
            "(async () => {{
                for (const name of {names:?}) {{
                    const who = [...systirRoom().remoteParticipants.values()].find((one) => one.name === name);
                    let seen = 0, heard = 0;
                    for (const publication of who?.trackPublications.values() ?? []) {{
                        const stats = await publication.track?.getRTCStatsReport();
                        for (const entry of stats?.values() ?? []) {{
                            if (entry.type !== 'inbound-rtp') continue;
                            if (entry.kind === 'video') seen += entry.framesDecoded;
                            if (entry.kind === 'audio') heard += entry.packetsReceived;
                        }}
                    }}
                    if (seen < 15 || heard < 50) return false;
                }}
                return true;
            }})()"
        );
        self.ask(&json!({"do": "wait", "page": person, "code": code, "seconds": 45}))?;
        Ok(())
    }
}
