//! A real etcd as `deploy/etcd/README.md` sets it up: TLS, client certificates, a user for each node. A client's user
//! name is the common name of its certificate.

use std::path::Path;
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
    child: Option<ChildProcess>,
    /// Issues certificates.
    authority: CertifiedIssuer<'static, KeyPair>,
    /// Issues them from [`SecureEtcd::issue_from_new_authority`] on.
    new_authority: Option<CertifiedIssuer<'static, KeyPair>>,
    /// The roots that etcd trusts, PEM.
    roots: String,
    folder: TempDir,
    host: String,
    port: u16,
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
        let authority = create_authority()?;
        let mut etcd = Self {
            child: None,
            new_authority: None,
            roots: authority.pem(),
            authority,
            folder: memory_folder()?,
            host: host.to_owned(),
            port,
            url: format!("https://{host}:{port}"),
        };
        etcd.issue_own()?;
        etcd.restart().await?;
        Ok(etcd)
    }

    /// Starts it, again if it runs, with its data. It reads the roots at its start only.
    async fn restart(&mut self) -> Result<()> {
        self.child = None;
        let path = |name: &str| self.folder.path().join(name);
        std::fs::write(path("ca.pem"), &self.roots)?;
        let peer = format!("http://{}:{}", self.host, self.port + 1);
        let child = ChildProcess::start(
            Command::new("etcd")
                .args(["--name", "one", "--data-dir"])
                .arg(path("data"))
                .args(["--listen-client-urls", &self.url, "--advertise-client-urls", &self.url])
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
        self.child = Some(child);
        eventually("etcd's answer", Duration::from_secs(45), || async {
            self.etcdctl("root", &["endpoint", "health"]).await.ok()
        })
        .await?;
        Ok(())
    }

    /// Issues the certificates of etcd and of the user root.
    fn issue_own(&self) -> Result<()> {
        // A server's certificate with a common name would be a user.
        issue(&self.authority, &self.host, None, self.folder.path(), "server")?;
        issue(&self.authority, &self.host, Some("root"), self.folder.path(), "root")
    }

    /// Trusts a new CA beside the present one: etcd is restarted.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn add_authority(&mut self) -> Result<()> {
        let new = create_authority()?;
        self.roots += &new.pem();
        self.new_authority = Some(new);
        self.restart().await
    }

    /// Issues certificates from the new CA from now on, first etcd's own, which it reads again by itself.
    ///
    /// # Errors
    /// When there is no new CA, or a certificate cannot be written.
    pub fn issue_from_new_authority(&mut self) -> Result<()> {
        self.authority = self.new_authority.take().context("there is no new CA")?;
        self.issue_own()
    }

    /// Trusts only the CA that issues: etcd is restarted.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn remove_old_authority(&mut self) -> Result<()> {
        self.roots = self.authority.pem();
        self.restart().await
    }

    /// The roots that it trusts (PEM), and that its clients should trust.
    #[must_use]
    pub fn roots(&self) -> String {
        self.roots.clone()
    }

    /// Its URL for clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes `etcd-ca.pem`, and the certificate and the key of a user, as `etcd-FILE.pem` and `etcd-FILE.key`. Each file
    /// is replaced by renaming.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_client(&self, user: &str, folder: &Path, file: &str) -> Result<()> {
        replace(&folder.join("etcd-ca.pem"), &self.roots)?;
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

fn create_authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn replace(file: &Path, text: &str) -> Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push("-new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, file)?)
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
        replace(&folder.join(format!("{file}.{extension}")), &text)?;
    }
    Ok(())
}
