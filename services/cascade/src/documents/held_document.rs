//! Which documents a node holds, and how that is written in messages.

use systir_documents::{DocumentHash, DocumentId, DocumentKind};
use systir_proto::cluster::v1 as wire;
use tracing::warn;

/// Documents in a message, at most.
const MAX_DOCUMENTS: usize = 256;
/// Bytes of an owner's name, at most. All documents of a message then fit into the limit of a call.
const MAX_OWNER: usize = 200;

/// A version of a signed document that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeldDocument {
    /// Which document it is.
    pub id: DocumentId,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text without signatures.
    pub hash: DocumentHash,
}

/// The message about this node's documents.
pub(crate) fn encode(held: &[HeldDocument]) -> wire::DocumentList {
    let fitting = held.iter().filter(|document| document.id.owner.len() <= MAX_OWNER);
    let documents: Vec<_> = fitting
        .take(MAX_DOCUMENTS)
        .map(|HeldDocument { id, version, hash }| wire::DocumentVersion {
            kind: wire_kind(id.kind).into(),
            owner: id.owner.clone(),
            version: *version,
            hash: hash.as_bytes().to_vec().into(),
        })
        .collect();
    if documents.len() < held.len() {
        warn!(held = held.len(), sent = documents.len(), "other nodes are not told of all documents");
    }
    wire::DocumentList { documents }
}

/// Reads a peer's message. Documents of an unknown kind are skipped.
///
/// # Errors
/// What is wrong with the message.
pub(crate) fn decode(list: wire::DocumentList) -> Result<Vec<HeldDocument>, &'static str> {
    if list.documents.len() > MAX_DOCUMENTS {
        return Err("a list of more than 256 documents");
    }
    let mut held = Vec::new();
    for wire::DocumentVersion { kind, owner, version, hash } in list.documents {
        let Some(id) = id_of(kind, owner)? else { continue };
        let hash = hash.as_ref().try_into().map_err(|_| "a document's hash that has not 32 bytes")?;
        held.push(HeldDocument { id, version, hash: DocumentHash::from_bytes(hash) });
    }
    Ok(held)
}

/// Reads the id of a document. None for an unknown kind.
pub(crate) fn id_of(kind: i32, owner: String) -> Result<Option<DocumentId>, &'static str> {
    if owner.is_empty() || owner.len() > MAX_OWNER {
        return Err("a document's owner that has not 1 to 200 bytes");
    }
    let kind = match wire::DocumentKind::try_from(kind) {
        Ok(wire::DocumentKind::Bundle) => DocumentKind::Bundle,
        Ok(wire::DocumentKind::Floor) => DocumentKind::Floor,
        Ok(wire::DocumentKind::Directory) => DocumentKind::Directory,
        Ok(wire::DocumentKind::Unspecified) | Err(_) => return Ok(None),
    };
    Ok(Some(DocumentId { kind, owner }))
}

pub(crate) fn wire_kind(kind: DocumentKind) -> wire::DocumentKind {
    match kind {
        DocumentKind::Bundle => wire::DocumentKind::Bundle,
        DocumentKind::Floor => wire::DocumentKind::Floor,
        DocumentKind::Directory => wire::DocumentKind::Directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::client::MAX_MESSAGE;
    use prost::Message as _;

    fn held(kind: DocumentKind, owner: &str) -> HeldDocument {
        let id = DocumentId { kind, owner: owner.to_owned() };
        HeldDocument { id, version: u64::MAX, hash: DocumentHash::from_bytes([7; 32]) }
    }

    #[test]
    fn a_list_survives_encoding() {
        let documents: Vec<_> = DocumentKind::ALL.into_iter().map(|kind| held(kind, "ku.dk")).collect();
        assert_eq!(decode(encode(&documents)), Ok(documents));
        assert_eq!(decode(wire::DocumentList::default()), Ok(Vec::new()));
    }

    #[test]
    fn the_longest_list_fits_into_a_call() {
        let owner = "x".repeat(MAX_OWNER);
        let documents = vec![held(DocumentKind::Bundle, &owner); 2 * MAX_DOCUMENTS];
        let list = encode(&documents);
        assert_eq!(list.documents.len(), MAX_DOCUMENTS);
        assert!(list.encoded_len() < MAX_MESSAGE, "{} bytes", list.encoded_len());
    }

    #[test]
    fn a_malformed_list_is_refused_and_an_unknown_kind_is_skipped() {
        let one = || encode(&[held(DocumentKind::Floor, "nordunet")]);
        let changed = |change: fn(&mut wire::DocumentVersion)| {
            let mut list = one();
            list.documents.iter_mut().for_each(change);
            decode(list)
        };
        assert!(changed(|document| document.hash = vec![7; 31].into()).is_err());
        assert!(changed(|document| document.owner = String::new()).is_err());
        assert!(changed(|document| document.owner = "x".repeat(MAX_OWNER + 1)).is_err());
        assert_eq!(changed(|document| document.kind = 99), Ok(Vec::new()));
        assert_eq!(changed(|document| document.kind = 0), Ok(Vec::new()));
        let many = vec![wire::DocumentVersion::default(); MAX_DOCUMENTS + 1];
        assert!(decode(wire::DocumentList { documents: many }).is_err());
    }
}
