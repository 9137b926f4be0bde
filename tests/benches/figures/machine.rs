//! The machine and the build profile of the figures, and the date.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// A machine and its state before the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    /// Load average of the last minute, before the measurement.
    load: String,
    /// The build profile of the relay.
    profile: String,
    date: String,
}

impl Machine {
    /// `relay` is the program that is measured.
    pub(crate) fn read(relay: &Path) -> Result<Self> {
        let file =
            |path: &str| std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = field(&file("/proc/meminfo")?, "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        Ok(Self {
            processor: field(&file("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib.unwrap_or_default() / 1024.0 / 1024.0,
            kernel: file("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: file("/proc/loadavg")?.split_whitespace().next().unwrap_or_default().to_owned(),
            profile: profile(relay)?,
            date: httpdate::fmt_http_date(SystemTime::now()),
        })
    }

    pub(crate) fn lines(&self) -> String {
        format!(
            "{}, {} cores, {:.0} GiB, Linux {}, load {} before\nprofile {}, {}",
            self.processor, self.cores, self.memory_gib, self.kernel, self.load, self.profile, self.date
        )
    }
}

/// The build profile, from the folder under `target` that holds the relay.
fn profile(relay: &Path) -> Result<String> {
    let folder = relay.parent().and_then(Path::file_name);
    let folder = folder.context("the relay is not in a target folder")?.to_string_lossy().into_owned();
    Ok(match folder.as_str() {
        "debug" => "dev (opt-level 1, dependencies 3)".to_owned(),
        "release" => "release (opt-level 3, thin LTO)".to_owned(),
        other => other.to_owned(),
    })
}
