//! What an operator writes down: one TOML file, every field also as `SYSTIR_<SECTION>__<FIELD>` in
//! the environment, where lists and tables are written as TOML (a table whose keys have dots is set
//! as a whole: `SYSTIR_POLICY__INSTITUTIONS={"ku.dk" = {file = "ku.cedar", version = 2}}`). Unknown
//! keys and variables are refused, so that a misspelt one cannot go unnoticed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod fault;
mod source;

pub use fault::{ConfigError, Fault};

/// The whole configuration of one node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where clients connect.
    pub http: Http,
    /// Where media flows.
    pub media: Media,
    /// Where other nodes connect.
    pub links: Links,
    /// Metrics, health and readiness.
    pub telemetry: Telemetry,
    /// What is written down about rooms and nodes, and where.
    pub registry: Registry,
    /// Rules and the facts that they are decided on.
    pub policy: Policy,
    /// API keys by name.
    #[serde(default)]
    pub keys: BTreeMap<String, Key>,
    /// The meeting page.
    #[serde(default)]
    pub page: Page,
}

/// Who this node is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name in the cluster, such as `cph-1`; its entry in the nodes file has the same name.
    pub name: String,
    /// The cluster that it belongs to; all its nodes share an etcd.
    pub cluster: String,
    /// How many participants' media it carries at once.
    pub capacity: u32,
}

/// Where clients connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address of HTTP and WebSocket, 7880 by custom.
    pub listen: SocketAddr,
    /// Certificate chain (PEM); without one the server speaks plain HTTP, which suits loopback and
    /// a proxy in front.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Allows plain HTTP on an address that is not loopback, because a proxy ends TLS in front.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Most connections at one time, of clients that are in a meeting and of others; more are closed.
    #[serde(default = "default_connections")]
    pub connections: usize,
}

fn default_connections() -> usize {
    8_192
}

/// Where media flows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// UDP address of the first worker, 7882 by custom; each further worker takes the next port.
    pub listen: SocketAddr,
    /// Addresses that clients are told (1:1 NAT, dual stack). Empty: the listening address.
    #[serde(default)]
    pub advertise: Vec<std::net::IpAddr>,
    /// Threads; 0 means one for each core.
    #[serde(default)]
    pub workers: u8,
}

/// Where other nodes connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// UDP address of QUIC, 7870 by custom.
    pub quic: SocketAddr,
    /// TCP address of gRPC, 7871 by custom.
    pub grpc: SocketAddr,
    /// Address under which other nodes find this one. None: the listening address.
    #[serde(default)]
    pub advertise: Option<std::net::IpAddr>,
    /// This node's certificate (PEM), with its SPIFFE id.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Roots by trust domain.
    pub trust: BTreeMap<String, PathBuf>,
    /// The most that one link may send, in Mbit/s.
    #[serde(default = "default_ceiling")]
    pub ceiling_mbps: u32,
}

fn default_ceiling() -> u32 {
    1_000
}

/// Metrics, health and readiness.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Address of `/metrics`, `/healthz`, `/readyz`, 7872 by custom.
    pub listen: SocketAddr,
    /// OTLP collector (gRPC), such as `http://127.0.0.1:4317`; traces stay here without one.
    pub otlp: Option<String>,
    /// What is logged, in `tracing`'s filter language.
    #[serde(default = "default_log")]
    pub log: String,
    /// Log lines as JSON.
    #[serde(default)]
    pub json: bool,
}

fn default_log() -> String {
    "info".to_owned()
}

/// What is written down about rooms and nodes, and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// etcd's addresses.
    pub etcd: Vec<String>,
    /// CA that etcd's certificate must come from (PEM).
    pub ca: Option<PathBuf>,
    /// This node's client certificate for etcd (PEM).
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Seconds after which a silent node's lease ends.
    #[serde(default = "default_lease")]
    pub lease_seconds: u64,
}

fn default_lease() -> u64 {
    10
}

/// Rules and the facts that they are decided on. All of it is the operator's own files: nothing
/// of it comes from etcd or from another node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What is true of each node: country, operator, host (TOML).
    pub nodes: PathBuf,
    /// Zones, such as EEA, as lists of countries (TOML).
    pub zones: PathBuf,
    /// Rules that hold for everybody (Cedar).
    pub floor: PathBuf,
    /// Institutions and their rules.
    pub institutions: BTreeMap<String, Institution>,
}

/// One institution's rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Institution {
    /// Its rules (Cedar).
    pub file: PathBuf,
    /// The number that the institution gave them; it only goes up.
    pub version: u64,
}

/// An API key of an institution.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The institution whose rooms the key opens.
    pub institution: String,
    /// The shared secret, or
    #[serde(default)]
    pub secret: Option<String>,
    /// a file that holds it.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("institution", &self.institution).finish_non_exhaustive()
    }
}

/// The meeting page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// API key under which anyone who opens the page may join. None: a link with a token is needed.
    #[serde(default)]
    pub guest_key: Option<String>,
}

impl Config {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// With the place and the problem, when a key is unknown, missing or of the wrong kind, or when
    /// values do not fit together.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let mut config = source::read(file)?;
        config.anchor(file.parent().unwrap_or(Path::new(".")));
        config.check().map_err(|fault| ConfigError::locate(file, fault))?;
        Ok(config)
    }

    // Paths are relative to the file that names them, so that a folder can be moved as a whole.
    fn anchor(&mut self, base: &Path) {
        let required = [
            &mut self.links.certificate,
            &mut self.links.key,
            &mut self.policy.nodes,
            &mut self.policy.zones,
            &mut self.policy.floor,
        ];
        for path in required {
            *path = base.join(&*path);
        }
        let optional = [
            &mut self.http.certificate,
            &mut self.http.key,
            &mut self.registry.ca,
            &mut self.registry.certificate,
            &mut self.registry.key,
        ];
        for path in optional.into_iter().flatten() {
            *path = base.join(&*path);
        }
        for path in self.links.trust.values_mut() {
            *path = base.join(&*path);
        }
        for institution in self.policy.institutions.values_mut() {
            institution.file = base.join(&institution.file);
        }
        for key in self.keys.values_mut() {
            if let Some(path) = &mut key.secret_file {
                *path = base.join(&*path);
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.node.name.is_empty()
            || !self.node.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return Err(Fault::new("node.name", "use letters, digits, `-`, `_` and `.`"));
        }
        if self.node.capacity == 0 {
            return Err(Fault::new(
                "node.capacity",
                "a node for 0 participants serves nobody; leave it out of the cluster instead",
            ));
        }
        match (&self.http.certificate, &self.http.key) {
            (Some(_), None) | (None, Some(_)) => {
                return Err(Fault::new("http.certificate", "certificate and key come together"));
            }
            (None, None) if !self.http.listen.ip().is_loopback() && !self.http.behind_proxy => {
                return Err(Fault::new(
                    "http.certificate",
                    format!(
                        "{} is not loopback: give certificate and key, or say behind_proxy = true",
                        self.http.listen
                    ),
                ));
            }
            _ => {}
        }
        if self.media.listen.ip().is_unspecified() && self.media.advertise.is_empty() {
            return Err(Fault::new(
                "media.advertise",
                format!(
                    "clients cannot be told {}: list the addresses under which they reach this node",
                    self.media.listen.ip()
                ),
            ));
        }
        if self.links.grpc.ip().is_unspecified() && self.links.advertise.is_none() {
            return Err(Fault::new("links.advertise", "say under which address other nodes reach this one"));
        }
        if self.registry.certificate.is_some() != self.registry.key.is_some() {
            return Err(Fault::new("registry.certificate", "certificate and key come together"));
        }
        if let Some(collector) = &self.telemetry.otlp
            && !collector.starts_with("http://")
        {
            return Err(Fault::new(
                "telemetry.otlp",
                "it begins with http://; let a collector on this machine carry the spans further over TLS",
            ));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.telemetry.log) {
            return Err(Fault::new("telemetry.log", format!("this is no filter: {error}")));
        }
        if self.registry.etcd.is_empty() {
            return Err(Fault::new("registry.etcd", "name at least one etcd address"));
        }
        for (name, key) in &self.keys {
            if !self.policy.institutions.contains_key(&key.institution) {
                let problem = format!("{} has no rules under [policy.institutions]", key.institution);
                return Err(Fault::new(format!("keys.{name}.institution"), problem));
            }
            match (&key.secret, &key.secret_file) {
                (Some(_), None) | (None, Some(_)) => {}
                _ => {
                    return Err(Fault::new(format!("keys.{name}"), "give either secret or secret_file"));
                }
            }
        }
        if let Some(guest) = &self.page.guest_key
            && !self.keys.contains_key(guest)
        {
            return Err(Fault::new("page.guest_key", format!("there is no API key {guest} under [keys]")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const GOOD: &str = r#"
        [node]
        name = "cph-1"
        cluster = "nordunet"
        capacity = 4
        [http]
        listen = "127.0.0.1:7880"
        [media]
        listen = "127.0.0.1:7882"
        [links]
        quic = "127.0.0.1:7870"
        grpc = "127.0.0.1:7871"
        certificate = "node.pem"
        key = "node.key"
        trust = { "nordu.net" = "ca.pem" }
        [telemetry]
        listen = "127.0.0.1:7872"
        [registry]
        etcd = ["http://127.0.0.1:2379"]
        [policy]
        nodes = "nodes.toml"
        zones = "zones.toml"
        floor = "floor.cedar"
        [policy.institutions."ku.dk"]
        file = "ku.dk.cedar"
        version = 1
        [keys.devkey]
        institution = "ku.dk"
        secret = "secret"
    "#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load(GOOD).unwrap();
        assert!(config.policy.nodes.is_absolute());
        assert!(config.policy.nodes.ends_with("nodes.toml"));
    }

    #[test]
    fn plain_http_beyond_loopback_needs_a_word() {
        let error = load(&GOOD.replace("127.0.0.1:7880", "0.0.0.0:7880")).unwrap_err();
        assert!(error.to_string().contains("behind_proxy"), "{error}");
    }

    #[test]
    fn an_unspecified_media_address_needs_an_advertised_one() {
        let error = load(&GOOD.replace("127.0.0.1:7882", "0.0.0.0:7882")).unwrap_err();
        assert!(error.to_string().contains("media.advertise"), "{error}");
    }

    #[test]
    fn a_guest_key_must_exist() {
        let error = load(&format!("{GOOD}\n[page]\nguest_key = \"nokey\"")).unwrap_err();
        assert!(error.to_string().contains("nokey"), "{error}");
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let config = load(&GOOD.replace("\"secret\"", "\"hunter2\"")).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
