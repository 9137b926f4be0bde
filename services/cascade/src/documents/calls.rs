//! Calls about documents to other nodes.

use super::held_document::{HeldDocument, decode, encode, wire_kind};
use crate::grpc::call_error::CallError;
use crate::grpc::client::{with_timeout, within};
use std::time::Duration;
use systir_documents::{DocumentId, MAX_NOTE_BYTES};
use systir_proto::cluster::v1::FetchDocumentRequest;
use systir_proto::cluster::v1::cluster_client::ClusterClient;
use tonic::transport::Channel;

const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells a peer which documents this node holds, and returns which the peer holds.
pub(crate) async fn exchange(
    mut client: ClusterClient<Channel>,
    held: &[HeldDocument],
) -> Result<Vec<HeldDocument>, CallError> {
    let list = with_timeout(EXCHANGE_TIMEOUT, client.exchange_documents(encode(held))).await?;
    decode(list).map_err(|what| CallError::Failed(format!("the node sent {what}")))
}

/// Asks a peer which documents it holds, and tells it of none. With the date of the answer.
pub(crate) async fn ask(
    mut client: ClusterClient<Channel>,
) -> Result<(Vec<HeldDocument>, Option<String>), CallError> {
    let asked = async {
        let answer = client.exchange_documents(encode(&[])).await?;
        let date = answer.metadata().get("date").and_then(|date| Some(date.to_str().ok()?.to_owned()));
        Ok((answer.into_inner(), date))
    };
    let (list, date) = within(EXCHANGE_TIMEOUT, asked).await?;
    let held = decode(list).map_err(|what| CallError::Failed(format!("the node sent {what}")))?;
    Ok((held, date))
}

/// Fetches a document's signed note from a peer.
pub(crate) async fn fetch(
    mut client: ClusterClient<Channel>,
    id: &DocumentId,
    version: u64,
) -> Result<String, CallError> {
    let request = FetchDocumentRequest { kind: wire_kind(id.kind).into(), owner: id.owner.clone(), version };
    let fetched = async {
        let mut parts = client.fetch_document(request).await?.into_inner();
        let mut note = Vec::new();
        while let Some(part) = parts.message().await? {
            note.extend_from_slice(&part.bytes);
            if note.len() > MAX_NOTE_BYTES {
                return Ok(None);
            }
        }
        Ok(Some(note))
    };
    let note = within(FETCH_TIMEOUT, fetched).await?;
    let note =
        note.ok_or_else(|| CallError::Failed(format!("the node sent more than {MAX_NOTE_BYTES} bytes")))?;
    String::from_utf8(note)
        .map_err(|_| CallError::Failed("the node sent a document that is not UTF-8".to_owned()))
}
