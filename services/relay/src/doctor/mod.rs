//! `systirctl doctor`: what is wrong with a node and its machine, whether the node runs or not. Here the facts are gathered;
//! `systir-doctor` judges them. The node's files are read as at its start. All probes run at the same time, each with a
//! time limit.

mod files;
mod machine;
mod network;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use systir_doctor::clock::{self, ClockFacts};
use systir_doctor::{Diagnosis, Finding, FindingArea};

use crate::config::RelayConfig;

/// Limit of what asks this machine.
const LOCAL_LIMIT: Duration = Duration::from_secs(5);

/// Diagnoses the node of this configuration file. Without a node in the answer the file cannot be used, and nothing else
/// was checked.
pub async fn diagnose(file: &Path) -> Diagnosis {
    let config = match RelayConfig::load(file) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            let finding = Finding::wrong(FindingArea::Configuration, "file", error.to_string());
            return Diagnosis { node: None, findings: vec![finding] };
        }
    };
    let node = config.node.name.clone();
    let what = format!("{}: {node} of the cluster {}", file.display(), config.node.cluster);
    let mut findings = vec![Finding::ok(FindingArea::Configuration, "file", what)];
    let file: PathBuf = file.to_owned();
    let (read, machine, synchronized) = tokio::join!(
        local({
            let (config, file) = (config.clone(), file.clone());
            move || files::read(&config, &file)
        }),
        async {
            let (config, unit_limit) = (config.clone(), machine::unit_limit().await);
            local(move || machine::check(&config, &file, unit_limit)).await
        },
        machine::is_synchronized(),
    );
    let Some(files) = read else {
        findings.push(Finding::wrong(FindingArea::Documents, "files", "they cannot be read within 5 s"));
        return Diagnosis { node: Some(node), findings };
    };
    let network = network::check(&config, files.start, files.started).await;
    findings.extend(files.findings);
    findings.extend(machine.unwrap_or_else(|| {
        vec![Finding::warning(FindingArea::Kernel, "machine", "its limits cannot be read within 5 s")]
    }));
    let made_in_future = files.made_in_future;
    findings.extend(clock::clock(&ClockFacts { synchronized, ahead: network.ahead, made_in_future }));
    findings.extend(network.findings);
    findings.sort_by_key(|finding| finding.area);
    Diagnosis { node: Some(node), findings }
}

/// Runs what blocks, with a limit.
async fn local<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::time::timeout(LOCAL_LIMIT, tokio::task::spawn_blocking(work)).await.ok()?.ok()
}
