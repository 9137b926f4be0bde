//! What a child process says, line by line, with a limit on every wait.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::scenario;

/// Lines that wait to be read; a child that says more has to wait.
const KEPT: usize = 4096;

/// The lines of one output. A thread of its own reads them and ends with the output, so that
/// nobody who waits for a line is held by a child that says nothing.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    /// Begins to read.
    pub fn of(output: impl Read + Send + 'static) -> Self {
        let (to, from) = sync_channel(KEPT);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    break;
                }
            }
        });
        Self(from)
    }

    /// The next line; none when the output ended.
    ///
    /// # Errors
    /// When there was none within `limit`; `what` says what was awaited.
    pub fn next(&self, what: &str, limit: Duration) -> Result<Option<String>> {
        let _waiting = scenario::waiting(what);
        match self.0.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("{what} did not come within {limit:?}"),
        }
    }
}
