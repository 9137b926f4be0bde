//! How to reach etcd.

use std::time::Duration;

use systir_version::VersionRange;

use crate::connection::EtcdCredentials;

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// URLs, `http://` or `https://`.
    pub endpoints: Vec<String>,
    /// Name of the cluster; part of every key.
    pub cluster: String,
    /// The credentials to begin with.
    pub credentials: EtcdCredentials,
    /// How long a node's lease lasts after its last keep-alive.
    pub lease: Duration,
    /// Interval of full reads, which replace the copy whatever the watch reported: etcd before 3.5.18
    /// reports to no watch a deletion at exactly the revision of a compaction.
    pub full_read_interval: Duration,
    /// The versions of records that this node works with.
    pub versions: VersionRange,
}

impl Default for EtcdConfig {
    /// No endpoints; a lease of 10 s, a full read each minute, the versions of this release.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            cluster: String::new(),
            credentials: EtcdCredentials::default(),
            lease: Duration::from_secs(10),
            full_read_interval: Duration::from_secs(60),
            versions: VersionRange::OWN,
        }
    }
}
