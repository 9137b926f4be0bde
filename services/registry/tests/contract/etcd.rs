//! A real etcd with one member, ended with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
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
        // Both are held while they are chosen, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = [0, 1].map(|index: usize| listeners[index].local_addr().expect("an address").port());
        drop(listeners);
        let mut etcd = Self { child: None, folder: tempfile::tempdir().expect("a folder"), ports };
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

impl Drop for Etcd {
    fn drop(&mut self) {
        self.crash();
    }
}
