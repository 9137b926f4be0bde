//! LiveKit's native SDK (libwebrtc), unchanged, through its Python package.

use std::io::Write as _;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::browser::clients;
use crate::output_lines::OutputLines;
use crate::process::{ChildProcess, log_file};

/// Limit of each wait for an event.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A participant with a native client.
#[derive(Debug)]
pub struct NativeClient {
    child: ChildProcess,
    stdin: Option<ChildStdin>,
    stdout: OutputLines,
    /// All events so far.
    pub events: Vec<Value>,
}

impl NativeClient {
    /// Joins; `options` are those of `clients/python_client.py`.
    ///
    /// # Errors
    /// When the Python environment is missing.
    pub fn join(url: &str, token: &str, options: &[&str]) -> Result<Self> {
        let python = clients().join(".venv/bin/python");
        if !python.exists() {
            bail!("the native client is missing: run tests/clients/python-client");
        }
        let mut child = ChildProcess::start(
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
        let stdout = OutputLines::of(child.0.stdout.take().context("no standard output")?);
        let stdin = child.0.stdin.take();
        Ok(Self { child, stdin, stdout, events: Vec::new() })
    }

    /// Waits for the next event of that name.
    ///
    /// # Errors
    /// When the client ends before, or prints nothing for a minute; with all events so far.
    pub fn wait_for(&mut self, event: &str) -> Result<Value> {
        self.wait_for_matching(event, |_| true)
    }

    /// Waits for the next event of that name that matches.
    ///
    /// # Errors
    /// When the client ends before, or prints nothing for a minute; with all events so far.
    pub fn wait_for_matching(&mut self, name: &str, matches: impl Fn(&Value) -> bool) -> Result<Value> {
        let what = format!("`{name}` of the native client");
        loop {
            let line = self.stdout.next(&what, TIMEOUT);
            let Some(line) = line.with_context(|| format!("its events: {:?}", self.events))? else {
                bail!("the native client ended without `{name}`: {:?}", self.events);
            };
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            self.events.push(event.clone());
            if event["event"] == name && matches(&event) {
                return Ok(event);
            }
        }
    }

    /// Sends one of the commands that the client accepts with `--hold`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn command(&mut self, command: &Value) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the native client's input is closed")?;
        writeln!(stdin, "{command}").and_then(|()| stdin.flush()).context("the native client has ended")
    }

    /// Waits until `frames` more video frames of each of these participants were decoded, as many audio
    /// packets were received, and each of them was audible at least once.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_media(&mut self, participants: &[&str], frames: u64) -> Result<()> {
        self.command(&json!({"do": "watch", "participants": participants, "frames": frames}))?;
        self.wait_for("watched").with_context(|| format!("audio and video of {participants:?}"))?;
        Ok(())
    }

    /// Closes the client's input and waits for its end: true when its status is a success.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<bool> {
        drop(self.stdin.take());
        while let Some(line) = self.stdout.next("the native client's end", TIMEOUT)? {
            self.events.extend(serde_json::from_str::<Value>(&line));
        }
        let status = self.child.wait(TIMEOUT)?;
        if !status.success() {
            eprintln!("events of the native client: {:?}", self.events);
        }
        Ok(status.success())
    }
}
