//! A real etcd set up as for production: TLS, client certificates, and a role for each node. A client's
//! user name is the common name of its certificate.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, Permission, PutOptions, TlsOptions, Txn,
    TxnOp, UserAddOptions, WatchOptions,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use systir_assignment::StoreKeys;
use systir_registry::{EtcdConfig, EtcdCredentials, EtcdRegistry, Registry as _};
use tempfile::TempDir;

use crate::etcd::{folder, ports};
use crate::{Node, institutions};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate and its key (PEM). etcd's own certificate must have no common name.
fn issue(authority: &Authority, common_name: Option<&str>) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params =
        CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("two names");
    params.distinguished_name.remove(DnType::CommonName);
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

pub(crate) struct SecureEtcd {
    child: Child,
    authority: Authority,
    port: u16,
    _folder: TempDir,
}

impl SecureEtcd {
    /// With users `root`, `a`, `b` and `c`, and roles as `systirctl etcd roles` makes them: `ku.dk` approves `a` and
    /// `b`, `au.dk` approves `c`.
    pub(crate) async fn start() -> Self {
        let [port, peer] = ports();
        let (authority, folder) = (authority(), folder());
        let (certificate, key) = issue(&authority, None);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        write("ca.pem", &authority.pem());
        write("server.pem", &certificate);
        write("server.key", &key);
        let child = spawn(folder.path(), port, peer);
        let etcd = Self { child, authority, port, _folder: folder };
        etcd.give_roles().await;
        etcd
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Credentials of a user, with a certificate of their own.
    pub(crate) fn credentials(&self, user: &str) -> EtcdCredentials {
        let identity = Some(issue(&self.authority, Some(user)));
        EtcdCredentials { ca: Some(self.authority.pem()), identity }
    }

    /// Credentials of a user that another CA signed.
    pub(crate) fn credentials_of_another_ca(&self, user: &str) -> EtcdCredentials {
        EtcdCredentials { identity: Some(issue(&authority(), Some(user))), ..self.credentials(user) }
    }

    /// The configuration of a node; `user` is the common name of its certificate.
    pub(crate) fn config(&self, user: &str) -> EtcdConfig {
        EtcdConfig {
            endpoints: vec![self.url()],
            cluster: "test".to_owned(),
            credentials: self.credentials(user),
            lease: Duration::from_secs(2),
            ..EtcdConfig::default()
        }
    }

    /// A node that follows `ku.dk`.
    pub(crate) fn node(&self, user: &str) -> Node {
        self.node_with(self.credentials(user))
    }

    /// A node whose certificate is signed by another CA.
    pub(crate) fn node_of_another_ca(&self, user: &str) -> Node {
        self.node_with(self.credentials_of_another_ca(user))
    }

    /// A node without a client certificate.
    pub(crate) fn node_without_certificate(&self) -> Node {
        self.node_with(EtcdCredentials { identity: None, ..self.credentials("a") })
    }

    fn node_with(&self, credentials: EtcdCredentials) -> Node {
        let node = EtcdRegistry::start(EtcdConfig { credentials, ..self.config("a") });
        node.follow(institutions(&["ku.dk"]));
        Arc::new(node)
    }

    /// A plain etcd client of `user`, without the registry.
    pub(crate) async fn client(&self, user: &str) -> Client {
        let (certificate, key) = issue(&self.authority, Some(user));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .identity(Identity::from_pem(certificate, key));
        for _ in 0..200 {
            let options = ConnectOptions::new().with_tls(tls.clone());
            if let Ok(mut client) = Client::connect([self.url()], Some(options)).await {
                let asked = tokio::time::timeout(Duration::from_secs(1), client.status()).await;
                if matches!(asked, Ok(Ok(_))) {
                    return client;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd does not answer over TLS");
    }

    async fn give_roles(&self) {
        let mut root = self.client("root").await;
        let no_password = || Some(UserAddOptions::new().with_no_pwd());
        root.user_add("root", "", no_password()).await.expect("user root");
        root.role_add("root").await.expect("role root");
        root.user_grant_role("root", "root").await.expect("root is root");
        let keys = StoreKeys::new("test");
        for (node, institution) in [("a", "ku.dk"), ("b", "ku.dk"), ("c", "au.dk")] {
            root.role_add(node).await.expect("a role");
            for permission in [
                Permission::read(keys.nodes()).with_prefix(),
                Permission::read_write(keys.node(node)),
                Permission::read_write(keys.rooms(institution)).with_prefix(),
            ] {
                root.role_grant_permission(node, permission).await.expect("a permission");
            }
            root.user_add(node, "", no_password()).await.expect("a user");
            root.user_grant_role(node, node).await.expect("a role for the user");
        }
        root.auth_enable().await.expect("authentication enabled");
    }
}

impl Drop for SecureEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: u16, peer: u16) -> Child {
    let (url, peer) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    Command::new("etcd")
        .args(["--name", "one", "--data-dir"])
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .arg("--cert-file")
        .arg(folder.join("server.pem"))
        .arg("--key-file")
        .arg(folder.join("server.key"))
        .arg("--client-cert-auth")
        .arg("--trusted-ca-file")
        .arg(folder.join("ca.pem"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is not installed: apt-get install etcd-server")
}

fn denied<T: std::fmt::Debug>(answer: Result<T, etcd_client::Error>) -> bool {
    match answer {
        Err(etcd_client::Error::GRpcStatus(status)) => status.message().contains("permission denied"),
        other => panic!("{other:?}"),
    }
}

/// A hostile node can do no more with its certificate than its role allows.
pub(crate) async fn a_node_can_write_no_other_nodes_lease(etcd: &SecureEtcd) {
    let mut a = etcd.client("a").await;
    let mut b = etcd.client("b").await;
    let lease = a.lease_grant(30, None).await.expect("a lease").id();
    let own = PutOptions::new().with_lease(lease);
    a.put("/systir/v1/test/nodes/a", "{}", Some(own.clone())).await.expect("its own key");

    assert!(denied(b.put("/systir/v1/test/nodes/a", "{}", None).await), "b writes a's lease record");
    assert!(denied(b.delete("/systir/v1/test/nodes/a", None).await), "b deletes a's lease record");
    assert!(
        denied(b.put("/systir/v1/test/nodes/c", "{}", None).await),
        "b writes a lease for a node that does not exist"
    );
    assert!(denied(b.lease_revoke(lease).await), "b revokes a's lease");
    let room = format!("{}x", StoreKeys::new("test").rooms("ku.dk"));
    assert!(
        denied(b.put(room.clone(), "{}", Some(own)).await),
        "b attaches a room to a's lease, to delete it with the lease"
    );
    assert!(denied(b.put("/systir/v1/other/rooms/x", "{}", None).await), "b writes to another cluster");
    assert!(denied(b.get("/systir/v1/other/rooms/x", None).await), "b reads another cluster");
    assert!(denied(b.role_add("d").await), "b adds a role");
    b.put("/systir/v1/test/nodes/b", "{}", None).await.expect("its own key");
    b.put(room.clone(), "{}", None).await.expect("a room of an institution that approves it");
    b.get("/systir/v1/test/nodes/a", None).await.expect("b reads its own cluster");
    for key in ["/systir/v1/test/nodes/a", "/systir/v1/test/nodes/b", &room] {
        let mut root = etcd.client("root").await;
        root.delete(key, None).await.expect("root cleans up");
    }
}

/// A hostile node that an institution does not approve learns nothing about its rooms and changes none.
pub(crate) async fn a_node_can_use_no_rooms_of_an_institution_that_does_not_approve_it(etcd: &SecureEtcd) {
    let keys = StoreKeys::new("test");
    let (theirs, own) = (keys.rooms("ku.dk"), keys.rooms("au.dk"));
    let room = format!("{theirs}x");
    let mut c = etcd.client("c").await;
    let prefix = || Some(GetOptions::new().with_prefix());
    assert!(denied(c.get(room.clone(), None).await), "c reads a room");
    assert!(denied(c.get(theirs.clone(), prefix()).await), "c lists the rooms of an institution");
    let count = GetOptions::new().with_prefix().with_count_only();
    assert!(denied(c.get(theirs.clone(), Some(count)).await), "c counts them");
    assert!(denied(c.get("/systir/v1/test/rooms/", prefix()).await), "c lists all rooms");
    assert!(denied(c.get(keys.all(), prefix()).await), "c reads the whole cluster");
    assert!(denied(c.put(room.clone(), "{}", None).await), "c writes a room");
    assert!(denied(c.delete(room.clone(), None).await), "c deletes a room");
    let both =
        Txn::new().and_then([TxnOp::put(format!("{own}x"), "{}", None), TxnOp::get(room.clone(), None)]);
    assert!(denied(c.txn(both).await), "c reads a room in a transaction that writes one of its own");
    let mut watch = c.watch(theirs, Some(WatchOptions::new().with_prefix())).await.expect("a stream");
    let answer = watch.message().await.expect("an answer").expect("an answer");
    assert!(
        answer.canceled() && answer.cancel_reason().contains("permission denied"),
        "c watches: {answer:?}"
    );
    c.put(format!("{own}x"), "{}", None).await.expect("a room of its own institution");
    c.delete(format!("{own}x"), None).await.expect("a room of its own institution");
}
