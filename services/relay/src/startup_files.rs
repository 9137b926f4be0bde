//! The files that a node starts with: certificates, keys, API secrets. All of them can be checked without
//! starting anything, and each fault names the field of the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use systir_identity::{Credentials, NodeCertificate, TrustBundle, TrustDomain};
use systir_livekit::token::{KeyRing, Redacted};
use systir_policy::Authority;
use systir_registry::EtcdConfig;

use crate::config::{Config, Fault};
use crate::policy_files;
use crate::serve::tls::{self, Files, Pair};

/// Everything but policy.
pub(crate) struct StartupFiles {
    /// This node's identity on links, and the roots that it trusts.
    pub(crate) credentials: Credentials,
    /// API keys.
    pub(crate) keys: KeyRing,
    /// The API key of the meeting page's guests.
    pub(crate) guest: Option<(String, Redacted<String>)>,
    /// Where the links' certificate comes from.
    pub(crate) links: (Files, Pair),
    /// The HTTP port's certificate; none for plain HTTP.
    pub(crate) http: Option<(Files, Pair)>,
}

impl StartupFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// With the field and what is wrong.
    pub(crate) fn read(config: &Config, authority: &Authority) -> Result<Self, Fault> {
        let links = Files { certificate: config.links.certificate.clone(), key: config.links.key.clone() };
        let pair = pair("links", &links)?;
        let own = NodeCertificate::from_pem(&pair.certificate, pair.key.expose())
            .map_err(|error| fault("links.certificate", &links.certificate, &error))?;
        let mut bundle = TrustBundle::new();
        for (domain, roots) in &config.links.trust {
            let field = format!("links.trust.{domain}");
            let name = TrustDomain::new(domain).map_err(|error| Fault::new(&field, error.to_string()))?;
            bundle =
                bundle.with(name, &read(&field, roots)?).map_err(|error| fault(&field, roots, &error))?;
        }
        let credentials =
            Credentials::new(own, bundle).map_err(|error| fault("links.key", &links.key, &error))?;
        let expected = authority.facts(&config.node.name).map(|facts| facts.spiffe_id.as_str());
        if expected != Some(credentials.id().as_str()) {
            let problem = format!(
                "it is of {}, but {} says that {} is {}",
                credentials.id(),
                config.policy.nodes.display(),
                config.node.name,
                expected.unwrap_or_default(),
            );
            return Err(Fault::new("links.certificate", problem));
        }
        let http = match (&config.http.certificate, &config.http.key) {
            (Some(certificate), Some(key)) => {
                let files = Files { certificate: certificate.clone(), key: key.clone() };
                let pair = self::pair("http", &files)?;
                tls::config(&pair).map_err(|error| {
                    Fault::new("http.certificate", format!("{}: {error:#}", certificate.display()))
                })?;
                Some((files, pair))
            }
            _ => None,
        };
        let mut keys = KeyRing::new();
        for (name, key) in &config.keys {
            let field = format!("keys.{name}");
            if !keys.insert(name, &secret(&field, key)?, &key.institution) {
                return Err(Fault::new(field, "name, secret and institution must not be empty"));
            }
        }
        let guest = match &config.page.guest_key {
            None => None,
            Some(name) => {
                let missing = || Fault::new("page.guest_key", format!("there is no API key {name}"));
                let key = config.keys.get(name).ok_or_else(missing)?;
                Some((name.clone(), Redacted::new(secret(&format!("keys.{name}"), key)?)))
            }
        };
        Ok(Self { credentials, keys, guest, links: (links, pair), http })
    }
}

/// The links' next certificate, which must be of the same node.
///
/// # Errors
/// When it is not, or the key is not its.
pub(crate) fn renew(credentials: &Credentials, pair: &Pair) -> Result<()> {
    Ok(credentials.renew(NodeCertificate::from_pem(&pair.certificate, pair.key.expose())?)?)
}

/// How etcd is reached.
///
/// # Errors
/// With the field and what is wrong.
pub(crate) fn etcd(config: &Config) -> Result<EtcdConfig, Fault> {
    let registry = &config.registry;
    let ca = registry.ca.as_deref().map(|path| read("registry.ca", path)).transpose()?;
    let identity = match (&registry.certificate, &registry.key) {
        (Some(certificate), Some(key)) => {
            let files = Files { certificate: certificate.clone(), key: key.clone() };
            let pair = pair("registry", &files)?;
            // The same test as for a server's pair: does the key fit?
            tls::config(&pair).map_err(|error| {
                Fault::new("registry.certificate", format!("{}: {error:#}", certificate.display()))
            })?;
            Some((pair.certificate, pair.key.expose().clone()))
        }
        _ => None,
    };
    Ok(EtcdConfig {
        endpoints: registry.etcd.clone(),
        cluster: config.node.cluster.clone(),
        ca,
        identity,
        lease: Duration::from_secs(registry.lease_seconds),
        ..EtcdConfig::default()
    })
}

/// A dry run: checks all that can be checked without starting, which is files, certificates and policy.
/// Returns warnings.
///
/// # Errors
/// With the field or the file, and the problem.
pub fn dry_run(config: &Config) -> Result<Vec<String>> {
    let policy = policy_files::read(&config.policy, &config.node.name, Arc::default())?;
    StartupFiles::read(config, &policy.authority)?;
    etcd(config)?;
    Ok(policy.gaps)
}

fn read(field: &str, path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|error| Fault::new(field, format!("{} cannot be read: {error}", path.display())))
}

fn pair(section: &str, files: &Files) -> Result<Pair, Fault> {
    Ok(Pair {
        certificate: read(&format!("{section}.certificate"), &files.certificate)?,
        key: Redacted::new(read(&format!("{section}.key"), &files.key)?),
    })
}

fn fault(field: &str, path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(field, format!("{}: {error}", path.display()))
}

fn secret(field: &str, key: &crate::config::Key) -> Result<String, Fault> {
    match (&key.secret, &key.secret_file) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Some(path)) => Ok(read(&format!("{field}.secret_file"), path)?.trim_end().to_owned()),
        (None, None) => Ok(String::new()),
    }
}
