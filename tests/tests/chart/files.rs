//! What the owners of a cluster give its nodes: signed documents, certificates, keys. The nodes' own keys are created by the
//! chart's init container.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use systir_documents::{DirectoryNode, IpPrefix, PublicKey};
use systir_identity::{TrustDomain, ca};
use systir_policy::demo::signed::SignedDemo;
use tempfile::TempDir;

use crate::helm::{item, items, named, text};
use crate::pod::Pod;

/// Secret of the API key, and the room key.
pub(crate) const API_SECRET: &str = "2c1f0b7d9e3a48655acd1e7f80b93624";
const ROOM_KEYS: [&str; 2] =
    ["AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A="];

/// The owners, their keys, and the folder of all pods.
pub(crate) struct Owners {
    pub(crate) folder: TempDir,
    pub(crate) documents: SignedDemo,
    authority: ca::Pem,
    domain: TrustDomain,
    /// CA, certificate and key for etcd, by node; self-signed when there is no etcd.
    pub(crate) etcd: BTreeMap<String, [String; 3]>,
    /// Certificate and key for clients.
    pub(crate) http: [String; 2],
    nodes: BTreeMap<String, PublicKey>,
}

impl Owners {
    pub(crate) fn new() -> Result<Self> {
        let domain = TrustDomain::new("nordu.net")?;
        let now = SystemTime::now();
        let authority = ca::create(&domain, now)?;
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let like = ["cph-1", "sto-1", "aws-sto-1"];
        let documents = SignedDemo::new(&authority.certificate, &like, Vec::new(), seconds, rand::random)?;
        let web = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let http = [web.cert.pem(), web.signing_key.serialize_pem()];
        let (etcd, nodes, folder) = (BTreeMap::new(), BTreeMap::new(), tempfile::tempdir()?);
        Ok(Self { folder, documents, authority, domain, etcd, http, nodes })
    }

    /// `--set-json` values with the public keys of these owners as pins.
    pub(crate) fn pins(&self) -> [String; 2] {
        let (operator, institution) =
            (self.documents.operator_key().public(), self.documents.institution_key().public());
        [
            format!(r#"operators.nordunet.keys=["{operator}"]"#),
            format!(r#"institutions.ku\.dk.keys=["{institution}"]"#),
        ]
    }

    /// The pod of a node.
    pub(crate) fn pod<'a>(&self, objects: &'a [Value], node: &str) -> Result<Pod<'a>> {
        let (pool, _) = node.rsplit_once('-').context("a node's name is POOL-NUMBER")?;
        let spec = &named(objects, "StatefulSet", pool)?["spec"]["template"]["spec"];
        Ok(Pod::new(node, spec, self.folder.path()))
    }

    /// The first start of a node: its init container creates the node key. Returns what it prints.
    pub(crate) fn create_node_key(&mut self, objects: &[Value], node: &str) -> Result<String> {
        let pod = self.pod(objects, node)?;
        let (pool, _) = node.rsplit_once('-').context("a node's name is POOL-NUMBER")?;
        let spec = &named(objects, "StatefulSet", pool)?["spec"]["template"]["spec"];
        let container = item(&spec["initContainers"], "node-key")?;
        pod.mount(container, |_| Ok(Vec::new()))?;
        let output = pod.command(container)?.output()?;
        ensure!(output.status.success(), "{node}: {}", String::from_utf8_lossy(&output.stderr));
        let file = pod.here(&format!("/var/lib/systir/key/nordu.net-{node}.pub"));
        let key: PublicKey = std::fs::read_to_string(file)?.trim_end().parse()?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(printed.contains(&key.to_string()), "{node} does not print its public key: {printed}");
        self.nodes.insert(node.to_owned(), key);
        Ok(printed)
    }

    /// The signed documents by file name, with a directory of all nodes that have a key.
    pub(crate) fn documents(&self) -> Result<Vec<(String, String)>> {
        let prefixes: Vec<IpPrefix> =
            ["127.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "10.20.0.0/16", "2001:db8::/48"]
                .iter()
                .map(|prefix| prefix.parse())
                .collect::<Result<_, _>>()?;
        let directory = self.documents.directory(1, |directory| {
            let like = directory.nodes.clone();
            directory.nodes = self
                .nodes
                .iter()
                .filter_map(|(id, key)| {
                    let (pool, _) = id.rsplit_once('-')?;
                    let base = like.iter().find(|node| node.id == format!("{pool}-1"))?.clone();
                    let spiffe_id = format!("spiffe://nordu.net/relay/{id}");
                    let (id, keys, prefixes) = (id.clone(), vec![key.clone()], prefixes.clone());
                    Some(DirectoryNode { id, spiffe_id, keys, prefixes, ..base })
                })
                .collect();
        })?;
        let bundle = self.documents.bundle(1, |_| {})?;
        let floor = self.documents.floor(1, |_| {})?;
        let name = |(name, text): (&str, String)| (name.to_owned(), text);
        Ok([("directory.note", directory), ("ku.dk.note", bundle), ("floor.note", floor)].map(name).into())
    }

    /// Writes the files of a node's pod, as the API server and the drivers of volumes would give them.
    pub(crate) fn mount(&self, objects: &[Value], pod: &Pod<'_>, container: &Value) -> Result<()> {
        pod.mount(container, |volume| self.content(objects, pod, volume))
    }

    fn content(&self, objects: &[Value], pod: &Pod<'_>, volume: &Value) -> Result<Vec<(String, String)>> {
        let node = pod.name.as_str();
        let named_pair = |name: &str, [certificate, key]: [String; 2]| {
            vec![(format!("{name}.pem"), certificate), (format!("{name}.key"), key)]
        };
        let kind =
            volume.as_object().context("no volume")?.keys().find(|key| *key != "name").context("no kind")?;
        match (text(volume, "/name")?, kind.as_str()) {
            ("config", "configMap") => {
                let data = &named(objects, "ConfigMap", text(volume, "/configMap/name")?)?["data"];
                let files = data.as_object().context("no data")?.iter();
                files
                    .map(|(name, text)| Ok((name.clone(), pod.here(text.as_str().context("no text")?))))
                    .collect()
            }
            ("documents", "configMap") => match named(objects, "ConfigMap", text(volume, "/configMap/name")?)
            {
                Ok(rendered) => {
                    let data = rendered["data"].as_object().context("no data")?.iter();
                    data.map(|(name, note)| Ok((name.clone(), note.as_str().context("no text")?.to_owned())))
                        .collect()
                }
                // The operator's own ConfigMap.
                Err(_) => self.documents(),
            },
            ("etcd-ca", "configMap") => Ok(vec![("ca.pem".to_owned(), self.etcd(node)?[0].clone())]),
            ("http", "secret") => {
                let [certificate, key] = self.http.clone();
                Ok(vec![("tls.crt".to_owned(), certificate), ("tls.key".to_owned(), key)])
            }
            ("links", "secret") => Ok(named_pair(node, self.link_certificate(node)?)),
            // spiffe-helper writes them.
            ("links", "emptyDir") => Ok(named_pair("node", self.link_certificate(node)?)),
            ("links", "csi") => {
                let asked = text(volume, "/csi/volumeAttributes/csi.cert-manager.io~1uri-sans")?;
                let asked = asked.replace("${POD_NAME}", node);
                ensure!(asked == format!("spiffe://nordu.net/relay/{node}"), "{asked}");
                Ok(named_pair("node", self.link_certificate(node)?))
            }
            ("etcd", kind) => {
                let [_, certificate, key] = self.etcd(node)?;
                if kind == "csi" {
                    let user = text(volume, "/csi/volumeAttributes/csi.cert-manager.io~1common-name")?;
                    ensure!(user == "${POD_NAME}", "{user}");
                }
                Ok(named_pair(if kind == "csi" { "node" } else { node }, [certificate, key]))
            }
            ("keys", "projected") => {
                let mut room_keys = ROOM_KEYS.iter();
                let items = items(&volume["projected"]["sources"])
                    .flat_map(|source| items(&source["secret"]["items"]));
                items
                    .map(|item| {
                        let path = text(item, "/path")?.to_owned();
                        let value = if path.ends_with(".room-key") {
                            (*room_keys.next().context("no further room key")?).to_owned()
                        } else {
                            API_SECRET.to_owned()
                        };
                        Ok((path, value))
                    })
                    .collect()
            }
            (name, kind) => bail!("nobody fills the volume {name} ({kind})"),
        }
    }

    fn link_certificate(&self, node: &str) -> Result<[String; 2]> {
        let (id, now) = (self.domain.relay(node)?, SystemTime::now());
        let issued = ca::issue(&self.authority, &id, now, Duration::from_secs(3600))?;
        Ok([issued.certificate, issued.key])
    }

    fn etcd(&self, node: &str) -> Result<[String; 3]> {
        if let Some(files) = self.etcd.get(node) {
            return Ok(files.clone());
        }
        let made = rcgen::generate_simple_self_signed([node.to_owned()])?;
        Ok([made.cert.pem(), made.cert.pem(), made.signing_key.serialize_pem()])
    }
}

/// The names of all slots of the pools.
pub(crate) fn slots(objects: &[Value]) -> Vec<String> {
    let configs = objects.iter().filter(|object| {
        object["kind"] == "ConfigMap"
            && object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-config"))
    });
    let files = configs.filter_map(|config| config["data"].as_object()).flat_map(|data| data.keys());
    files.filter_map(|file| file.strip_suffix(".toml")).map(str::to_owned).collect()
}

/// A file of a pod, for messages.
pub(crate) fn shown(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
