//! A real etcd as `deploy/etcd/README.md` sets it up: TLS, client certificates, a user for each node. A client's user
//! name is the common name of its certificate.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::process::{ChildProcess, eventually, log_file, memory_folder, output};

/// Limit of one etcdctl command, or one script of them.
const LIMIT: Duration = Duration::from_secs(60);

/// The process, its CA and its data.
pub struct SecureEtcd {
    _child: ChildProcess,
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    url: String,
}

impl std::fmt::Debug for SecureEtcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecureEtcd").field("url", &self.url).finish_non_exhaustive()
    }
}

impl SecureEtcd {
    /// Starts etcd at an address, on `port` (clients) and `port + 1` (peers). It has no users yet.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub async fn start(host: &str, port: u16) -> Result<Self> {
        let folder = memory_folder()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let (url, peer) = (format!("https://{host}:{port}"), format!("http://{host}:{}", port + 1));
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), authority.pem())?;
        // A server's certificate with a common name would be a user.
        issue(&authority, host, None, folder.path(), "server")?;
        let child = ChildProcess::start(
            Command::new("etcd")
                .args(["--name", "one", "--data-dir"])
                .arg(path("data"))
                .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("one={peer}")])
                .arg("--cert-file")
                .arg(path("server.pem"))
                .arg("--key-file")
                .arg(path("server.key"))
                .arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(path("ca.pem"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log_file("etcd")?),
            "apt-get install etcd-server",
        )?;
        issue(&authority, host, Some("root"), folder.path(), "root")?;
        let etcd = Self { _child: child, authority, folder, url };
        eventually("etcd's answer", Duration::from_secs(45), || async {
            etcd.etcdctl("root", &["endpoint", "health"]).await.ok()
        })
        .await?;
        Ok(etcd)
    }

    /// Its URL for clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes `ca.pem`, and the certificate and the key of a user, as `etcd-FILE.pem` and `etcd-FILE.key`. Each file is
    /// replaced by renaming.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_client(&self, user: &str, folder: &Path, file: &str) -> Result<()> {
        std::fs::write(folder.join("etcd-ca.pem"), self.authority.pem())?;
        issue(&self.authority, "localhost", Some(user), folder, &format!("etcd-{file}"))
    }

    /// Makes the user `root` and switches authentication on, as the README says.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub async fn enable_auth(&self) -> Result<()> {
        let commands: [&[&str]; 4] = [
            &["user", "add", "root", "--no-password"],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["auth", "enable"],
        ];
        for command in commands {
            self.etcdctl("root", command).await?;
        }
        Ok(())
    }

    /// Runs a shell script as the user root.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run_script(&self, script: &str) -> Result<()> {
        let file = self.folder.path().join("script.sh");
        std::fs::write(&file, script)?;
        let mut command = Command::new("sh");
        command.arg(file);
        self.run(command, "root").await.map(drop)
    }

    /// Runs etcdctl with the certificate of a user: its standard output.
    ///
    /// # Errors
    /// With its standard error, when it fails.
    pub async fn etcdctl(&self, user: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command.args(arguments);
        self.run(command, user).await
    }

    async fn run(&self, mut command: Command, user: &str) -> Result<String> {
        let path = |name: &str| self.folder.path().join(name);
        if !path(&format!("{user}.pem")).exists() {
            issue(&self.authority, "localhost", Some(user), self.folder.path(), user)?;
        }
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", &self.url)
            .env("ETCDCTL_CACERT", path("ca.pem"))
            .env("ETCDCTL_CERT", path(&format!("{user}.pem")))
            .env("ETCDCTL_KEY", path(&format!("{user}.key")));
        let output = output(command, LIMIT).await.context("apt-get install etcd-client")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Issues `FILE.pem` and `FILE.key`.
fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    host: &str,
    user: Option<&str>,
    folder: &Path,
    file: &str,
) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.distinguished_name.remove(DnType::CommonName);
    if let Some(user) = user {
        params.distinguished_name.push(DnType::CommonName, user);
    }
    let certificate = params.signed_by(&key, authority)?.pem();
    for (extension, text) in [("pem", certificate), ("key", key.serialize_pem())] {
        let (path, new): (PathBuf, PathBuf) =
            (folder.join(format!("{file}.{extension}")), folder.join(format!("{file}.{extension}-new")));
        std::fs::write(&new, text)?;
        std::fs::rename(new, path)?;
    }
    Ok(())
}
