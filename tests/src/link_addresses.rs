//! Nodes of a [`Cluster`] that differ in more than their ports: in the addresses of their links, and in their etcd.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::cluster::{Cluster, NODES};

impl Cluster {
    /// Gives the links of each node an address of their own on loopback, which the directory lists for no other node.
    /// They must not run yet.
    ///
    /// # Errors
    /// When a configuration or the directory cannot be written.
    pub fn separate_links(&self) -> Result<()> {
        for node in NODES {
            let file = self.folder().join(format!("{node}.toml"));
            let mut text = std::fs::read_to_string(&file)?;
            for (field, offset) in [("quic", 0), ("grpc", 1)] {
                let port = self.port(node, offset);
                let line = |address: Ipv4Addr| format!("{field} = \"{address}:{port}\"");
                text = text.replace(&line(Ipv4Addr::LOCALHOST), &line(Self::link_address(node)));
            }
            std::fs::write(file, text)?;
        }
        let prefix = |node| format!("{}/32", Self::link_address(node)).parse();
        let prefixes = NODES.map(prefix).into_iter().collect::<Result<Vec<_>, _>>()?;
        let directory = self.documents()?.directory(1, |directory| {
            for (node, prefix) in directory.nodes.iter_mut().filter_map(|node| {
                let prefix = prefixes.get(usize::from(Self::index(&node.id)))?;
                Some((node, *prefix))
            }) {
                node.prefixes = vec![prefix];
            }
        })?;
        self.publish("directory.note", &directory)
    }

    /// The address of a node's links after [`Cluster::separate_links`].
    #[must_use]
    pub fn link_address(node: &str) -> Ipv4Addr {
        let [a, b, _, last] = Ipv4Addr::LOCALHOST.octets();
        Ipv4Addr::new(a, b, 1, last + Self::index(node) as u8)
    }

    /// Sets the etcd of one node. It must not run yet.
    ///
    /// # Errors
    /// When its configuration cannot be changed.
    pub fn set_etcd(&self, node: &str, url: &str) -> Result<()> {
        let file = self.folder().join(format!("{node}.toml"));
        let text = std::fs::read_to_string(&file)?;
        let line = text.lines().find(|line| line.trim_start().starts_with("etcd = ")).context("no etcd")?;
        Ok(std::fs::write(&file, text.replace(line, &format!("etcd = [\"{url}\"]")))?)
    }
}
