//! LiveKit's native SDK (libwebrtc), unchanged, through its Python package.

use std::io::Write as _;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::browser::clients;
use crate::output_lines::Lines;
use crate::process::{Owned, log_file};

/// How long an event may be awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// One person with a native client.
#[derive(Debug)]
pub struct Native {
    child: Owned,
    to: Option<ChildStdin>,
    from: Lines,
    /// Everything that it said so far.
    pub said: Vec<Value>,
}

impl Native {
    /// Joins; `options` are those of `clients/python_client.py`.
    ///
    /// # Errors
    /// When the Python environment is missing.
    pub fn join(url: &str, token: &str, options: &[&str]) -> Result<Self> {
        let python = clients().join(".venv/bin/python");
        if !python.exists() {
            bail!("the native client is missing: run tests/clients/python-client");
        }
        let mut child = Owned::start(
            Command::new(python)
                .arg(clients().join("python_client.py"))
                .arg(url)
                .arg(token)
                .args(options)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log_file("native")?),
            "run tests/clients/python-client",
        )?;
        let from = Lines::of(child.0.stdout.take().context("no standard output")?);
        let to = child.0.stdin.take();
        Ok(Self { child, to, from, said: Vec::new() })
    }

    /// Reads on until it said an event of that name.
    ///
    /// # Errors
    /// When it ended before, or said nothing for a minute; with what it said.
    pub fn until(&mut self, event: &str) -> Result<Value> {
        self.until_said(event, |_| true)
    }

    /// Reads on until it said an event of that name that fits.
    ///
    /// # Errors
    /// When it ended before, or said nothing for a minute; with what it said.
    pub fn until_said(&mut self, event: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let what = format!("`{event}` of the native client");
        loop {
            let line = self.from.next(&what, PATIENCE);
            let Some(line) = line.with_context(|| format!("it said: {:?}", self.said))? else {
                bail!("the native client ended without `{event}`: {:?}", self.said);
            };
            let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
            self.said.push(said.clone());
            if said["event"] == event && fits(&said) {
                return Ok(said);
            }
        }
    }

    /// Gives one of the commands that `--hold` listens to.
    ///
    /// # Errors
    /// When it has ended.
    pub fn carry_out(&mut self, command: &Value) -> Result<()> {
        let to = self.to.as_mut().context("the native client was told to end")?;
        writeln!(to, "{command}").and_then(|()| to.flush()).context("the native client has ended")
    }

    /// Waits until each of these people was audible, and of each `frames` more pictures were decoded and
    /// as many packets of sound received.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn sees_and_hears(&mut self, people: &[&str], frames: u64) -> Result<()> {
        self.carry_out(&json!({"do": "watch", "people": people, "frames": frames}))?;
        self.until("watched").with_context(|| format!("pictures and sound of {people:?}"))?;
        Ok(())
    }

    /// Waits for its end: true when everything happened that it waited for.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<bool> {
        drop(self.to.take());
        while let Some(line) = self.from.next("the native client's end", PATIENCE)? {
            self.said.extend(serde_json::from_str::<Value>(&line));
        }
        let status = self.child.wait(PATIENCE)?;
        if !status.success() {
            eprintln!("the native client said: {:?}", self.said);
        }
        Ok(status.success())
    }
}
