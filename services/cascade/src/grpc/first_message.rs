//! Limits the first message of a stream more than those that follow: what a peer sends before anything is decided is held.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;

/// Before each message of gRPC: whether it is compressed (1 byte), and its length (4 bytes, big endian).
const HEADER: usize = 5;

/// The body of a request, which ends with an error when its first message is longer than the limit.
pub(crate) struct FirstMessageLimit {
    body: Body,
    limit: u32,
    header: [u8; HEADER],
    /// Bytes of the header that were read.
    read: usize,
}

impl FirstMessageLimit {
    pub(crate) fn new(body: Body, limit: u32) -> Self {
        Self { body, limit, header: [0; HEADER], read: 0 }
    }

    fn check(&mut self, data: &[u8]) -> Result<(), Status> {
        let missing = self.header.iter_mut().skip(self.read);
        let taken = missing.zip(data).map(|(missing, byte)| *missing = *byte).count();
        self.read += taken;
        let [_, length @ ..] = self.header;
        if taken > 0 && self.read == HEADER && u32::from_be_bytes(length) > self.limit {
            return Err(Status::out_of_range(format!(
                "the first message has more than {} bytes",
                self.limit
            )));
        }
        Ok(())
    }
}

impl HttpBody for FirstMessageLimit {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.check(data)?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Entry point for the fuzz target: what begins a stream is refused by the length that it states, however it is divided.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(stream: &[u8], most: u32) {
    let stated = stream.first_chunk::<HEADER>().map(|[_, length @ ..]| u32::from_be_bytes(*length));
    for part in 1..=2 * HEADER {
        let mut limit = FirstMessageLimit::new(Body::empty(), most);
        let refused = stream.chunks(part).any(|data| limit.check(data).is_err());
        assert_eq!(refused, stated.is_some_and(|length| length > most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_the_first_message_counts_however_it_is_divided() {
        let header = |length: u32| [&[0][..], &length.to_be_bytes(), &[7; 20]].concat();
        for part in 1..20 {
            let long = |length| {
                let mut limit = FirstMessageLimit::new(Body::empty(), 1_000);
                header(length).chunks(part).any(|data| limit.check(data).is_err())
            };
            assert!(long(1_001) && long(u32::MAX) && !long(1_000) && !long(0), "{part} bytes at once");
        }
        let mut limit = FirstMessageLimit::new(Body::empty(), 1_000);
        assert!(limit.check(&header(10)).is_ok());
        assert!(limit.check(&header(1_000_000)).is_ok(), "a later message");
    }
}
