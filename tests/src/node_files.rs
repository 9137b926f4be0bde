//! The files of a cluster: policy, certificates and a configuration for each node.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use systir_identity::{TrustDomain, ca};

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

/// Writes what all nodes share: the policy that the project ships, a CA, and a certificate for each
/// node.
pub(crate) fn write_shared_files(folder: &Path, nodes: &[&str]) -> Result<()> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/policy/policies");
    for file in ["nodes.toml", "zones.toml", "floor.cedar", "ku.dk.cedar"] {
        std::fs::copy(policies.join(file), folder.join(file))?;
    }
    let domain = TrustDomain::new("nordu.net")?;
    let authority = ca::create(&domain, SystemTime::now())?;
    std::fs::write(folder.join("ca.pem"), &authority.certificate)?;
    // For tests in which the cluster's CA issues a wrong certificate.
    std::fs::write(folder.join("ca.key"), &authority.key)?;
    for node in nodes {
        let issued =
            ca::issue(&authority, &domain.relay(node)?, SystemTime::now(), Duration::from_secs(3600))?;
        std::fs::write(folder.join(format!("{node}.pem")), issued.certificate)?;
        std::fs::write(folder.join(format!("{node}.key")), issued.key)?;
    }
    Ok(())
}

/// The configuration file of a node.
pub(crate) fn config(node: &str, etcd: &str, at: &Addresses, capacity: u32) -> String {
    let Addresses { http, media, tcp, quic, grpc, telemetry } = at;
    let tcp = tcp.as_ref().map(|tcp| format!("tcp = \"{tcp}\"")).unwrap_or_default();
    // A node refuses plain HTTP on an address other than loopback unless `behind_proxy` is set.
    let proxy = if http.starts_with("127.") { "" } else { "behind_proxy = true" };
    format!(
        r#"
        [node]
        name = "{node}"
        cluster = "nordunet"
        capacity = {capacity}
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
        trust = {{ "nordu.net" = "ca.pem" }}
        [telemetry]
        listen = "{telemetry}"
        log = "info"
        [registry]
        etcd = ["{etcd}"]
        lease_seconds = 3
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
        "#
    )
}
