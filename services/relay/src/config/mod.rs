//! The configuration: one TOML file. Each field is also an environment variable,
//! `SYSTIR_<SECTION>__<FIELD>`; arrays and tables are written as TOML (a table whose keys have dots is set
//! as a whole: `SYSTIR_POLICY__INSTITUTIONS={"ku.dk" = {keys = ["…"]}}`). Unknown
//! fields and variables are refused, so that typos are noticed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use systir_documents::PrefixError;
use systir_journal::JournalLimits;
use systir_placement::SeatQuotas;

use crate::serve::proxy_protocol::TrustedProxies;

mod check;
mod error;
mod pins;
mod source;

pub use error::{ConfigError, FieldError};

/// The whole configuration of one node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// This node.
    pub node: NodeSection,
    /// The HTTP and WebSocket port.
    pub http: HttpSection,
    /// Media of clients.
    pub media: MediaSection,
    /// Links to other nodes.
    pub links: LinksSection,
    /// Metrics, health and readiness.
    pub telemetry: TelemetrySection,
    /// The registry of leases and assignments (etcd).
    pub registry: RegistrySection,
    /// Policy rules, and facts about nodes.
    pub policy: PolicySection,
    /// API keys by name.
    #[serde(default)]
    pub keys: BTreeMap<String, ApiKeySection>,
    /// Room keys by name.
    #[serde(default)]
    pub room_keys: BTreeMap<String, RoomKeySection>,
    /// The meeting page.
    #[serde(default)]
    pub page: PageSection,
    /// How the node is emptied before it stops.
    #[serde(default)]
    pub drain: DrainSection,
    /// The journal of decisions.
    #[serde(default)]
    pub journal: JournalSection,
}

/// This node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// Its name in the cluster, such as `cph-1`; its entry in the directory has the same name.
    pub name: String,
    /// Name of its cluster; all nodes of a cluster share one etcd.
    pub cluster: String,
    /// Number of seats: participants whose media the node carries at the same time.
    pub capacity: u32,
    /// Most connections of one token to a room, over all nodes as far as this node knows: a participant needs a
    /// second one for a moment when it rejoins, and one for each further publisher.
    #[serde(default = "default_seats_per_identity")]
    pub seats_per_identity: u32,
    /// File of its node key (`systirctl key create`): the long-lived signing key with which it proves to other
    /// nodes that it is the node of the directory.
    pub key: PathBuf,
}

fn default_seats_per_identity() -> u32 {
    SeatQuotas::PER_IDENTITY
}

/// The HTTP and WebSocket port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSection {
    /// Address of HTTP and WebSocket, by convention port 7880.
    pub listen: SocketAddr,
    /// Certificate chain (PEM). Without one the port serves plain HTTP, for loopback or behind a proxy.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Allows plain HTTP on a non-loopback address, because a proxy terminates TLS.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Prefixes of proxies that pass TCP on and state clients' addresses by the PROXY protocol, version 1 or 2. Each of their
    /// connections must begin with that header.
    #[serde(default)]
    pub proxy_protocol: Vec<String>,
    /// Limit of concurrent connections, WebSockets included; further ones are closed.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Longest life of a token, hours, 1 to 8760: tokens that are valid for longer, from `nbf` to `exp`, are refused.
    #[serde(default = "default_max_token_hours")]
    pub max_token_hours: u32,
}

impl HttpSection {
    /// Limit of concurrent connections of one address on which no participant was admitted: a quarter, because a campus may
    /// share an address. A proxy shares one for all clients, and must limit them itself.
    pub(crate) fn per_address(&self) -> usize {
        if self.clients_share_addresses() { self.connections } else { self.connections.div_ceil(4) }
    }

    /// Do all clients have the address of their proxy?
    pub(crate) fn clients_share_addresses(&self) -> bool {
        self.behind_proxy && self.proxy_protocol.is_empty()
    }

    /// Do clients of other machines reach this port?
    pub(crate) fn others_reach_it(&self) -> bool {
        !self.listen.ip().is_loopback() || self.behind_proxy || !self.proxy_protocol.is_empty()
    }

    /// The proxies that state the addresses of clients.
    ///
    /// # Errors
    /// When a text is no prefix.
    pub(crate) fn proxies(&self) -> Result<TrustedProxies, FieldError> {
        let prefixes = self.proxy_protocol.iter().map(|text| text.parse());
        let prefixes = prefixes.collect::<Result<_, PrefixError>>();
        prefixes
            .map(TrustedProxies::new)
            .map_err(|error| FieldError::new("http.proxy_protocol", error.to_string()))
    }
}

/// LiveKit's SDKs make tokens of 6 hours.
pub(crate) fn default_max_token_hours() -> u32 {
    24
}

fn default_connections() -> usize {
    8_192
}

/// Media of clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaSection {
    /// UDP address of the first worker, by convention port 7882; each further worker takes the next port.
    pub listen: SocketAddr,
    /// Addresses in ICE candidates (1:1 NAT, dual stack). Empty: the listening address. With addresses of
    /// both families, `listen` and `tcp` must be on `[::]`.
    #[serde(default)]
    pub advertise: Vec<std::net::IpAddr>,
    /// ICE-TCP address, for clients whose network blocks UDP, by convention port 7881. None: no ICE-TCP.
    pub tcp: Option<SocketAddr>,
    /// Worker threads, 16 at most; 0 means one per core.
    #[serde(default)]
    pub workers: u8,
}

impl MediaSection {
    pub(crate) const MAX_WORKERS: u8 = 16;

    /// Number of workers to start on this machine.
    pub(crate) fn worker_count(&self) -> u8 {
        match self.workers {
            0 => std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().min(usize::from(Self::MAX_WORKERS)) as u8),
            count => count.min(Self::MAX_WORKERS),
        }
    }

    /// The port of each worker; none when the ports exceed 65535. Port 0 lets the system choose.
    pub(crate) fn ports(&self) -> Option<Vec<u16>> {
        let first = self.listen.port();
        let port = |index: u8| if first == 0 { Some(0) } else { first.checked_add(u16::from(index)) };
        (0..self.worker_count()).map(port).collect()
    }
}

/// Links to other nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksSection {
    /// UDP address of QUIC, by convention port 7870.
    pub quic: SocketAddr,
    /// TCP address of gRPC, by convention port 7871.
    pub grpc: SocketAddr,
    /// Address that other nodes dial. None: the listening address.
    #[serde(default)]
    pub advertise: Option<std::net::IpAddr>,
    /// This node's certificate (PEM) with its SPIFFE id.
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Send limit of one link, in Mbit/s.
    #[serde(default = "default_ceiling")]
    pub ceiling_mbps: u32,
}

fn default_ceiling() -> u32 {
    1_000
}

/// Metrics, health and readiness.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySection {
    /// Address of `/metrics`, `/healthz`, `/readyz`, by convention port 7872.
    pub listen: SocketAddr,
    /// OTLP collector (gRPC), such as `http://127.0.0.1:4317`. None: no traces are sent.
    pub otlp: Option<String>,
    /// Log filter in the syntax of `tracing_subscriber::EnvFilter`.
    #[serde(default = "default_log")]
    pub log: String,
    /// Log lines as JSON.
    #[serde(default)]
    pub json: bool,
}

fn default_log() -> String {
    "info".to_owned()
}

/// The registry of leases and assignments (etcd).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySection {
    /// etcd's addresses.
    pub etcd: Vec<String>,
    /// CA of etcd's server certificate (PEM).
    pub ca: Option<PathBuf>,
    /// This node's client certificate for etcd (PEM).
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Seconds after which the lease of a node that does not renew it ends, 2 to 600.
    #[serde(default = "default_lease")]
    pub lease_seconds: u64,
}

fn default_lease() -> u64 {
    10
}

/// Policy rules, and facts about nodes. All of it comes from signed documents, whose signers' keys are pinned
/// here: who can write etcd, a folder or a network can withhold a document and cannot change one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySection {
    /// This node's operator. Its floor applies to the rooms of all institutions.
    pub operator: String,
    /// Folder of signed documents, `*.note`; a new version is taken while the node runs.
    pub documents: PathBuf,
    /// Folder in which the node keeps the newest documents that it accepted, and its journal. It must survive a restart: an
    /// older version is then refused.
    pub state: PathBuf,
    /// Life of the grants that this node signs as home, seconds, 10 to 600: so long a room can be opened on a node after
    /// its home stopped renewing the grant.
    #[serde(default = "default_grant_seconds")]
    pub grant_seconds: u64,
    /// Operators whose nodes may be used, with the keys that sign their directories.
    pub operators: BTreeMap<String, OperatorSection>,
    /// Institutions, with the keys that sign their bundles.
    pub institutions: BTreeMap<String, InstitutionSection>,
}

fn default_grant_seconds() -> u64 {
    600
}

/// The pinned keys of an operator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSection {
    /// The trust domain of its nodes: their SPIFFE ids begin with `spiffe://<trust_domain>/`.
    pub trust_domain: String,
    /// Public keys (`systirctl key show`).
    pub keys: Vec<String>,
    /// Number of these keys that must have signed. May be left out when there is one key.
    #[serde(default)]
    pub threshold: Option<usize>,
}

/// The pinned keys of an institution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstitutionSection {
    /// Public keys (`systirctl key show`).
    pub keys: Vec<String>,
    /// Number of these keys that must have signed. May be left out when there is one key.
    #[serde(default)]
    pub threshold: Option<usize>,
    /// Seats of this node that the institution's rooms may take together. None: all.
    #[serde(default)]
    pub seats: Option<u32>,
}

/// An API key of an institution.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySection {
    /// Tokens of this key are for rooms of this institution.
    pub institution: String,
    /// The shared secret. Set either this or `secret_file`.
    #[serde(default)]
    pub secret: Option<String>,
    /// File that holds the secret.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Accepts only tokens whose `aud` names this audience. None: tokens need no audience.
    #[serde(default)]
    pub audience: Option<String>,
    /// Accepts a secret that can be guessed. For tests: only while the HTTP port listens on loopback.
    #[serde(default)]
    pub allow_weak_secret: bool,
}

impl std::fmt::Debug for ApiKeySection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeySection").field("institution", &self.institution).finish_non_exhaustive()
    }
}

/// A room key: etcd and links carry the names of rooms sealed under it. All nodes that an institution approves as gateway
/// or home have the same keys of it. To change one, add the new key with `creates = false` on all nodes, then let it create
/// on all nodes, then remove the old one once no room is under it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomKeySection {
    /// Owner of the rooms.
    pub institution: String,
    /// 32 random bytes in base64. Set either this or `key_file`.
    #[serde(default)]
    pub key: Option<String>,
    /// File that holds the key (`systirctl key room`).
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Do new rooms get a tag of this key? Exactly one key of an institution does; rooms are found under all.
    #[serde(default = "default_creates")]
    pub creates: bool,
}

fn default_creates() -> bool {
    true
}

impl std::fmt::Debug for RoomKeySection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomKeySection").field("institution", &self.institution).finish_non_exhaustive()
    }
}

/// The meeting page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageSection {
    /// API key for guest tokens: with it, anyone who opens the page can join the rooms in which policy permits
    /// `join-guest`. None: a link with a token is required.
    #[serde(default)]
    pub guest_key: Option<String>,
}

/// How the node is emptied, by a signal or by `systirctl drain`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSection {
    /// Seconds after which those who are still here are asked to reconnect at once, 0 to 86400. After SIGTERM the node ends
    /// then.
    #[serde(default = "default_drain_deadline")]
    pub deadline_seconds: u64,
    /// Participants and clients asked to reconnect each second, 1 to 1000.
    #[serde(default = "default_drain_rate")]
    pub per_second: u32,
    /// Seconds from the start until the first is asked to reconnect, 0 to 600: load balancers notice meanwhile that the node
    /// is not ready.
    #[serde(default = "default_drain_notice")]
    pub notice_seconds: u64,
    /// Name of the API key whose tokens drain this node (`systirctl drain`). It belongs to the operator, not to an
    /// institution. None: only a signal drains it.
    #[serde(default)]
    pub api_key: Option<String>,
    /// Its secret. Set either this or `secret_file`.
    #[serde(default)]
    pub secret: Option<String>,
    /// File that holds the secret.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
}

impl Default for DrainSection {
    fn default() -> Self {
        Self {
            deadline_seconds: default_drain_deadline(),
            per_second: default_drain_rate(),
            notice_seconds: default_drain_notice(),
            api_key: None,
            secret: None,
            secret_file: None,
        }
    }
}

impl std::fmt::Debug for DrainSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DrainSection")
            .field("deadline_seconds", &self.deadline_seconds)
            .finish_non_exhaustive()
    }
}

/// The unit's stop timeout in `deploy/systir-relay.service` is longer.
fn default_drain_deadline() -> u64 {
    600
}

fn default_drain_rate() -> u32 {
    10
}

fn default_drain_notice() -> u64 {
    5
}

/// The journal of decisions, in the folder `journal` of `policy.state`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalSection {
    /// Days that are kept besides today, 1 to 3650.
    #[serde(default = "default_keep_days")]
    pub keep_days: u64,
    /// Most MiB of one day, 1 to 1048576: what is more is missing in the journal, which says so.
    #[serde(default = "default_day_mib")]
    pub day_mib: u64,
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { keep_days: default_keep_days(), day_mib: default_day_mib() }
    }
}

fn default_keep_days() -> u64 {
    90
}

/// Some ten thousand joins.
fn default_day_mib() -> u64 {
    64
}

impl JournalSection {
    /// The size of a file from which the next one begins.
    const FILE_BYTES: u64 = 32 * 1024 * 1024;

    pub(crate) fn limits(&self) -> JournalLimits {
        JournalLimits {
            keep_days: self.keep_days,
            file_bytes: Self::FILE_BYTES,
            day_bytes: self.day_mib.saturating_mul(1024 * 1024),
        }
    }
}

impl RelayConfig {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// With the place and the problem, when a field is unknown, missing or of the wrong type, or when values
    /// contradict each other.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let mut config = source::read(file)?;
        config.resolve_paths(file.parent().unwrap_or(Path::new(".")));
        config.check().map_err(|error| ConfigError::locate(file, error))?;
        Ok(config)
    }

    // Paths are relative to the configuration file, so that its folder can be moved.
    fn resolve_paths(&mut self, base: &Path) {
        let required = [
            &mut self.node.key,
            &mut self.links.certificate,
            &mut self.links.key,
            &mut self.policy.documents,
            &mut self.policy.state,
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
            &mut self.drain.secret_file,
        ];
        for path in optional.into_iter().flatten() {
            *path = base.join(&*path);
        }
        for key in self.keys.values_mut() {
            if let Some(path) = &mut key.secret_file {
                *path = base.join(&*path);
            }
        }
        for key in self.room_keys.values_mut() {
            if let Some(path) = &mut key.key_file {
                *path = base.join(&*path);
            }
        }
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
        key = "cph-1.node-key"
        [http]
        listen = "127.0.0.1:7880"
        [media]
        listen = "127.0.0.1:7882"
        [links]
        quic = "127.0.0.1:7870"
        grpc = "127.0.0.1:7871"
        certificate = "node.pem"
        key = "node.key"
        [telemetry]
        listen = "127.0.0.1:7872"
        [registry]
        etcd = ["http://127.0.0.1:2379"]
        [policy]
        operator = "nordunet"
        documents = "documents"
        state = "state"
        [policy.operators.nordunet]
        trust_domain = "nordu.net"
        keys = ["nordu.net/2026+6ea78646+AZa8q1d3JGvGx27VuaGaywQkLH4qkSo3/jTAjDYgp3ph"]
        [policy.institutions."ku.dk"]
        keys = ["ku.dk/2026+cf081dea+AYVjXbKvJHRW4BFPMfXGj7Qpu+3dx/ZV+kWLVzyRTViu"]
        [keys.devkey]
        institution = "ku.dk"
        secret = "secret"
        [room_keys.ku]
        institution = "ku.dk"
        key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    "#;

    fn load(text: &str) -> Result<RelayConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        RelayConfig::load(&file)
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load(GOOD).unwrap();
        assert!(config.policy.documents.is_absolute());
        assert!(config.policy.documents.ends_with("documents"));
    }

    #[test]
    fn plain_http_beyond_loopback_requires_behind_proxy() {
        let error = load(&GOOD.replace("127.0.0.1:7880", "0.0.0.0:7880")).unwrap_err();
        assert!(error.to_string().contains("behind_proxy"), "{error}");
    }

    #[test]
    fn a_weak_secret_is_allowed_on_loopback_only() {
        let allowed = GOOD.replace("secret = \"secret\"", "secret = \"secret\"\nallow_weak_secret = true");
        load(&allowed).unwrap();
        for public in [
            "listen = \"192.0.2.10:7880\"\nbehind_proxy = true",
            "listen = \"127.0.0.1:7880\"\nbehind_proxy = true",
            "listen = \"127.0.0.1:7880\"\nproxy_protocol = [\"127.0.0.1/32\"]",
        ] {
            let error =
                load(&allowed.replace("listen = \"127.0.0.1:7880\"", public)).unwrap_err().to_string();
            assert!(error.contains("keys.devkey.allow_weak_secret: "), "{error}");
        }
    }

    #[test]
    fn etcd_without_tls_must_be_on_loopback() {
        let with = |address: &str| load(&GOOD.replace("http://127.0.0.1:2379", address));
        for good in
            ["http://127.0.0.2:2379", "http://[::1]:2379", "http://localhost:2379", "https://etcd:2379"]
        {
            with(good).unwrap();
        }
        for bad in [
            "http://192.0.2.10:2379",
            "http://etcd:2379",
            "http://[2001:db8::1]:2379",
            "http://localhost.example:1",
        ] {
            let error = with(bad).unwrap_err().to_string();
            assert!(
                error.contains("registry.etcd: address 1") && error.contains("write https://"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_longest_life_of_a_token_has_limits() {
        let http = "listen = \"127.0.0.1:7880\"";
        for hours in [0, 8761] {
            let text = GOOD.replace(http, &format!("{http}\nmax_token_hours = {hours}"));
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains("http.max_token_hours: choose 1 to 8760"), "{error}");
        }
    }

    #[test]
    fn only_named_proxies_are_believed_and_limits_by_address_hold_behind_them() {
        let http = |lines: &str| load(&GOOD.replace("listen = \"127.0.0.1:7880\"", lines));
        let shared = http("listen = \"0.0.0.0:7880\"\nbehind_proxy = true").unwrap().http;
        assert!(shared.clients_share_addresses() && shared.per_address() == shared.connections);
        let proxies = "proxy_protocol = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
        let stated =
            http(&format!("listen = \"0.0.0.0:7880\"\nbehind_proxy = true\n{proxies}")).unwrap().http;
        assert!(!stated.clients_share_addresses() && stated.per_address() < stated.connections);
        for wrong in ["0.0.0.0/0", "192.0.2.1/24", "proxy.example"] {
            let text = format!("listen = \"127.0.0.1:7880\"\nproxy_protocol = [\"{wrong}\"]");
            let error = http(&text).unwrap_err().to_string();
            assert!(error.contains("http.proxy_protocol: "), "{error}");
        }
    }

    #[test]
    fn an_unspecified_media_address_requires_an_advertised_one() {
        let error = load(&GOOD.replace("127.0.0.1:7882", "0.0.0.0:7882")).unwrap_err();
        assert!(error.to_string().contains("media.advertise"), "{error}");
    }

    /// Replaces `old` by `new` in the good file and expects an error at this field with this text.
    fn refused(section: &str, old: &str, new: &str, expected: &str) {
        let text = GOOD.replace(old, new);
        assert_ne!(text, GOOD, "{old}");
        let error = load(&text).unwrap_err().to_string();
        let key = section.trim_end_matches(": ").rsplit('.').next().unwrap();
        let begin = text.find(new).unwrap();
        let line = text[..begin + new.find(key).unwrap_or(0)].matches('\n').count() + 1;
        assert!(error.contains(&format!("node.toml:{line}:")) && error.contains(section), "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_line_and_field() {
        refused("node.cluster: ", "\"nordunet\"", "\"\"", "letters");
        refused("node.cluster: ", "\"nordunet\"", "\"nor/dunet\"", "letters");
        let http = "listen = \"127.0.0.1:7880\"";
        refused(
            "http.connections: ",
            http,
            "connections = 0\nlisten = \"127.0.0.1:7880\"",
            "no client can connect",
        );
        let media = "listen = \"127.0.0.1:7882\"";
        refused("media.workers: ", media, "workers = 17\nlisten = \"127.0.0.1:7882\"", "at most 16");
        refused("media.listen: ", media, "listen = \"127.0.0.1:65530\"\nworkers = 7", "7 workers");
        let grpc = "grpc = \"127.0.0.1:7871\"";
        let pinned = "[policy.institutions.\"ku.dk\"]";
        let key = "nordu.net/2026+6ea78646+AZa8q1d3JGvGx27VuaGaywQkLH4qkSo3/jTAjDYgp3ph";
        let sunet =
            format!("[policy.operators.sunet]\ntrust_domain = \"nordu.net\"\nkeys = [\"{key}\"]\n{pinned}");
        refused("policy.operators.sunet.trust_domain: ", pinned, &sunet, "nordunet has it too");
        refused("links.ceiling_mbps: ", grpc, "ceiling_mbps = 0\ngrpc = \"127.0.0.1:7871\"", "nothing");
        let etcd = "etcd = [\"http://127.0.0.1:2379\"]";
        for seconds in [0, 1, 601] {
            let lease = format!("lease_seconds = {seconds}\n{etcd}");
            let text = GOOD.replace(etcd, &lease);
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains("registry.lease_seconds: choose 2 to 600"), "{error}");
        }
    }

    #[test]
    fn an_invalid_etcd_address_is_reported_by_position_without_its_text() {
        for bad in [
            "127.0.0.1:2379",
            "htps://etcd:2379",
            "http://",
            "http://x:hunter2@etcd:2379",
            "http://etcd/a",
            "http://e td",
        ] {
            let text =
                GOOD.replace("[\"http://127.0.0.1:2379\"]", &format!("[\"https://etcd:2379\", \"{bad}\"]"));
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains("registry.etcd: ") && error.contains("address 2"), "{bad}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let text = GOOD.replace("etcd = [", "ca = \"ca.pem\"\netcd = [");
        assert!(load(&text).unwrap_err().to_string().contains("https://"), "http:// ignores the CA");
        load(&GOOD.replace("http://127.0.0.1:2379", "https://[2001:db8::1]:2379/")).unwrap();
    }

    #[test]
    fn each_advertised_address_must_be_listened_on() {
        let media = |lines: &str| load(&GOOD.replace("listen = \"127.0.0.1:7882\"", lines));
        for good in [
            "listen = \"[::]:7882\"\nadvertise = [\"192.0.2.10\"]",
            "listen = \"[::]:7882\"\ntcp = \"[::]:7881\"\nadvertise = [\"192.0.2.10\", \"2001:db8::1\"]",
            "listen = \"10.0.0.4:7882\"\nadvertise = [\"192.0.2.10\"]",
            "listen = \"[::1]:7882\"",
        ] {
            media(good).unwrap();
        }
        for (bad, expected) in [
            (
                "listen = \"0.0.0.0:7882\"\nadvertise = [\"192.0.2.10\", \"2001:db8::1\"]",
                "media.listen: 2001:db8::1 of media.advertise cannot be reached",
            ),
            (
                "listen = \"[2001:db8::1]:7882\"\nadvertise = [\"192.0.2.10\"]",
                "media.listen: 192.0.2.10 of media.advertise cannot be reached",
            ),
            (
                "listen = \"[::]:7882\"\ntcp = \"0.0.0.0:7881\"\nadvertise = [\"2001:db8::1\"]",
                "media.tcp: 2001:db8::1 of media.advertise cannot be reached",
            ),
            (
                "listen = \"0.0.0.0:7882\"\nadvertise = [\"0.0.0.0\"]",
                "media.advertise: 0.0.0.0 is no address",
            ),
            ("listen = \"[::ffff:127.0.0.1]:7882\"", "write 127.0.0.1 instead"),
            (
                "listen = \"127.0.0.1:7882\"\ntcp = \"[::]:7881\"",
                "media.advertise: media.tcp is ::, which clients cannot use",
            ),
        ] {
            let error = media(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        let links = |old: &str, new: &str| load(&GOOD.replace(old, new)).map_err(|error| error.to_string());
        let quic = "quic = \"127.0.0.1:7870\"";
        for bad in [
            "quic = \"0.0.0.0:7870\"",
            "quic = \"127.0.0.2:7870\"",
            "quic = \"127.0.0.1:7870\"\nadvertise = \"::1\"",
        ] {
            assert!(links(quic, bad).unwrap_err().contains("links.advertise"), "{bad}");
        }
        let both = GOOD.replace(quic, "quic = \"[::]:7870\"\nadvertise = \"192.0.2.10\"");
        load(&both.replace("grpc = \"127.0.0.1:7871\"", "grpc = \"[::]:7871\"")).unwrap();
    }

    #[test]
    fn each_worker_has_its_own_port_and_port_0_lets_the_system_choose() {
        let mut media = load(GOOD).unwrap().media;
        media.workers = 3;
        assert_eq!(media.ports().unwrap(), [7882, 7883, 7884]);
        media.listen.set_port(0);
        assert_eq!(media.ports().unwrap(), [0, 0, 0]);
    }

    #[test]
    fn a_drain_has_limits_and_its_key_has_a_secret() {
        assert_eq!(load(GOOD).unwrap().drain.deadline_seconds, 600);
        let drain = |lines: &str| load(&format!("{GOOD}\n[drain]\n{lines}"));
        let strong = "api_key = \"ops\"\nsecret_file = \"ops.secret\"";
        assert!(drain(strong).unwrap().drain.secret_file.unwrap().is_absolute());
        drain("deadline_seconds = 0\nnotice_seconds = 0\nper_second = 1000").unwrap();
        for (bad, field) in [
            ("deadline_seconds = 86401", "drain.deadline_seconds"),
            ("notice_seconds = 601", "drain.notice_seconds"),
            ("per_second = 0", "drain.per_second"),
            ("per_second = 1001", "drain.per_second"),
            ("api_key = \"ops\"", "drain.api_key"),
            ("api_key = \"\"\nsecret = \"x\"", "drain.api_key"),
            ("secret = \"x\"", "drain.api_key"),
            ("api_key = \"ops\"\nsecret = \"x\"\nsecret_file = \"x\"", "drain.api_key"),
        ] {
            let error = drain(bad).unwrap_err().to_string();
            assert!(error.contains(field), "{bad}: {error}");
        }
    }

    #[test]
    fn a_journal_is_kept_for_ninety_days_unless_the_file_says_otherwise() {
        assert_eq!(load(GOOD).unwrap().journal.limits().keep_days, 90);
        let journal = |lines: &str| load(&format!("{GOOD}\n[journal]\n{lines}"));
        assert_eq!(journal("keep_days = 7\nday_mib = 1").unwrap().journal.limits().day_bytes, 1 << 20);
        for (bad, field) in [
            ("keep_days = 0", "journal.keep_days"),
            ("keep_days = 3651", "journal.keep_days"),
            ("day_mib = 0", "journal.day_mib"),
            ("day_mib = 1048577", "journal.day_mib"),
        ] {
            let error = journal(bad).unwrap_err().to_string();
            assert!(error.contains(field), "{bad}: {error}");
        }
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
