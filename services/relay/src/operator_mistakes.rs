//! Mistakes of the operator that prevent no start: secrets that others may read, certificates and CA roots that have expired
//! or soon will, secrets that can be guessed, an etcd that asks for no certificate, ports without TLS that other machines
//! may reach. `check` prints each in one line, a running node
//! logs it, and a metric counts it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use systir_doctor::time_span;
use systir_identity::LeafValidity;
use systir_livekit::token::is_weak;

use crate::config::RelayConfig;
use crate::documents::store::DocumentStore;
use crate::room_keys;
use crate::startup_files::drain_secret;

/// How often a running node looks again.
const INTERVAL: Duration = Duration::from_secs(60);
/// A certificate expires soon when less than this part of its life is left, and less than [`SOON`].
const LAST_PART: u32 = 5;
const SOON: Duration = Duration::from_secs(14 * 86_400);
/// The same for a CA: all nodes need a directory with its next root first.
const SOON_FOR_ROOTS: Duration = Duration::from_secs(60 * 86_400);
/// The clock of a CA may be ahead by so much.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MistakeKind {
    ReadableSecret,
    CertificateExpired,
    CertificateExpiresSoon,
    CertificateNotYetValid,
    WeakSecret,
    EtcdWithoutCertificate,
    PlainHttp,
    ReachableMetrics,
}

impl MistakeKind {
    const ALL: [Self; 8] = [
        Self::ReadableSecret,
        Self::CertificateExpired,
        Self::CertificateExpiresSoon,
        Self::CertificateNotYetValid,
        Self::WeakSecret,
        Self::EtcdWithoutCertificate,
        Self::PlainHttp,
        Self::ReachableMetrics,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadableSecret => "readable-secret",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateExpiresSoon => "certificate-expires-soon",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::WeakSecret => "weak-secret",
            Self::EtcdWithoutCertificate => "etcd-without-certificate",
            Self::PlainHttp => "plain-http",
            Self::ReachableMetrics => "reachable-metrics",
        }
    }
}

/// A mistake. It never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) kind: MistakeKind,
    /// The field of the configuration that it is about.
    pub(crate) field: String,
    pub(crate) what: String,
    /// What to do.
    pub(crate) advice: String,
}

impl Mistake {
    /// The line for the operator.
    fn line(&self) -> String {
        format!("{}: {}; {}", self.field, self.what, self.advice)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MistakeLabels {
    mistake: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

/// Metrics of mistakes and of this node's certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct MistakeMetrics {
    mistakes: Family<MistakeLabels, Gauge>,
    not_after: Family<CertificateLabels, Gauge>,
}

impl MistakeMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Mistakes of this node's operator, by kind; the log and `systir-relay check` name each";
        registry.register("operator_mistakes", help, self.mistakes.clone());
        let help = "When a certificate of this node expires, as Unix time";
        registry.register("certificate_not_after_seconds", help, self.not_after.clone());
    }

    fn show(&self, config: &RelayConfig, mistakes: &[Mistake]) {
        for kind in MistakeKind::ALL {
            let count = mistakes.iter().filter(|mistake| mistake.kind == kind).count();
            let labels = MistakeLabels { mistake: kind.as_str() };
            self.mistakes.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (certificate, path) in certificates(config) {
            let Some(LeafValidity { not_after, .. }) = validity(&path) else { continue };
            let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let labels = CertificateLabels { certificate };
            self.not_after.get_or_create(&labels).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }
}

/// The mistakes in a configuration, its file, the files that it names, and the CA roots of each operator. A file that cannot
/// be read is an error elsewhere.
pub(crate) fn find(
    config: &RelayConfig,
    file: &Path,
    roots: &[(String, String)],
    now: SystemTime,
) -> Vec<Mistake> {
    let readable = secret_files(config, file).into_iter().filter_map(|(field, path)| readable(&field, &path));
    let certificates = certificates(config).into_iter().filter_map(|(section, path)| {
        let field = format!("{section}.certificate");
        expiring(field, &path.display().to_string(), RENEWED_FILE, validity(&path)?, now)
    });
    readable
        .chain(certificates)
        .chain(expiring_roots(config, roots, now))
        .chain(guessed_secrets(config))
        .chain(etcd_without_certificate(config))
        .chain(without_tls(config))
        .collect()
}

/// CA roots of nodes, and of etcd.
fn expiring_roots(config: &RelayConfig, roots: &[(String, String)], now: SystemTime) -> Vec<Mistake> {
    const NEXT: ExpiryAdvice = ExpiryAdvice {
        soon: SOON_FOR_ROOTS,
        replace: "publish a directory with its next root, then renew the certificates under it",
    };
    let mut all: Vec<(&str, String, &ExpiryAdvice, &str)> = Vec::new();
    for (operator, pem) in roots {
        all.push(("policy.documents", format!("a root in the directory of {operator}"), &NEXT, pem));
    }
    let ca = config.registry.ca.as_ref();
    let of_etcd = ca.and_then(|path| Some((path.display().to_string(), std::fs::read_to_string(path).ok()?)));
    if let Some((path, pem)) = &of_etcd {
        all.push(("registry.ca", path.clone(), &RENEWED_FILE, pem));
    }
    let each = all.into_iter().flat_map(|(field, name, advice, pem)| {
        let validities = LeafValidity::each_of_pem(pem).unwrap_or_default().into_iter();
        validities.filter_map(move |validity| expiring(field.to_owned(), &name, *advice, validity, now))
    });
    each.collect()
}

fn guessed_secrets(config: &RelayConfig) -> Vec<Mistake> {
    let guessed = |field: String, what: &str, advice: &str| Mistake {
        kind: MistakeKind::WeakSecret,
        field,
        what: what.to_owned(),
        advice: advice.to_owned(),
    };
    let another = "use another one where others reach this node (openssl rand -hex 32)";
    let mut all = Vec::new();
    for (name, key) in config.keys.iter().filter(|(_, key)| key.allow_weak_secret) {
        let file = || std::fs::read_to_string(key.secret_file.as_ref()?).ok();
        if key.secret.clone().or_else(file).is_some_and(|secret| is_weak(secret.trim_end())) {
            let what = "its secret can be guessed, which allow_weak_secret accepts";
            all.push(guessed(format!("keys.{name}"), what, another));
        }
    }
    if config.drain.api_key.is_some()
        && let Ok((field, secret)) = drain_secret(&config.drain)
        && is_weak(secret.expose())
    {
        let what = "it can be guessed, so every user of this machine can drain this node";
        all.push(guessed(field.to_owned(), what, another));
    }
    for name in room_keys::guessed(config) {
        let what = "its bytes are all equal, so whoever reads etcd can guess it and read the names of rooms";
        all.push(guessed(format!("room_keys.{name}"), what, "make another one (systirctl key room)"));
    }
    all
}

fn etcd_without_certificate(config: &RelayConfig) -> Option<Mistake> {
    let registry = &config.registry;
    let over_tls = registry.etcd.iter().any(|address| address.starts_with("https://"));
    (over_tls && registry.certificate.is_none()).then(|| Mistake {
        kind: MistakeKind::EtcdWithoutCertificate,
        field: "registry.certificate".to_owned(),
        what: "it is not set, so etcd cannot tell this node from others".to_owned(),
        advice: "see deploy/etcd/README.md".to_owned(),
    })
}

/// Ports without TLS that are not on loopback.
fn without_tls(config: &RelayConfig) -> Vec<Mistake> {
    let mut all = Vec::new();
    let http = &config.http;
    if http.certificate.is_none() && !http.listen.ip().is_loopback() {
        all.push(Mistake {
            kind: MistakeKind::PlainHttp,
            field: "http.certificate".to_owned(),
            what: format!("it is not set, so tokens come to {} in the clear", http.listen),
            advice: "let only the proxy reach that port, over a network that nobody else reads".to_owned(),
        });
    }
    let metrics = config.telemetry.listen;
    if !metrics.ip().is_loopback() {
        all.push(Mistake {
            kind: MistakeKind::ReachableMetrics,
            field: "telemetry.listen".to_owned(),
            what: format!("{metrics} is not on loopback, and it asks for no token"),
            advice: "let only the monitoring reach that port".to_owned(),
        });
    }
    all
}

/// The lines of mistakes.
pub(crate) fn lines(mistakes: &[Mistake]) -> impl Iterator<Item = String> {
    mistakes.iter().map(Mistake::line)
}

/// Looks again and again until the node stops: shows the metrics, and logs what was not there before.
pub(crate) async fn follow(
    config: Arc<RelayConfig>,
    file: PathBuf,
    documents: Arc<DocumentStore>,
    metrics: MistakeMetrics,
) {
    // Those of the start are logged by then.
    let mut known = look(&config, &file, &documents, &metrics).await;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = look(&config, &file, &documents, &metrics).await;
        for mistake in now.iter().filter(|mistake| !known.contains(mistake)) {
            tracing::warn!("{}", mistake.line());
        }
        known = now;
    }
}

async fn look(
    config: &Arc<RelayConfig>,
    file: &Path,
    documents: &DocumentStore,
    metrics: &MistakeMetrics,
) -> Vec<Mistake> {
    let (config, file, metrics) = (config.clone(), file.to_owned(), metrics.clone());
    let roots = documents.roots();
    let look = move || {
        let found = find(&config, &file, &roots, SystemTime::now());
        metrics.show(&config, &found);
        found
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// The files that hold secrets, each with its field.
fn secret_files(config: &RelayConfig, file: &Path) -> Vec<(String, PathBuf)> {
    let mut files = vec![
        ("node.key".to_owned(), config.node.key.clone()),
        ("links.key".to_owned(), config.links.key.clone()),
    ];
    files.extend(config.http.key.clone().map(|path| ("http.key".to_owned(), path)));
    files.extend(config.registry.key.clone().map(|path| ("registry.key".to_owned(), path)));
    for (name, key) in &config.keys {
        files.extend(key.secret_file.clone().map(|path| (format!("keys.{name}.secret_file"), path)));
    }
    for (name, key) in &config.room_keys {
        files.extend(key.key_file.clone().map(|path| (format!("room_keys.{name}.key_file"), path)));
    }
    files.extend(config.drain.secret_file.clone().map(|path| ("drain.secret_file".to_owned(), path)));
    let inline = config.keys.values().any(|key| key.secret.is_some())
        || config.drain.secret.is_some()
        || config.room_keys.values().any(|key| key.key.is_some());
    files.extend(inline.then(|| ("the configuration, which holds secrets".to_owned(), file.to_owned())));
    files
}

/// Every user of the machine may read the file. A group may: services and containers mount secrets so.
fn readable(field: &str, path: &Path) -> Option<Mistake> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o004 != 0).then(|| Mistake {
        kind: MistakeKind::ReadableSecret,
        field: field.to_owned(),
        what: format!("every user of this machine may read {} (mode {:03o})", path.display(), mode & 0o777),
        advice: format!(
            "run `chmod 600 {}`, and create another secret if someone may have read it",
            path.display()
        ),
    })
}

/// This node's certificates.
pub(crate) fn certificates(config: &RelayConfig) -> Vec<(&'static str, PathBuf)> {
    let mut all = vec![("links", config.links.certificate.clone())];
    all.extend(config.http.certificate.clone().map(|path| ("http", path)));
    all.extend(config.registry.certificate.clone().map(|path| ("registry", path)));
    all
}

pub(crate) fn validity(path: &Path) -> Option<LeafValidity> {
    LeafValidity::of_pem(&std::fs::read_to_string(path).ok()?).ok()
}

/// When a certificate expires soon, and what to do then.
#[derive(Debug, Clone, Copy)]
struct ExpiryAdvice {
    soon: Duration,
    replace: &'static str,
}

const RENEWED_FILE: ExpiryAdvice =
    ExpiryAdvice { soon: SOON, replace: "replace it, a restart is not needed" };

fn expiring(
    field: String,
    name: &str,
    advice: ExpiryAdvice,
    validity: LeafValidity,
    now: SystemTime,
) -> Option<Mistake> {
    let LeafValidity { not_before, not_after } = validity;
    let mistake = |kind, what: String, advice: &str| {
        Some(Mistake { kind, field: field.clone(), what, advice: advice.to_owned() })
    };
    if let Ok(until) = not_before.duration_since(now)
        && until > CLOCK_TOLERANCE
    {
        let what = format!(
            "{name} is valid only in {}: this machine's clock is behind, or its CA's is ahead",
            time_span(until)
        );
        return mistake(MistakeKind::CertificateNotYetValid, what, "synchronize the clocks with NTP");
    }
    let Ok(left) = not_after.duration_since(now) else {
        let ago = time_span(now.duration_since(not_after).unwrap_or_default());
        return mistake(MistakeKind::CertificateExpired, format!("{name} expired {ago} ago"), advice.replace);
    };
    let life = not_after.duration_since(not_before).unwrap_or_default();
    if left < advice.soon.min(life / LAST_PART) {
        let what = format!("{name} expires in {}", time_span(left));
        return mistake(MistakeKind::CertificateExpiresSoon, what, advice.replace);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_certificate_that_has_expired_or_soon_will_is_reported() {
        let start = UNIX_EPOCH + 1_000_000 * HOUR;
        let at = |life: Duration, now: Duration| {
            let validity = LeafValidity { not_before: start, not_after: start + life };
            expiring("links.certificate".to_owned(), "x.pem", RENEWED_FILE, validity, start + now)
                .map(|found| (found.kind, found.line()))
        };
        assert_eq!(at(24 * HOUR, 12 * HOUR), None);
        let (kind, line) = at(24 * HOUR, 20 * HOUR).unwrap();
        assert_eq!(kind, MistakeKind::CertificateExpiresSoon);
        assert_eq!(line, "links.certificate: x.pem expires in 4 hours; replace it, a restart is not needed");
        let (kind, line) = at(24 * HOUR, 25 * HOUR).unwrap();
        assert_eq!(kind, MistakeKind::CertificateExpired);
        assert_eq!(
            line,
            "links.certificate: x.pem expired 60 minutes ago; replace it, a restart is not needed"
        );
        let early = expiring(
            "links.certificate".to_owned(),
            "x.pem",
            RENEWED_FILE,
            LeafValidity { not_before: start, not_after: start + HOUR },
            start - 3 * HOUR,
        );
        let early = early.unwrap();
        assert_eq!(early.kind, MistakeKind::CertificateNotYetValid);
        assert!(early.line().starts_with(
            "links.certificate: x.pem is valid only in 3 hours: this machine's clock is behind"
        ));
        // Of a year, two weeks are enough.
        assert_eq!(at(365 * 24 * HOUR, 345 * 24 * HOUR), None);
        assert!(at(365 * 24 * HOUR, 352 * 24 * HOUR).is_some());
    }

    #[test]
    fn a_secret_that_every_user_may_read_is_reported_and_one_of_a_group_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        std::fs::write(&path, "x").unwrap();
        let with = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            readable("node.key", &path)
        };
        assert_eq!(with(0o600), None);
        assert_eq!(with(0o640), None);
        let found = with(0o644).unwrap();
        assert!(found.line().starts_with("node.key: every user of this machine may read "), "{found:?}");
        assert!(found.line().contains("(mode 644)"), "{found:?}");
    }
}
