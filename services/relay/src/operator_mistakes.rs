//! Mistakes of the operator that prevent no start: secrets that others may read, certificates that have expired or soon
//! will, secrets that can be guessed, an etcd that asks for no certificate. `check` prints each in one line, a running node
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

/// How often a running node looks again.
const INTERVAL: Duration = Duration::from_secs(60);
/// A certificate expires soon when less than this part of its life is left, and less than [`SOON`].
const LAST_PART: u32 = 5;
const SOON: Duration = Duration::from_secs(14 * 86_400);
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
}

impl MistakeKind {
    const ALL: [Self; 6] = [
        Self::ReadableSecret,
        Self::CertificateExpired,
        Self::CertificateExpiresSoon,
        Self::CertificateNotYetValid,
        Self::WeakSecret,
        Self::EtcdWithoutCertificate,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadableSecret => "readable-secret",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateExpiresSoon => "certificate-expires-soon",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::WeakSecret => "weak-secret",
            Self::EtcdWithoutCertificate => "etcd-without-certificate",
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

/// The mistakes in a configuration, its file, and the files that it names. A file that cannot be read is an error
/// elsewhere.
pub(crate) fn find(config: &RelayConfig, file: &Path, now: SystemTime) -> Vec<Mistake> {
    let readable = secret_files(config, file).into_iter().filter_map(|(field, path)| readable(&field, &path));
    let certificates = certificates(config)
        .into_iter()
        .filter_map(|(section, path)| expiring(section, &path, validity(&path)?, now));
    let weak = config.keys.iter().filter(|(_, key)| key.allow_weak_secret).filter_map(|(name, key)| {
        let secret =
            key.secret.clone().or_else(|| std::fs::read_to_string(key.secret_file.as_ref()?).ok())?;
        is_weak(secret.trim_end()).then(|| Mistake {
            kind: MistakeKind::WeakSecret,
            field: format!("keys.{name}"),
            what: "its secret can be guessed, which allow_weak_secret accepts".to_owned(),
            advice: "use another one where others reach this node (openssl rand -hex 32)".to_owned(),
        })
    });
    let registry = &config.registry;
    let etcd = registry.etcd.iter().any(|address| address.starts_with("https://"));
    let etcd = (etcd && registry.certificate.is_none()).then(|| Mistake {
        kind: MistakeKind::EtcdWithoutCertificate,
        field: "registry.certificate".to_owned(),
        what: "it is not set, so etcd cannot tell this node from others".to_owned(),
        advice: "see deploy/etcd/README.md".to_owned(),
    });
    readable.chain(certificates).chain(weak).chain(etcd).collect()
}

/// The lines of mistakes.
pub(crate) fn lines(mistakes: &[Mistake]) -> impl Iterator<Item = String> {
    mistakes.iter().map(Mistake::line)
}

/// Looks again and again until the node stops: shows the metrics, and logs what was not there before.
pub(crate) async fn follow(config: Arc<RelayConfig>, file: PathBuf, metrics: MistakeMetrics) {
    // Those of the start are logged by then.
    let mut known = look(&config, &file, &metrics).await;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = look(&config, &file, &metrics).await;
        for mistake in now.iter().filter(|mistake| !known.contains(mistake)) {
            tracing::warn!("{}", mistake.line());
        }
        known = now;
    }
}

async fn look(config: &Arc<RelayConfig>, file: &Path, metrics: &MistakeMetrics) -> Vec<Mistake> {
    let (config, file, metrics) = (config.clone(), file.to_owned(), metrics.clone());
    let look = move || {
        let found = find(&config, &file, SystemTime::now());
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

fn expiring(section: &str, path: &Path, validity: LeafValidity, now: SystemTime) -> Option<Mistake> {
    let LeafValidity { not_before, not_after } = validity;
    let path = path.display();
    let mistake = |kind, what: String, advice: &str| {
        Some(Mistake { kind, field: format!("{section}.certificate"), what, advice: advice.to_owned() })
    };
    if let Ok(until) = not_before.duration_since(now)
        && until > CLOCK_TOLERANCE
    {
        let what = format!(
            "{path} is valid only in {}: this machine's clock is behind, or its CA's is ahead",
            time_span(until)
        );
        return mistake(MistakeKind::CertificateNotYetValid, what, "synchronize the clocks with NTP");
    }
    let replace = "replace it, a restart is not needed";
    let Ok(left) = not_after.duration_since(now) else {
        let ago = time_span(now.duration_since(not_after).unwrap_or_default());
        return mistake(MistakeKind::CertificateExpired, format!("{path} expired {ago} ago"), replace);
    };
    let life = not_after.duration_since(not_before).unwrap_or_default();
    if left < SOON.min(life / LAST_PART) {
        let what = format!("{path} expires in {}", time_span(left));
        return mistake(MistakeKind::CertificateExpiresSoon, what, replace);
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
            expiring("links", Path::new("x.pem"), validity, start + now)
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
            "links",
            Path::new("x.pem"),
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
