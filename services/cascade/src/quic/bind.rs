//! Binds a QUIC connection to a link. The dialling node sends a bind request on the first stream; the
//! other node confirms once all connections of the link have arrived.
//!
//! Request: version (1 byte), link id (16), index of the connection, number of connections (1 each).
//! Confirmation: 1 byte, 1.

use super::command::LinkId;
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use systir_identity::{SpiffeId, peer_identity};

const VERSION: u8 = 1;
const CONFIRMED: u8 = 1;
const LENGTH: usize = 19;

/// Names the link of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BindRequest {
    pub(super) link: LinkId,
    /// Which of the link's connections this is, from 0.
    pub(super) index: u8,
    /// How many connections the link has.
    pub(super) connections: u8,
}

impl BindRequest {
    fn encode(self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        let [version, link @ .., index, connections] = &mut out;
        *version = VERSION;
        link.copy_from_slice(&self.link);
        (*index, *connections) = (self.index, self.connections);
        out
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Self> {
        let [version, link @ .., index, connections] = bytes;
        (version == VERSION && index < connections).then_some(Self { link, index, connections })
    }
}

/// The peer's id, as TLS proved.
pub(super) fn proven_identity(connection: &Connection) -> Result<SpiffeId, String> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or("the peer proved no identity")?;
    peer_identity(&chain).map_err(|error| error.to_string())
}

/// Sends a bind request and waits for its confirmation.
pub(super) async fn request(connection: &Connection, request: BindRequest) -> Result<(), String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&request.encode()).await.map_err(|error| error.to_string())?;
    let _ = send.finish();
    let mut answer = [0];
    recv.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    if answer == [CONFIRMED] { Ok(()) } else { Err("the peer did not confirm the connection".to_owned()) }
}

/// Waits for a bind request. Its confirmation is sent on the returned stream.
pub(super) async fn receive(connection: &Connection) -> Result<(BindRequest, SendStream), String> {
    let (send, mut recv): (SendStream, RecvStream) =
        connection.accept_bi().await.map_err(|error| error.to_string())?;
    let mut bytes = [0; LENGTH];
    recv.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
    let request = BindRequest::decode(bytes).ok_or("the peer's bind request is malformed")?;
    Ok((request, send))
}

/// Confirms a bind request.
pub(super) async fn confirm(mut send: SendStream) -> Result<(), String> {
    send.write_all(&[CONFIRMED]).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_request_survives_encoding() {
        let request = BindRequest { link: [7; 16], index: 1, connections: 2 };
        assert_eq!(BindRequest::decode(request.encode()), Some(request));
        assert_eq!(BindRequest::decode([0; LENGTH]), None);
        assert_eq!(BindRequest::decode(BindRequest { index: 2, ..request }.encode()), None);
    }
}
