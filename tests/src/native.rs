//! LiveKit's native SDK (libwebrtc), unchanged, through its Python package.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::browser::clients;
use crate::process::Owned;

/// One person with a native client.
#[derive(Debug)]
pub struct Native {
    child: Owned,
    from: BufReader<ChildStdout>,
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
                .stderr(Stdio::null()),
            "run tests/clients/python-client",
        )?;
        let from = BufReader::new(child.0.stdout.take().context("no standard output")?);
        Ok(Self { child, from, said: Vec::new() })
    }

    /// Reads on until it said an event of that name.
    ///
    /// # Errors
    /// When it ended before; with what it said.
    pub fn until(&mut self, event: &str) -> Result<Value> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                bail!("the native client ended without `{event}`: {:?}", self.said);
            }
            let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
            self.said.push(said.clone());
            if said["event"] == event {
                return Ok(said);
            }
        }
    }

    /// Waits for its end: true when everything happened that it waited for.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self) -> Result<bool> {
        drop(self.child.0.stdin.take());
        let mut rest = String::new();
        self.from.read_to_string(&mut rest)?;
        let status = self.child.0.wait()?;
        if !status.success() {
            eprintln!("the native client said: {:?} {rest}", self.said);
        }
        Ok(status.success())
    }
}
