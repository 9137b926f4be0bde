//! The files of a cluster: policy, certificates and a configuration for each node.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use systir_identity::{TrustDomain, ca};
use systir_policy::demo::signed::SignedDemo;

/// The addresses on which a node listens.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) http: String,
    pub(crate) media: String,
    /// Media over TCP (ICE-TCP).
    pub(crate) tcp: Option<String>,
    pub(crate) quic: String,
    pub(crate) grpc: String,
    pub(crate) telemetry: String,
}

impl Addresses {
    /// The usual port offsets; `base` is the port of QUIC.
    pub(crate) fn on_loopback(base: u16) -> Self {
        let at = |offset: u16| format!("127.0.0.1:{}", base + offset);
        Self { http: at(10), media: at(12), tcp: None, quic: at(0), grpc: at(1), telemetry: at(2) }
    }
}

/// Writes what all nodes share: a CA with a certificate for each node, node keys, and the documents that the
/// project ships, signed with new keys. Links may be dialled at loopback addresses and at `prefixes`.
pub(crate) fn write_shared_files(folder: &Path, nodes: &[&str], prefixes: &[&str]) -> Result<SignedDemo> {
    let domain = TrustDomain::new("nordu.net")?;
    let now = SystemTime::now();
    let authority = ca::create(&domain, now)?;
    // For tests in which the cluster's CA issues a wrong certificate.
    std::fs::write(folder.join("ca.pem"), &authority.certificate)?;
    std::fs::write(folder.join("ca.key"), &authority.key)?;
    for node in nodes {
        let issued = ca::issue(&authority, &domain.relay(node)?, now, Duration::from_secs(3600))?;
        std::fs::write(folder.join(format!("{node}.pem")), issued.certificate)?;
        std::fs::write(folder.join(format!("{node}.key")), issued.key)?;
    }
    let prefixes = ["127.0.0.0/8"].iter().chain(prefixes).map(|prefix| prefix.parse());
    let prefixes = prefixes.collect::<Result<_, _>>()?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let documents = SignedDemo::new(&authority.certificate, nodes, prefixes, seconds, rand::random)?;
    std::fs::create_dir_all(folder.join("documents"))?;
    for (name, text) in documents.files()? {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(documents)
}

/// The configuration file of a node.
pub(crate) fn config(
    node: &str,
    etcd: &str,
    at: &Addresses,
    capacity: u32,
    documents: &SignedDemo,
) -> String {
    let Addresses { http, media, tcp, quic, grpc, telemetry } = at;
    let tcp = tcp.as_ref().map(|tcp| format!("tcp = \"{tcp}\"")).unwrap_or_default();
    // A node refuses plain HTTP on an address other than loopback unless `behind_proxy` is set.
    let proxy = if http.starts_with("127.") { "" } else { "behind_proxy = true" };
    let (operator, institution) = (documents.operator_key().public(), documents.institution_key().public());
    let drain_secret = if http.starts_with("127.") { API_KEY_SECRET } else { STRONG_KEY[1] };
    let (api_key, room_key) = match node {
        UNAPPROVED => ("", ""),
        _ if http.starts_with("127.") => (API_KEY, ROOM_KEY),
        _ => (STRONG_API_KEY, ROOM_KEY),
    };
    format!(
        r#"
        [node]
        name = "{node}"
        cluster = "nordunet"
        capacity = {capacity}
        key = "{node}.node-key"
        [http]
        listen = "{http}"
        {proxy}
        [media]
        listen = "{media}"
        {tcp}
        workers = 1
        [links]
        quic = "{quic}"
        grpc = "{grpc}"
        certificate = "{node}.pem"
        key = "{node}.key"
        [telemetry]
        listen = "{telemetry}"
        log = "info"
        [registry]
        etcd = ["{etcd}"]
        lease_seconds = 3
        [drain]
        notice_seconds = 0
        deadline_seconds = 10
        api_key = "devkey"
        secret = "{drain_secret}"
        [policy]
        operator = "nordunet"
        documents = "documents"
        state = "{node}.state"
        [policy.operators.nordunet]
        trust_domain = "nordu.net"
        keys = ["{operator}"]
        [policy.institutions."ku.dk"]
        keys = ["{institution}"]
        {api_key}
        {room_key}
        "#
    )
}

/// Fields of `[registry]` for the files that [`crate::secure_etcd::SecureEtcd::write_client`] writes.
pub(crate) fn etcd_files(node: &str) -> String {
    format!("ca = \"etcd-ca.pem\"\ncertificate = \"etcd-{node}.pem\"\nkey = \"etcd-{node}.key\"\n")
}

/// The node that `ku.dk` approves in no role: it may hold neither the API key nor the room key of `ku.dk`.
pub(crate) const UNAPPROVED: &str = "aws-sto-1";

/// The secret of [`API_KEY`].
const API_KEY_SECRET: &str = "secret";

/// The demo's key, whose secret is allowed on loopback only.
pub(crate) const API_KEY: &str = r#"
        [keys.devkey]
        institution = "ku.dk"
        secret = "secret"
        allow_weak_secret = true
"#;

/// A room key of `ku.dk`.
pub(crate) const ROOM_KEY: &str = r#"
        [room_keys.tests]
        institution = "ku.dk"
        key = "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0="
"#;

/// The API key and the secret of nodes that other machines reach.
pub(crate) const STRONG_KEY: [&str; 2] = ["sitekey", "2c1f0b7d9e3a48655acd1e7f80b93624"];

const STRONG_API_KEY: &str = r#"
        [keys.sitekey]
        institution = "ku.dk"
        secret = "2c1f0b7d9e3a48655acd1e7f80b93624"
"#;
