//! What etcd answers a node that is not running: for `systirctl doctor`. Nothing is written.

use std::collections::BTreeSet;

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};
use futures::future::join_all;
use systir_assignment::StoreKeys;

use crate::connection::{Connector, with_timeout};
use crate::etcd_config::EtcdConfig;
use crate::lease::Lease;
use crate::registry::RegistryError;

/// What one endpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdStatus {
    /// Its release.
    pub version: String,
    /// Does its cluster have a leader?
    pub has_leader: bool,
    /// Faults that it reports, such as a full database.
    pub faults: Vec<String>,
}

/// What etcd answered.
#[derive(Debug, Clone, Default)]
pub struct EtcdAnswers {
    /// Each configured endpoint, or why it did not answer.
    pub endpoints: Vec<(String, Result<EtcdStatus, RegistryError>)>,
    /// May this node's user do what only root may? Then access control is off, or the user is root. None: it could not
    /// be asked.
    pub is_root: Option<bool>,
    /// The node needs it, and etcd refuses it: `read the leases of nodes`.
    pub refused: Vec<String>,
    /// The node may write another node's lease.
    pub excessive: bool,
    /// Why the role could not be tried.
    pub failed: Option<RegistryError>,
    /// The leases of all nodes.
    pub leases: Vec<Lease>,
}

/// Asks each endpoint for its state, and tries this node's role: what it needs for its own lease and for the rooms of these
/// institutions. Ends within a few seconds, whatever answers.
pub async fn probe(config: &EtcdConfig, node: &str, institutions: &BTreeSet<String>) -> EtcdAnswers {
    let status = config.endpoints.iter().map(|address| async move {
        let connector = Connector::new(vec![address.clone()], config.credentials.clone());
        (address.clone(), status(&connector).await)
    });
    let (endpoints, role) = tokio::join!(join_all(status), role(config, node, institutions));
    let role = role.unwrap_or_else(|error| EtcdAnswers { failed: Some(error), ..EtcdAnswers::default() });
    EtcdAnswers { endpoints, ..role }
}

async fn status(connector: &Connector) -> Result<EtcdStatus, RegistryError> {
    let mut client = connector.connect().await?;
    let answer = with_timeout(client.status()).await?;
    Ok(EtcdStatus {
        version: answer.version().to_owned(),
        has_leader: answer.leader() != 0,
        faults: answer.errors().to_vec(),
    })
}

async fn role(
    config: &EtcdConfig,
    node: &str,
    institutions: &BTreeSet<String>,
) -> Result<EtcdAnswers, RegistryError> {
    let connector = Connector::new(config.endpoints.clone(), config.credentials.clone());
    let client = connector.connect().await?;
    let (keys, asked) = (StoreKeys::new(&config.cluster), &client);
    let rooms = async {
        let refused = institutions.iter().map(|institution| {
            let prefix = keys.rooms(institution);
            async move {
                let denied = is_denied(read(asked, prefix.clone()).await)?
                    || is_denied(try_write(asked, format!("{prefix}doctor")).await)?;
                Ok(denied.then(|| format!("read and write the rooms of {institution}")))
            }
        });
        let refused: Result<Vec<Option<String>>, RegistryError> =
            join_all(refused).await.into_iter().collect();
        Ok::<Vec<String>, RegistryError>(refused?.into_iter().flatten().collect())
    };
    let other = format!("{}another-node", keys.nodes());
    let (is_root, leases, own, other, rooms) = tokio::join!(
        async { with_timeout(client.clone().role_list()).await },
        read(&client, keys.nodes()),
        try_write(&client, keys.node(node)),
        try_write(&client, other),
        rooms,
    );
    let mut refused = Vec::new();
    let leases = match leases {
        Err(RegistryError::Refused(_)) => {
            refused.push("read the leases of nodes".to_owned());
            Vec::new()
        }
        leases => leases?,
    };
    if is_denied(own)? {
        refused.push("write its own lease".to_owned());
    }
    refused.extend(rooms?);
    Ok(EtcdAnswers {
        is_root: Some(!is_denied(is_root)?),
        refused,
        excessive: !is_denied(other)?,
        leases: leases.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect(),
        ..EtcdAnswers::default()
    })
}

/// The values of all keys that begin so.
async fn read(client: &Client, prefix: String) -> Result<Vec<Vec<u8>>, RegistryError> {
    let options = GetOptions::new().with_prefix().with_serializable();
    let answer = with_timeout(client.clone().get(prefix, Some(options))).await?;
    Ok(answer.kvs().iter().map(|record| record.value().to_vec()).collect())
}

/// etcd looks whether all parts of a transaction are permitted, also of the branch that it does not take: a version below 0
/// does not exist.
async fn try_write(client: &Client, key: String) -> Result<(), RegistryError> {
    let never = Compare::version(key.clone(), CompareOp::Less, 0);
    let txn = Txn::new().when([never]).and_then([TxnOp::put(key, Vec::new(), None)]);
    with_timeout(client.clone().txn(txn)).await.map(drop)
}

fn is_denied<T>(answer: Result<T, RegistryError>) -> Result<bool, RegistryError> {
    match answer {
        Ok(_) => Ok(false),
        Err(RegistryError::Refused(_)) => Ok(true),
        // etcd does not know the user.
        Err(RegistryError::Unavailable(reason)) if reason.contains("user name not found") => Ok(true),
        Err(error) => Err(error),
    }
}
