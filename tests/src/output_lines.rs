//! The output of a child process, line by line, with a limit on every wait.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::scenario;

/// Unread lines that are buffered; a child that writes more blocks.
const CAPACITY: usize = 4096;

/// The lines of one output. A thread reads them and ends with the output, so that a wait for a line
/// can time out.
#[derive(Debug)]
pub struct OutputLines(Receiver<String>);

impl OutputLines {
    /// Starts to read.
    pub fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(CAPACITY);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; none when the output ended.
    ///
    /// # Errors
    /// When there was none within `limit`; `what` names the awaited line.
    pub fn next(&self, what: &str, limit: Duration) -> Result<Option<String>> {
        let _waiting = scenario::waiting(what);
        match self.0.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("{what} did not come within {limit:?}"),
        }
    }
}
