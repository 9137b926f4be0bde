//! `systir-relay check`: what a start would find wrong, without a start.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use systir_doctor::time_span;

use crate::config::RelayConfig;
use crate::documents::start;
use crate::documents::store::unix_seconds;
use crate::operator_mistakes;
use crate::startup_files::{StartupFiles, etcd};

/// Checks everything that can be checked without starting the node: files, certificates and policy. `file` is the
/// configuration file. Returns warnings.
///
/// # Errors
/// With the field or the file, and the problem.
pub fn dry_run(config: &RelayConfig, file: &Path) -> Result<Vec<String>> {
    let start = start::read(config)?;
    StartupFiles::read(config, &start)?;
    etcd(config)?;
    let mut warnings = start.warnings;
    warnings.extend(start.documents.made_in_future(unix_seconds()).next().map(|(id, seconds)| {
        let ahead = time_span(Duration::from_secs(seconds));
        format!(
            "{id}: it was issued {ahead} in the future: this machine's clock is behind, or its owner's is ahead; synchronize \
             them with NTP"
        )
    }));
    let mistakes = operator_mistakes::find(config, file, &start.documents.roots(), SystemTime::now());
    warnings.extend(operator_mistakes::lines(&mistakes));
    Ok(warnings)
}
