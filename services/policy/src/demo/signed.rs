//! The demo's documents, signed with keys that are made anew. Tests use them too.

use std::collections::BTreeMap;

use systir_documents::{
    Bundle, Directory, Document, DocumentError, Floor, IpPrefix, KeyError, Lifetime, Note, NoteError,
    SigningKey,
};

use crate::problem::LoadError;
use crate::signing::{self, SigningError};

/// How long the documents are valid, seconds: 30 days, of which the last week is for their renewal.
const RENEW_BY: u64 = 23 * 24 * 3600;
const NOT_AFTER: u64 = 30 * 24 * 3600;

/// Why a document of the demo cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file of the demo is malformed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A key's name is malformed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The document, after a change, is not one that a node would read.
    #[error("a node would not read it: {0}")]
    Document(#[from] DocumentError),
    /// Its text cannot be a note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A node would refuse the document.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The keys of the demo's institution, operator and nodes, and what they sign.
#[derive(Debug)]
pub struct SignedDemo {
    institution: SigningKey,
    operator: SigningKey,
    nodes: BTreeMap<String, SigningKey>,
    roots: String,
    prefixes: Vec<IpPrefix>,
    issued: u64,
}

impl SignedDemo {
    /// New keys for these nodes. `roots` are the roots of `nordu.net` (PEM), `prefixes` the addresses at which links
    /// may be dialled, `now` seconds since 1970, `seed` random bytes for a key.
    ///
    /// # Errors
    /// When a node's name cannot be part of a key's name.
    pub fn new(
        roots: &str,
        nodes: &[&str],
        prefixes: Vec<IpPrefix>,
        now: u64,
        mut seed: impl FnMut() -> [u8; 32],
    ) -> Result<Self, DemoError> {
        let mut key = |name: &str| SigningKey::from_seed(name, seed());
        let (institution, operator) = (key("ku.dk/demo")?, key("nordu.net/demo")?);
        let nodes = nodes.iter().map(|node| Ok(((*node).to_owned(), key(&format!("nordu.net/{node}"))?)));
        let nodes = nodes.collect::<Result<_, KeyError>>()?;
        Ok(Self { institution, operator, nodes, roots: roots.to_owned(), prefixes, issued: now })
    }

    /// The same nodes, with new keys of the institution and of the operator, as after a replacement of keys.
    ///
    /// # Errors
    /// When a key cannot be copied.
    pub fn with_new_owner_keys(&self, mut seed: impl FnMut() -> [u8; 32]) -> Result<Self, DemoError> {
        let copy = |(node, key): (&String, &SigningKey)| Ok((node.clone(), key.to_text().parse()?));
        Ok(Self {
            institution: SigningKey::from_seed("ku.dk/demo-2", seed())?,
            operator: SigningKey::from_seed("nordu.net/demo-2", seed())?,
            nodes: self.nodes.iter().map(copy).collect::<Result<_, KeyError>>()?,
            roots: self.roots.clone(),
            prefixes: self.prefixes.clone(),
            issued: self.issued,
        })
    }

    fn lifetime(&self) -> Lifetime {
        let issued = self.issued;
        Lifetime { issued, renew_by: issued + RENEW_BY, not_after: issued + NOT_AFTER }
    }

    /// A version of the bundle of `ku.dk`, changed and then signed by the institution.
    ///
    /// # Errors
    /// When the changed bundle cannot be signed.
    pub fn bundle(&self, version: u64, change: impl FnOnce(&mut Bundle)) -> Result<String, DemoError> {
        let mut bundle = Bundle { version, ..super::bundle(self.lifetime())? };
        change(&mut bundle);
        sign_unchecked(&Document::Bundle(bundle), &self.institution)
    }

    /// A version of the floor of `nordunet`, changed and then signed by the operator.
    ///
    /// # Errors
    /// When the changed floor cannot be signed.
    pub fn floor(&self, version: u64, change: impl FnOnce(&mut Floor)) -> Result<String, DemoError> {
        let mut floor = Floor { version, ..super::floor(self.lifetime()) };
        change(&mut floor);
        sign_unchecked(&Document::Floor(floor), &self.operator)
    }

    /// A version of the directory of `nordunet`, changed and then signed by the operator.
    ///
    /// # Errors
    /// When the changed directory cannot be signed.
    pub fn directory(&self, version: u64, change: impl FnOnce(&mut Directory)) -> Result<String, DemoError> {
        let mut directory = self.first_directory()?;
        directory.version = version;
        change(&mut directory);
        sign_unchecked(&Document::Directory(directory), &self.operator)
    }

    fn first_directory(&self) -> Result<Directory, DemoError> {
        let node = |id: &str| {
            let keys = self.nodes.get(id).map(SigningKey::public);
            (keys.into_iter().collect(), self.prefixes.clone())
        };
        let mut directory = super::directory(self.lifetime(), &self.roots, node)?;
        // A cluster of fewer nodes lists only those.
        directory.nodes.retain(|node| self.nodes.contains_key(&node.id));
        Ok(directory)
    }

    /// The key of the institution.
    #[must_use]
    pub fn institution_key(&self) -> &SigningKey {
        &self.institution
    }

    /// The key of the operator.
    #[must_use]
    pub fn operator_key(&self) -> &SigningKey {
        &self.operator
    }

    /// A node's key.
    #[must_use]
    pub fn node_key(&self, node: &str) -> Option<&SigningKey> {
        self.nodes.get(node)
    }

    /// Paths and texts of the files that nodes start with: `documents/*.note` in version 1, and `NODE.node-key`. The
    /// documents are checked and signed as `systirctl` does it.
    ///
    /// # Errors
    /// When a document cannot be signed.
    pub fn files(&self) -> Result<Vec<(String, String)>, DemoError> {
        let documents = [
            ("ku.dk", Document::Bundle(super::bundle(self.lifetime())?), &self.institution),
            ("floor", Document::Floor(super::floor(self.lifetime())), &self.operator),
            ("directory", Document::Directory(self.first_directory()?), &self.operator),
        ];
        let mut files = Vec::new();
        for (name, document, key) in documents {
            let note = signing::sign(&document.to_text(), key, self.issued)?;
            files.push((format!("documents/{name}.note"), note.to_string()));
        }
        let keys =
            self.nodes.iter().map(|(node, key)| (format!("{node}.node-key"), key.to_text().to_string()));
        files.extend(keys);
        Ok(files)
    }
}

/// Also what a node refuses, for tests.
fn sign_unchecked(document: &Document, key: &SigningKey) -> Result<String, DemoError> {
    let text = document.to_text();
    Document::parse(&text)?;
    Ok(Note::sign(&text, key)?.to_string())
}
