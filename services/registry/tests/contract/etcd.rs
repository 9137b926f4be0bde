//! A real etcd with one member, stopped at the end of the test.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::Client;
use tempfile::TempDir;

pub(crate) struct Etcd {
    child: Option<Child>,
    folder: TempDir,
    ports: [u16; 2],
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        let mut etcd = Self { child: None, folder: folder(), ports: ports() };
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

    pub(crate) async fn resume(&mut self) {
        let (url, peer) = (self.url(), format!("http://127.0.0.1:{}", self.ports[1]));
        let child = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(self.folder.path())
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
