//! What an operator runs against a cluster: `systirctl`, in the cluster's folder.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::Cluster;
use crate::process::{built, output};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `systirctl`, which asks this node's gateway: its standard output.
///
/// # Errors
/// With its standard error, when it fails.
pub async fn systirctl(cluster: &Cluster, gateway: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(built("systirctl")?);
    command.current_dir(cluster.folder()).args(["--url", &cluster.url(gateway)]).args(arguments);
    let output = output(command, LIMIT).await?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the next version of the operator's directory, signs it and publishes it through one gateway: what the last
/// command printed. `change` are the words after `systirctl directory`, with the file to change, and `out` is the file
/// of the new version.
///
/// # Errors
/// When a command fails.
pub async fn publish_directory(
    cluster: &Cluster,
    gateway: &str,
    change: &[&str],
    out: &str,
) -> Result<String> {
    let key = cluster.folder().join("operator.key");
    if !key.exists() {
        let mut options = std::fs::File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&key)?;
        let text = cluster.documents()?.operator_key().to_text();
        std::io::Write::write_all(&mut file, text.as_bytes())?;
    }
    systirctl(cluster, gateway, &[&["directory"], change, &["--out", out]].concat()).await?;
    systirctl(cluster, gateway, &["directory", "sign", out, "--key", "operator.key"]).await?;
    systirctl(cluster, gateway, &["directory", "publish", out]).await
}
