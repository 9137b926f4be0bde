//! What an operator writes down: one TOML file, every field also as `SYSTIR_<SECTION>__<FIELD>` in
//! the environment, where lists and tables are written as TOML (a table whose keys have dots is set
//! as a whole: `SYSTIR_POLICY__INSTITUTIONS={"ku.dk" = {file = "ku.cedar", version = 2}}`). Unknown
//! keys and variables are refused, so that a misspelt one cannot go unnoticed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod check;
mod error;
mod source;

pub(crate) use error::line_of_entry;
pub use error::{ConfigError, Fault};

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
    /// Addresses that clients are told (1:1 NAT, dual stack). Empty: the listening address. With
    /// addresses of both families, `listen` and `tcp` are on `[::]`.
    #[serde(default)]
    pub advertise: Vec<std::net::IpAddr>,
    /// TCP address of media for clients whose network lets no UDP out (ICE-TCP), 7881 by custom;
    /// none without it.
    pub tcp: Option<SocketAddr>,
    /// Threads, 16 at most; 0 means one for each core.
    #[serde(default)]
    pub workers: u8,
}

impl Media {
    pub(crate) const MAX_WORKERS: u8 = 16;

    /// How many workers this machine starts.
    pub(crate) fn worker_count(&self) -> u8 {
        match self.workers {
            0 => std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().min(usize::from(Self::MAX_WORKERS)) as u8),
            count => count.min(Self::MAX_WORKERS),
        }
    }

    /// The port of each worker; none when there are too few. Port 0 lets the system choose.
    pub(crate) fn ports(&self) -> Option<Vec<u16>> {
        let first = self.listen.port();
        let port = |index: u8| if first == 0 { Some(0) } else { first.checked_add(u16::from(index)) };
        (0..self.worker_count()).map(port).collect()
    }
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
    /// Seconds after which a silent node's lease ends, 2 to 600.
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

    /// The field, and a value of it that `check` must refuse with these words.
    fn refused(section: &str, was: &str, is: &str, words: &str) {
        let text = GOOD.replace(was, is);
        assert_ne!(text, GOOD, "{was}");
        let said = load(&text).unwrap_err().to_string();
        let key = section.trim_end_matches(": ").rsplit('.').next().unwrap();
        let begin = text.find(is).unwrap();
        let line = text[..begin + is.find(key).unwrap_or(0)].matches('\n').count() + 1;
        assert!(said.contains(&format!("node.toml:{line}:")) && said.contains(section), "{said}");
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_line_and_field() {
        refused("node.cluster: ", "\"nordunet\"", "\"\"", "letters");
        refused("node.cluster: ", "\"nordunet\"", "\"nor/dunet\"", "letters");
        let http = "listen = \"127.0.0.1:7880\"";
        refused(
            "http.connections: ",
            http,
            "connections = 0\nlisten = \"127.0.0.1:7880\"",
            "nobody can join",
        );
        let media = "listen = \"127.0.0.1:7882\"";
        refused("media.workers: ", media, "workers = 17\nlisten = \"127.0.0.1:7882\"", "at most 16");
        refused("media.listen: ", media, "listen = \"127.0.0.1:65530\"\nworkers = 7", "7 workers");
        refused("links.trust: ", "trust = { \"nordu.net\" = \"ca.pem\" }", "trust = {}", "no node");
        let grpc = "grpc = \"127.0.0.1:7871\"";
        refused("links.ceiling_mbps: ", grpc, "ceiling_mbps = 0\ngrpc = \"127.0.0.1:7871\"", "nothing");
        let etcd = "etcd = [\"http://127.0.0.1:2379\"]";
        for seconds in [0, 1, 601] {
            let lease = format!("lease_seconds = {seconds}\n{etcd}");
            let text = GOOD.replace(etcd, &lease);
            let said = load(&text).unwrap_err().to_string();
            assert!(said.contains("registry.lease_seconds: choose 2 to 600"), "{said}");
        }
    }

    #[test]
    fn an_etcd_address_that_is_none_is_told_by_its_place_and_without_its_words() {
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
            let said = load(&text).unwrap_err().to_string();
            assert!(said.contains("registry.etcd: ") && said.contains("address 2"), "{bad}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let text = GOOD.replace("etcd = [", "ca = \"ca.pem\"\netcd = [");
        assert!(
            load(&text).unwrap_err().to_string().contains("https://"),
            "a CA proves nothing over http://"
        );
        load(&GOOD.replace("http://127.0.0.1:2379", "https://[2001:db8::1]:2379/")).unwrap();
    }

    #[test]
    fn what_is_advertised_is_listened_on() {
        let media = |lines: &str| load(&GOOD.replace("listen = \"127.0.0.1:7882\"", lines));
        for good in [
            "listen = \"[::]:7882\"\nadvertise = [\"192.0.2.10\"]",
            "listen = \"[::]:7882\"\ntcp = \"[::]:7881\"\nadvertise = [\"192.0.2.10\", \"2001:db8::1\"]",
            "listen = \"10.0.0.4:7882\"\nadvertise = [\"192.0.2.10\"]",
            "listen = \"[::1]:7882\"",
        ] {
            media(good).unwrap();
        }
        for (bad, words) in [
            (
                "listen = \"0.0.0.0:7882\"\nadvertise = [\"192.0.2.10\", \"2001:db8::1\"]",
                "media.listen: nobody reaches 2001:db8::1",
            ),
            (
                "listen = \"[2001:db8::1]:7882\"\nadvertise = [\"192.0.2.10\"]",
                "media.listen: nobody reaches 192.0.2.10",
            ),
            (
                "listen = \"[::]:7882\"\ntcp = \"0.0.0.0:7881\"\nadvertise = [\"2001:db8::1\"]",
                "media.tcp: nobody reaches 2001:db8::1",
            ),
            (
                "listen = \"0.0.0.0:7882\"\nadvertise = [\"0.0.0.0\"]",
                "media.advertise: 0.0.0.0 is no address",
            ),
            ("listen = \"[::ffff:127.0.0.1]:7882\"", "write 127.0.0.1 instead"),
            (
                "listen = \"127.0.0.1:7882\"\ntcp = \"[::]:7881\"",
                "media.advertise: clients cannot be told ::",
            ),
        ] {
            let said = media(bad).unwrap_err().to_string();
            assert!(said.contains(words), "{bad}: {said}");
        }
        let links = |was: &str, is: &str| load(&GOOD.replace(was, is)).map_err(|error| error.to_string());
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
    fn each_worker_has_a_port_of_its_own_and_the_system_may_choose_it() {
        let mut media = load(GOOD).unwrap().media;
        media.workers = 3;
        assert_eq!(media.ports().unwrap(), [7882, 7883, 7884]);
        media.listen.set_port(0);
        assert_eq!(media.ports().unwrap(), [0, 0, 0]);
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
