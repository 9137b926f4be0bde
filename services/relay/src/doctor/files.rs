//! The node's files: signed documents, certificates, keys.

use std::path::Path;
use std::time::SystemTime;

use systir_doctor::documents::{self, DocumentDates};
use systir_doctor::{Finding, FindingArea, addresses, time_span};

use crate::config::{FieldError, RelayConfig};
use crate::documents::start::{self, StartPolicy};
use crate::documents::store::unix_seconds;
use crate::operator_mistakes::{self, Mistake, MistakeKind};
use crate::startup_files::{self, StartupFiles};

/// What was read, and what is to be said of it.
pub(super) struct NodeFilesRead {
    pub(super) findings: Vec<Finding>,
    /// None: the documents cannot be used.
    pub(super) start: Option<StartPolicy>,
    /// None: a certificate or a key cannot be used.
    pub(super) started: Option<StartupFiles>,
    /// What this machine's clock takes for made in the future, and in how many seconds.
    pub(super) made_in_future: Option<(String, u64)>,
}

pub(super) fn read(config: &RelayConfig, file: &Path) -> NodeFilesRead {
    let mut findings = Vec::new();
    findings.extend(state_folder(&config.policy.state));
    let start = match start::read(config) {
        Ok(start) => Some(start),
        Err(error) => {
            let finding = match error.downcast::<FieldError>() {
                Ok(FieldError { field, problem }) => Finding::wrong(area(&field), field, problem),
                Err(error) => Finding::wrong(FindingArea::Documents, "policy", format!("{error:#}")),
            };
            findings.push(finding);
            None
        }
    };
    let roots = start.as_ref().map(|start| start.documents.roots()).unwrap_or_default();
    let mistakes = operator_mistakes::find(config, file, &roots, SystemTime::now());
    let mut problems = Vec::new();
    let mut made_in_future = None;
    let mut started = None;
    if let Some(start) = &start {
        findings.extend(dates(start));
        findings.extend(
            start
                .warnings
                .iter()
                .map(|text| Finding::warning(FindingArea::Documents, "policy.documents", text)),
        );
        made_in_future = start.documents.made_in_future(unix_seconds()).next();
        started = StartupFiles::read_parts(config, start, &mut problems);
        findings.extend(advertised(config, start));
    }
    problems.extend(startup_files::etcd_credentials(&config.registry).err());
    let fields: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
    findings.extend(
        problems
            .into_iter()
            .map(|FieldError { field, problem }| Finding::wrong(area(&field), field, problem)),
    );
    findings.extend(certificates(config, &mistakes, &fields));
    findings.extend(mistakes.into_iter().map(mistake));
    if let Some(started) = &started {
        let (api, room) = (config.keys.len(), config.room_keys.len());
        let key = format!("{}, which the directory lists", started.node_key.public().fingerprint());
        findings.push(Finding::ok(FindingArea::Keys, "node.key", key));
        findings.push(Finding::ok(FindingArea::Keys, "keys", format!("API keys: {api}, room keys: {room}")));
    }
    NodeFilesRead {
        findings,
        start,
        started,
        made_in_future: made_in_future.map(|(id, seconds)| (format!("the {id}"), seconds)),
    }
}

/// The area of a field of the configuration.
fn area(field: &str) -> FindingArea {
    match field.split_once('.').unwrap_or((field, "")) {
        ("policy", _) | ("node", "name") => FindingArea::Documents,
        (_, "certificate" | "ca") | ("links" | "http" | "registry", "key") => FindingArea::Certificates,
        ("node" | "keys" | "room_keys" | "drain", _) => FindingArea::Keys,
        _ => FindingArea::Configuration,
    }
}

/// The dates of all documents.
fn dates(start: &StartPolicy) -> Vec<Finding> {
    let accepted = start.documents.accepted();
    let all = accepted.iter().map(|document| {
        let (id, lifetime) = (document.id(), document.lifetime());
        let dates = DocumentDates {
            name: id.to_string(),
            version: document.version(),
            renew_by: lifetime.renew_by,
            not_after: lifetime.not_after,
        };
        documents::document(&dates, accepted.now(&id, unix_seconds()))
    });
    all.collect()
}

/// The node keeps documents there before it uses them.
fn state_folder(folder: &Path) -> Option<Finding> {
    // The node creates the folder itself if it may.
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let error = tempfile::tempfile_in(existing).err()?;
    let what = format!("{} cannot be written: {error}", existing.display());
    Some(
        Finding::wrong(FindingArea::Documents, "policy.state", what).advise(
            "let the node's user own it, and run this as that user (sudo -u systir systirctl doctor …)",
        ),
    )
}

/// Certificates about which no other line says anything.
fn certificates(config: &RelayConfig, mistakes: &[Mistake], problems: &[String]) -> Vec<Finding> {
    let all = operator_mistakes::certificates(config).into_iter();
    let unmentioned = all.filter_map(|(section, path)| {
        let field = format!("{section}.certificate");
        let known = problems.contains(&field) || mistakes.iter().any(|mistake| mistake.field == field);
        let validity = operator_mistakes::validity(&path).filter(|_| !known)?;
        let left = validity.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let what = format!("{} expires in {}", path.display(), time_span(left));
        Some(Finding::ok(FindingArea::Certificates, field, what))
    });
    unmentioned.collect()
}

fn mistake(mistake: Mistake) -> Finding {
    let Mistake { kind, field, what, advice } = mistake;
    let finding = match kind {
        MistakeKind::ReadableSecret => Finding::wrong(FindingArea::Keys, field, what),
        MistakeKind::CertificateExpired | MistakeKind::CertificateNotYetValid => {
            Finding::wrong(FindingArea::Certificates, field, what)
        }
        MistakeKind::CertificateExpiresSoon | MistakeKind::EtcdWithoutCertificate => {
            Finding::warning(FindingArea::Certificates, field, what)
        }
        MistakeKind::WeakSecret => Finding::warning(FindingArea::Keys, field, what),
        MistakeKind::PlainHttp | MistakeKind::ReachableMetrics => {
            Finding::warning(FindingArea::Configuration, field, what)
        }
    };
    finding.advise(advice)
}

fn advertised(config: &RelayConfig, start: &StartPolicy) -> Vec<Finding> {
    let Some(own) = start.engine.facts(&config.node.name) else { return Vec::new() };
    let links = config.links.advertise.unwrap_or_else(|| config.links.grpc.ip());
    let media = match config.media.advertise.as_slice() {
        [] => vec![config.media.listen.ip()],
        advertised => advertised.to_vec(),
    };
    let prefixes: Vec<String> = own.prefixes.iter().map(ToString::to_string).collect();
    addresses::addresses(links, &media, &prefixes, |ip| own.may_be_dialled_at(ip))
}
