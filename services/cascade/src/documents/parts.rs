//! A document on its way to a peer.

use super::fetch_limits::FetchPermit;
use bytes::Bytes;
use futures::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use systir_proto::cluster::v1::DocumentPart;
use tonic::Status;

const PART: usize = 32 << 10;

/// The parts of a signed note. Made one by one, as the peer reads them.
pub(crate) struct DocumentParts {
    note: Arc<str>,
    sent: usize,
    _permit: FetchPermit,
}

impl DocumentParts {
    pub(crate) fn new(note: Arc<str>, permit: FetchPermit) -> Self {
        Self { note, sent: 0, _permit: permit }
    }
}

impl Stream for DocumentParts {
    type Item = Result<DocumentPart, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let rest = self.note.as_bytes().get(self.sent..).unwrap_or_default();
        let part = rest.get(..PART).unwrap_or(rest);
        if part.is_empty() {
            return Poll::Ready(None);
        }
        let bytes = Bytes::copy_from_slice(part);
        self.sent += bytes.len();
        Poll::Ready(Some(Ok(DocumentPart { bytes })))
    }
}
