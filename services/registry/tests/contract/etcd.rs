//! A real etcd with one member, stopped at the end of the test.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::Client;
use tempfile::TempDir;

pub(crate) struct Etcd {
    child: Option<Child>,
    folder: TempDir,
    /// Name of the data folder, counted up by each restore.
    data: u32,
    ports: [u16; 2],
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let mut etcd = Self { child: None, folder: folder(), data: 0, ports: ports() };
        etcd.resume().await;
        etcd
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[1])
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.path().join(self.data.to_string())
    }

    /// A backup, as an operator makes one.
    pub(crate) fn backup(&self) -> PathBuf {
        let file = self.folder.path().join("backup");
        self.etcdctl(&["--endpoints", &self.url(), "snapshot", "save"], &file, &[]);
        file
    }

    /// Restores a backup and starts again. With another `token` the restored etcd has another cluster id,
    /// else the same one as before.
    pub(crate) async fn restore(&mut self, backup: &Path, token: Option<&str>) {
        self.crash();
        self.data += 1;
        let (data, peer) = (self.data_folder(), self.peer());
        let data = data.to_str().expect("a path in UTF-8");
        let member = format!("one={peer}");
        let token = token.unwrap_or("etcd-cluster");
        let options = ["--name", "one", "--initial-cluster", &member, "--initial-advertise-peer-urls", &peer];
        let options = [&options[..], &["--initial-cluster-token", token, "--data-dir", data]].concat();
        self.etcdctl(&["snapshot", "restore"], backup, &options);
        self.resume().await;
    }

    fn etcdctl(&self, command: &[&str], file: &Path, options: &[&str]) {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(command).arg(file).args(options).stdin(Stdio::null());
        let output = etcdctl.output().expect("etcdctl is not installed: apt-get install etcd-client");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) async fn resume(&mut self) {
        let (url, peer) = (self.url(), self.peer());
        let child = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(self.data_folder())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is not installed: apt-get install etcd-server");
        self.child = Some(child);
        let mut client = self.client().await;
        for _ in 0..200 {
            let asked = tokio::time::timeout(Duration::from_secs(1), client.get("ready", None)).await;
            if matches!(asked, Ok(Ok(_))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            client = self.client().await;
        }
        panic!("etcd did not answer");
    }

    pub(crate) async fn client(&self) -> Client {
        for _ in 0..200 {
            if let Ok(client) = Client::connect([self.url()], None).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd does not listen");
    }
}

/// In memory if the machine has `/dev/shm`: etcd waits for the disk at each write.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Two free ports for one etcd. Tests run in parallel, so each port is given out only once.
pub(crate) fn ports() -> [u16; 2] {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no test panics while it holds the lock");
    [(); 2].map(|()| {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            if given.insert(port) {
                return port;
            }
        }
    })
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.crash();
    }
}
