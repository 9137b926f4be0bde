//! The files that a node needs at start: certificates, keys, API secrets. They can be checked without
//! starting the node; each error names the field of the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use systir_identity::{Credentials, NodeCertificate, TrustBundle, TrustDomain};
use systir_livekit::token::{KeyRing, Redacted};
use systir_policy::Authority;
use systir_registry::EtcdConfig;

use crate::config::{FieldError, RelayConfig};
use crate::policy_files;
use crate::serve::tls::{self, CertificateFiles, CertificatePair};

/// The contents of all files except policy.
pub(crate) struct StartupFiles {
    /// This node's identity on links, and the CA roots that it trusts.
    pub(crate) credentials: Credentials,
    /// API keys.
    pub(crate) keys: KeyRing,
    /// API key and secret that sign guest tokens of the meeting page.
    pub(crate) guest: Option<(String, Redacted<String>)>,
    /// Files and contents of the links' certificate.
    pub(crate) links: (CertificateFiles, CertificatePair),
    /// Files and contents of the HTTP port's certificate; none for plain HTTP.
    pub(crate) http: Option<(CertificateFiles, CertificatePair)>,
}

impl StartupFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// With the field and the problem.
    pub(crate) fn read(config: &RelayConfig, authority: &Authority) -> Result<Self, FieldError> {
        let links =
            CertificateFiles { certificate: config.links.certificate.clone(), key: config.links.key.clone() };
        let pair = pair("links", &links)?;
        let own_certificate = NodeCertificate::from_pem(&pair.certificate, pair.key.expose())
            .map_err(|error| file_error("links.certificate", &links.certificate, &error))?;
        let mut bundle = TrustBundle::new();
        for (domain, roots) in &config.links.trust {
            let field = format!("links.trust.{domain}");
            let name =
                TrustDomain::new(domain).map_err(|error| FieldError::new(&field, error.to_string()))?;
            bundle = bundle
                .with(name, &read(&field, roots)?)
                .map_err(|error| file_error(&field, roots, &error))?;
        }
        let credentials = Credentials::new(own_certificate, bundle)
            .map_err(|error| file_error("links.key", &links.key, &error))?;
        let expected = authority.facts(&config.node.name).map(|facts| facts.spiffe_id.as_str());
        if expected != Some(credentials.id().as_str()) {
            let problem = format!(
                "it is for {}, but {} lists {} as {}",
                credentials.id(),
                config.policy.nodes.display(),
                config.node.name,
                expected.unwrap_or_default(),
            );
            return Err(FieldError::new("links.certificate", problem));
        }
        let http = match (&config.http.certificate, &config.http.key) {
            (Some(certificate), Some(key)) => {
                let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
                let pair = self::pair("http", &files)?;
                tls::config(&pair).map_err(|error| {
                    FieldError::new("http.certificate", format!("{}: {error:#}", certificate.display()))
                })?;
                Some((files, pair))
            }
            _ => None,
        };
        let mut keys = KeyRing::new();
        for (name, key) in &config.keys {
            let field = format!("keys.{name}");
            if !keys.insert(name, &secret(&field, key)?, &key.institution) {
                return Err(FieldError::new(field, "name, secret and institution must not be empty"));
            }
        }
        let guest = match &config.page.guest_key {
            None => None,
            Some(name) => {
                let missing = || FieldError::new("page.guest_key", format!("there is no API key {name}"));
                let key = config.keys.get(name).ok_or_else(missing)?;
                Some((name.clone(), Redacted::new(secret(&format!("keys.{name}"), key)?)))
            }
        };
        Ok(Self { credentials, keys, guest, links: (links, pair), http })
    }
}

/// Replaces the links' certificate by a new one of the same node.
///
/// # Errors
/// When the certificate is for another node, or the key does not match it.
pub(crate) fn renew(credentials: &Credentials, pair: &CertificatePair) -> Result<()> {
    Ok(credentials.renew(NodeCertificate::from_pem(&pair.certificate, pair.key.expose())?)?)
}

/// The connection settings of etcd.
///
/// # Errors
/// With the field and the problem.
pub(crate) fn etcd(config: &RelayConfig) -> Result<EtcdConfig, FieldError> {
    let registry = &config.registry;
    let ca = registry.ca.as_deref().map(|path| read("registry.ca", path)).transpose()?;
    let identity = match (&registry.certificate, &registry.key) {
        (Some(certificate), Some(key)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let pair = pair("registry", &files)?;
            // Built only to check that the key matches the certificate.
            tls::config(&pair).map_err(|error| {
                FieldError::new("registry.certificate", format!("{}: {error:#}", certificate.display()))
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

/// Checks everything that can be checked without starting the node: files, certificates and policy. Returns
/// warnings.
///
/// # Errors
/// With the field or the file, and the problem.
pub fn dry_run(config: &RelayConfig) -> Result<Vec<String>> {
    let policy = policy_files::read(&config.policy, &config.node.name, Arc::default())?;
    StartupFiles::read(config, &policy.authority)?;
    etcd(config)?;
    Ok(policy.warnings)
}

fn read(field: &str, path: &Path) -> Result<String, FieldError> {
    std::fs::read_to_string(path)
        .map_err(|error| FieldError::new(field, format!("{} cannot be read: {error}", path.display())))
}

fn pair(section: &str, files: &CertificateFiles) -> Result<CertificatePair, FieldError> {
    Ok(CertificatePair {
        certificate: read(&format!("{section}.certificate"), &files.certificate)?,
        key: Redacted::new(read(&format!("{section}.key"), &files.key)?),
    })
}

fn file_error(field: &str, path: &Path, error: &dyn std::fmt::Display) -> FieldError {
    FieldError::new(field, format!("{}: {error}", path.display()))
}

fn secret(field: &str, key: &crate::config::ApiKeySection) -> Result<String, FieldError> {
    match (&key.secret, &key.secret_file) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Some(path)) => Ok(read(&format!("{field}.secret_file"), path)?.trim_end().to_owned()),
        (None, None) => Ok(String::new()),
    }
}
