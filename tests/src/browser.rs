//! A real Chromium with fake camera and microphone, one page for each person.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::process::Owned;

/// The browser. Calls block; run them on a blocking thread of an async test.
#[derive(Debug)]
pub struct Browser {
    child: Owned,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
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
        if !clients().join("node_modules/puppeteer-core").is_dir() {
            bail!("puppeteer-core is missing: run `npm ci` in tests/clients");
        }
        if !Path::new(&std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())).exists()
        {
            bail!("chromium is not installed: apt-get install chromium");
        }
        let mut child = Owned::start(
            Command::new("node")
                .arg("browser.mjs")
                .current_dir(clients())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
            "apt-get install nodejs",
        )?;
        let to = child.0.stdin.take().context("no standard input")?;
        let from = BufReader::new(child.0.stdout.take().context("no standard output")?);
        let mut browser = Self { child, to, from };
        browser.answer().context("Chromium did not start")?;
        Ok(browser)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            bail!("the browser's driver ended: {:?}", self.child.0.try_wait());
        }
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
        self.answer().with_context(|| format!("in the browser: {command}"))
    }

    /// Opens the meeting page for a person and joins.
    ///
    /// # Errors
    /// When the page does not get into the meeting; with the page's own words.
    pub fn join(&mut self, front_door: &str, room: &str, person: &str) -> Result<()> {
        self.try_join(front_door, room, person)?;
        let joined =
            "!document.getElementById('meeting').hidden || !document.getElementById('problem').hidden";
        self.wait(person, joined, 20)?;
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
        let url = format!("{front_door}/?room={room}&name={person}");
        self.carry_out(&json!({"do": "open", "page": person, "url": url}))?;
        self.carry_out(&json!({"do": "click", "page": person, "selector": "#join-button"}))?;
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
        self.wait(person, &code, 40)?;
        Ok(())
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
