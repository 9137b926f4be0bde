//! The files that a node needs at start: certificates, keys, API secrets. They can be checked without
//! starting the node; each error names the field of the configuration.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use systir_documents::{PublicKey, SigningKey};
use systir_identity::{Credentials, NodeCertificate};
use systir_livekit::token::{KeyRing, MIN_SECRET_CHARS, Redacted, is_weak};
use systir_policy::{Action, Claims, PolicyEngine, Request, RoomAttributes, Subject};
use systir_reason::Reason;
use systir_registry::{EtcdConfig, EtcdCredentials};
use systir_room_tag::RoomKeys;

use crate::api_keys::ApiKeys;
use crate::changed_files;
use crate::config::{DrainSection, FieldError, RegistrySection, RelayConfig};
use crate::documents::start::StartPolicy;
use crate::room_keys::ConfiguredRoomKeys;
use crate::serve::tls::{self, CertificateFiles, CertificatePair};

/// The contents of all files except policy.
pub(crate) struct StartupFiles {
    /// This node's identity on links, and the CA roots that it trusts.
    pub(crate) credentials: Credentials,
    /// This node's signing key.
    pub(crate) node_key: SigningKey,
    /// API keys.
    pub(crate) keys: ApiKeys,
    /// Room keys: those of the configuration, and those in force.
    pub(crate) room_keys: (ConfiguredRoomKeys, RoomKeys),
    /// The key whose tokens drain this node; none of them without one.
    pub(crate) drain_keys: KeyRing,
    /// Files and contents of the links' certificate.
    pub(crate) links: (CertificateFiles, CertificatePair),
    /// Files and contents of the HTTP port's certificate; none for plain HTTP.
    pub(crate) http: Option<(CertificateFiles, CertificatePair)>,
}

impl StartupFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// With the first field that cannot be used, and the problem.
    pub(crate) fn read(config: &RelayConfig, start: &StartPolicy) -> Result<Self, FieldError> {
        let mut problems = Vec::new();
        let read = Self::read_parts(config, start, &mut problems);
        match problems.into_iter().next() {
            Some(first) => Err(first),
            None => read.ok_or_else(|| FieldError::new("", "a file cannot be used")),
        }
    }

    /// The same with all fields that cannot be used. None if there is one.
    pub(crate) fn read_parts(
        config: &RelayConfig,
        start: &StartPolicy,
        problems: &mut Vec<FieldError>,
    ) -> Option<Self> {
        let mut part = PartReader(problems);
        let credentials = part.of(credentials(config, start));
        let id = credentials.as_ref().map(|(credentials, _)| credentials.id().as_str().to_owned());
        let node_key = part.of(node_key(config, start, id.as_deref()));
        let http = part.of(http(config));
        let keys = part.of(ApiKeys::new(config, &start.engine));
        let room_keys = part.of(ConfiguredRoomKeys::read(config).and_then(|configured| {
            let in_force = configured.at_start(&start.engine, &config.node.name)?;
            Ok((configured, in_force))
        }));
        let drain_keys = part.of(drain_keys(config));
        let (credentials, links) = credentials?;
        Some(Self {
            credentials,
            node_key: node_key?,
            keys: keys?,
            room_keys: room_keys?,
            drain_keys: drain_keys?,
            links,
            http: http?,
        })
    }
}

/// Collects what is wrong with the parts.
struct PartReader<'a>(&'a mut Vec<FieldError>);

impl PartReader<'_> {
    fn of<T>(&mut self, part: Result<T, FieldError>) -> Option<T> {
        part.map_err(|problem| self.0.push(problem)).ok()
    }
}

/// This node's identity on links, and the files that it is from.
fn credentials(
    config: &RelayConfig,
    start: &StartPolicy,
) -> Result<(Credentials, (CertificateFiles, CertificatePair)), FieldError> {
    let files =
        CertificateFiles { certificate: config.links.certificate.clone(), key: config.links.key.clone() };
    let pair = pair("links", &files)?;
    let own_certificate = NodeCertificate::from_pem(&pair.certificate, pair.key.expose())
        .map_err(|error| file_error("links.certificate", &files.certificate, &error))?;
    let roots = start
        .documents
        .trust()
        .map_err(|error| FieldError::new("policy.documents", format!("a directory's roots: {error}")))?;
    let credentials = Credentials::new(own_certificate, roots)
        .map_err(|error| file_error("links.key", &files.key, &error))?;
    Ok((credentials, (files, pair)))
}

/// The certificate of the HTTP port; none for plain HTTP.
fn http(config: &RelayConfig) -> Result<Option<(CertificateFiles, CertificatePair)>, FieldError> {
    let (Some(certificate), Some(key)) = (&config.http.certificate, &config.http.key) else {
        return Ok(None);
    };
    let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
    let pair = pair("http", &files)?;
    tls::config(&pair).map_err(|error| {
        FieldError::new("http.certificate", format!("{}: {error:#}", certificate.display()))
    })?;
    Ok(Some((files, pair)))
}

/// The node key, which must be one of those that the directory lists for this node, as the certificate must be for it.
fn node_key(
    config: &RelayConfig,
    start: &StartPolicy,
    certificate_id: Option<&str>,
) -> Result<SigningKey, FieldError> {
    let name = &config.node.name;
    let Some(facts) = start.engine.facts(name) else {
        return Err(FieldError::new("node.name", format!("no directory lists {name}")));
    };
    if let Some(certificate_id) = certificate_id.filter(|id| *id != facts.spiffe_id) {
        let problem = format!(
            "it is for {certificate_id}, but the directory of {} version {} lists {name} as {}",
            facts.directory.operator, facts.directory.version, facts.spiffe_id
        );
        return Err(FieldError::new("links.certificate", problem));
    }
    let file = &config.node.key;
    let text = Redacted::new(read("node.key", file)?);
    let key = text.expose().trim().parse::<SigningKey>();
    let key = key.map_err(|error| file_error("node.key", file, &error))?;
    let public = key.public();
    if !is_listed(&public, &facts.keys) {
        let problem = format!(
            "the directory of {} version {} does not list its public key {public} for {name}; other nodes would \
             refuse this node",
            facts.directory.operator, facts.directory.version
        );
        return Err(FieldError::new("node.key", problem));
    }
    Ok(key)
}

/// The key whose tokens drain this node. It is the operator's: an institution must not empty a node that others use too.
fn drain_keys(config: &RelayConfig) -> Result<KeyRing, FieldError> {
    let mut ring = KeyRing::new();
    let drain = &config.drain;
    let Some(name) = &drain.api_key else { return Ok(ring) };
    let (field, secret) = drain_secret(drain)?;
    if config.http.others_reach_it() && is_weak(secret.expose()) {
        let problem = format!(
            "it can be guessed: use {MIN_SECRET_CHARS} or more random characters (openssl rand -hex 32)"
        );
        return Err(FieldError::new(field, problem));
    }
    if !ring.insert(name, secret.expose(), &config.policy.operator) {
        return Err(FieldError::new(field, "it must not be empty"));
    }
    Ok(ring)
}

/// The secret of the key that drains this node, and its field.
pub(crate) fn drain_secret(drain: &DrainSection) -> Result<(&'static str, Redacted<String>), FieldError> {
    let (field, secret) = match (&drain.secret, &drain.secret_file) {
        (Some(secret), _) => ("drain.secret", secret.clone()),
        (None, Some(path)) => ("drain.secret_file", read("drain.secret_file", path)?.trim_end().to_owned()),
        (None, None) => ("drain.secret", String::new()),
    };
    Ok((field, Redacted::new(secret)))
}

/// The name of a key is a label; the key bytes decide.
pub(crate) fn is_listed(key: &PublicKey, listed: &[PublicKey]) -> bool {
    listed.iter().any(|listed| listed.as_bytes() == key.as_bytes())
}

/// An institution's API keys sign tokens for all its rooms, and its room keys read the names of all its rooms, so they
/// belong only on nodes that its policy approves as gateway or home. Without a valid bundle nothing is known: the node starts, and each request
/// is denied until there is one.
pub(crate) fn may_hold_keys(engine: &PolicyEngine, node: &str, institution: &str) -> Result<(), String> {
    let Some(statement) = engine.statement(institution) else { return Ok(()) };
    let decide = |action| {
        engine.decide(&Request {
            institution,
            action,
            subject: Subject::Node(node),
            room: RoomAttributes::default(),
            claims: Claims::default(),
        })
    };
    let gateway = decide(Action::RelaySignal);
    let expired = matches!(gateway.reason, Reason::PolicyExpired | Reason::DirectoryExpired);
    if expired || gateway.allowed || decide(Action::Home).allowed {
        return Ok(());
    }
    Err(format!(
        "the policy of {institution} (version {}) approves {node} neither as gateway nor as home, so this node must \
         not hold its API keys and room keys: {}; remove the key from this node",
        statement.version.number, gateway.why
    ))
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
    Ok(EtcdConfig {
        endpoints: registry.etcd.clone(),
        cluster: config.node.cluster.clone(),
        credentials: etcd_credentials(registry)?,
        lease: Duration::from_secs(registry.lease_seconds),
        ..EtcdConfig::default()
    })
}

/// The files with which this node and etcd prove to each other who they are.
///
/// # Errors
/// With the field and the problem.
pub(crate) fn etcd_credentials(registry: &RegistrySection) -> Result<EtcdCredentials, FieldError> {
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
    Ok(EtcdCredentials { ca, identity })
}

/// Follows these files until the node stops, and hands changed ones to `renew`.
pub(crate) async fn follow_etcd(
    registry: RegistrySection,
    known: EtcdCredentials,
    renew: impl Fn(EtcdCredentials),
) {
    // The error too is content: it is logged once.
    let read = move || Ok(etcd_credentials(&registry).map_err(|error| error.to_string()));
    changed_files::follow(Ok(known), read, |now| match now {
        Ok(credentials) => renew(credentials.clone()),
        Err(error) => {
            tracing::error!(
                error,
                "the changed certificate for etcd cannot be used; the old one stays in use"
            );
        }
    })
    .await;
}

pub(crate) fn read(field: &str, path: &Path) -> Result<String, FieldError> {
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
