//! Directories: the nodes of an operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::error::DocumentError;
use crate::key::PublicKey;
use crate::lifetime::Lifetime;
use crate::names::{check_country, check_label, check_name, check_spiffe_id, check_trust_domain};
use crate::prefix::IpPrefix;
use crate::roots::check_roots;
use crate::text::{DatesText, TomlText, block, list, quoted, write_head};

/// Most nodes of a directory.
const MAX_NODES: usize = 1024;
/// Most keys of a node: one, or two while one replaces the other.
const MAX_KEYS: usize = 2;
/// Most prefixes of a node.
const MAX_PREFIXES: usize = 16;

/// The nodes of one operator and the roots of its trust domain, signed with the operator's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The operator, such as `nordunet`.
    pub operator: String,
    /// Its SPIFFE trust domain, such as `nordu.net`.
    pub trust_domain: String,
    /// The country from which the operator can be compelled, ISO 3166-1 alpha-2.
    pub controlled_from: String,
    /// Its version, from 1; the highest one is valid.
    pub version: u64,
    /// Its dates.
    pub lifetime: Lifetime,
    /// The roots of the trust domain: PEM, one certificate or more.
    pub roots: String,
    /// The operator's own nodes. They need not run yet.
    pub nodes: Vec<DirectoryNode>,
}

/// One node of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryNode {
    /// Its short name, such as `cph-1`.
    pub id: String,
    /// The SPIFFE id of its certificate, in the directory's trust domain.
    pub spiffe_id: String,
    /// Its node keys: one, or two while one replaces the other.
    pub keys: Vec<PublicKey>,
    /// The addresses at which its links may be dialled; at least one prefix.
    pub prefixes: Vec<IpPrefix>,
    /// Where the machine is, a display label: `Copenhagen`.
    pub site: String,
    /// Region label shown to clients: `dk-copenhagen`.
    pub region: String,
    /// The country in which the machine is, ISO 3166-1 alpha-2.
    pub country: String,
    /// Who owns or houses the machine.
    pub host: String,
    /// The country from which the host can be compelled, ISO 3166-1 alpha-2.
    pub host_controlled_from: String,
}

impl DirectoryNode {
    /// Whether a link to this node may be dialled at the address.
    #[must_use]
    pub fn may_be_dialled_at(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }
}

impl Directory {
    /// The node with this SPIFFE id.
    #[must_use]
    pub fn node_of(&self, spiffe_id: &str) -> Option<&DirectoryNode> {
        self.nodes.iter().find(|node| node.spiffe_id == spiffe_id)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryText {
    operator: Spanned<String>,
    trust_domain: Spanned<String>,
    controlled_from: Spanned<String>,
    version: Spanned<u64>,
    issued: Spanned<Datetime>,
    renew_by: Spanned<Datetime>,
    not_after: Spanned<Datetime>,
    roots: Spanned<String>,
    #[serde(default, rename = "node")]
    nodes: Vec<Spanned<NodeText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    id: Spanned<String>,
    spiffe_id: Spanned<String>,
    keys: Spanned<Vec<Spanned<String>>>,
    prefixes: Spanned<Vec<Spanned<String>>>,
    site: Spanned<String>,
    region: Spanned<String>,
    country: Spanned<String>,
    host: Spanned<String>,
    host_controlled_from: Spanned<String>,
}

/// What may come only once in a directory.
#[derive(Default)]
struct Seen {
    ids: BTreeSet<String>,
    spiffe_ids: BTreeSet<String>,
    keys: BTreeSet<[u8; 32]>,
}

impl Directory {
    pub(crate) fn parse(text: TomlText<'_>) -> Result<Self, DocumentError> {
        let read: DirectoryText = text.read()?;
        let dates = DatesText { issued: read.issued, renew_by: read.renew_by, not_after: read.not_after };
        let trust_domain = text.checked(read.trust_domain, check_trust_domain)?;
        if let Some(first_too_many) = read.nodes.get(MAX_NODES) {
            return Err(text.wrong(first_too_many, format!("there are more than {MAX_NODES} [[node]]")));
        }
        let mut seen = Seen::default();
        let nodes =
            read.nodes.into_iter().map(|node| node.into_inner().check(text, &trust_domain, &mut seen));
        let nodes = nodes.collect::<Result<_, _>>()?;
        Ok(Self {
            operator: text.checked(read.operator, check_name)?,
            controlled_from: text.checked(read.controlled_from, check_country)?,
            version: text.version(&read.version)?,
            lifetime: text.lifetime(&dates)?,
            roots: text.checked(read.roots, check_roots)?,
            trust_domain,
            nodes,
        })
    }

    pub(crate) fn write(&self, out: &mut String) {
        let Self { operator, trust_domain, controlled_from, .. } = self;
        out.push_str(&format!("operator = {}\n", quoted(operator)));
        out.push_str(&format!("trust_domain = {}\n", quoted(trust_domain)));
        out.push_str(&format!("controlled_from = {}\n", quoted(controlled_from)));
        write_head(out, self.version, &self.lifetime);
        out.push_str(&format!("roots = {}\n", block(&self.roots)));
        for node in &self.nodes {
            node.write(out);
        }
    }
}

impl NodeText {
    fn check(
        self,
        text: TomlText<'_>,
        trust_domain: &str,
        seen: &mut Seen,
    ) -> Result<DirectoryNode, DocumentError> {
        let twice = |at: &Spanned<String>, what: &str| {
            Err(text.wrong(at, format!("another node of this directory has the same {what}")))
        };
        if !seen.ids.insert(self.id.get_ref().clone()) {
            return twice(&self.id, "id");
        }
        if !seen.spiffe_ids.insert(self.spiffe_id.get_ref().clone()) {
            return twice(&self.spiffe_id, "spiffe_id");
        }
        if !(1..=MAX_KEYS).contains(&self.keys.get_ref().len()) {
            return Err(text.wrong(&self.keys, "a node has one key, or two while one replaces the other"));
        }
        let mut keys = Vec::new();
        for key in self.keys.into_inner() {
            let parsed: PublicKey =
                key.get_ref().parse().map_err(|error| text.wrong(&key, format!("{error}")))?;
            if !seen.keys.insert(*parsed.as_bytes()) {
                return Err(text.wrong(&key, "this key comes twice: each node key belongs to one node"));
            }
            keys.push(parsed);
        }
        if !(1..=MAX_PREFIXES).contains(&self.prefixes.get_ref().len()) {
            let problem = format!("a node has 1 to {MAX_PREFIXES} prefixes, in which its addresses lie");
            return Err(text.wrong(&self.prefixes, problem));
        }
        let prefixes = self.prefixes.into_inner().into_iter().map(|prefix| {
            prefix.get_ref().parse::<IpPrefix>().map_err(|error| text.wrong(&prefix, error.to_string()))
        });
        Ok(DirectoryNode {
            id: text.checked(self.id, check_name)?,
            spiffe_id: text.checked(self.spiffe_id, |id| check_spiffe_id(id, trust_domain))?,
            keys,
            prefixes: prefixes.collect::<Result<_, _>>()?,
            site: text.checked(self.site, check_label)?,
            region: text.checked(self.region, check_label)?,
            country: text.checked(self.country, check_country)?,
            host: text.checked(self.host, check_label)?,
            host_controlled_from: text.checked(self.host_controlled_from, check_country)?,
        })
    }
}

impl DirectoryNode {
    fn write(&self, out: &mut String) {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let prefixes: Vec<String> = self.prefixes.iter().map(ToString::to_string).collect();
        let lines = [
            ("id", quoted(&self.id)),
            ("spiffe_id", quoted(&self.spiffe_id)),
            ("keys", list(keys.iter().map(String::as_str))),
            ("prefixes", list(prefixes.iter().map(String::as_str))),
            ("site", quoted(&self.site)),
            ("region", quoted(&self.region)),
            ("country", quoted(&self.country)),
            ("host", quoted(&self.host)),
            ("host_controlled_from", quoted(&self.host_controlled_from)),
        ];
        out.push_str("\n[[node]]\n");
        for (key, value) in lines {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}
