//! The first words on a QUIC connection: which link it belongs to. The dialling side says it on a
//! stream; the other side answers once all lanes of the link are there.

use super::command::LinkId;
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use systir_identity::{SpiffeId, peer_identity};

const VERSION: u8 = 1;
const WELCOME: u8 = 1;
const LENGTH: usize = 19;

/// What the dialling side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) id: LinkId,
    pub(super) lane: u8,
    pub(super) lanes: u8,
}

impl Greeting {
    fn encode(self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        let [version, id @ .., lane, lanes] = &mut out;
        *version = VERSION;
        id.copy_from_slice(&self.id);
        (*lane, *lanes) = (self.lane, self.lanes);
        out
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Self> {
        let [version, id @ .., lane, lanes] = bytes;
        (version == VERSION && lane < lanes).then_some(Self { id, lane, lanes })
    }
}

/// Who TLS proved is at the other end.
pub(super) fn proven(connection: &Connection) -> Result<SpiffeId, String> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or("the peer proved no identity")?;
    peer_identity(&chain).map_err(|error| error.to_string())
}

pub(super) async fn greet(connection: &Connection, greeting: Greeting) -> Result<(), String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&greeting.encode()).await.map_err(|error| error.to_string())?;
    let _ = send.finish();
    let mut answer = [0];
    recv.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    if answer == [WELCOME] { Ok(()) } else { Err("the peer did not welcome the connection".to_owned()) }
}

pub(super) async fn greeted(connection: &Connection) -> Result<(Greeting, SendStream), String> {
    let (send, mut recv): (SendStream, RecvStream) =
        connection.accept_bi().await.map_err(|error| error.to_string())?;
    let mut bytes = [0; LENGTH];
    recv.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
    let greeting = Greeting::decode(bytes).ok_or("the peer's greeting is malformed")?;
    Ok((greeting, send))
}

pub(super) async fn welcome(mut send: SendStream) -> Result<(), String> {
    send.write_all(&[WELCOME]).await.map_err(|error| error.to_string())?;
    send.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_comes_back() {
        let greeting = Greeting { id: [7; 16], lane: 1, lanes: 2 };
        assert_eq!(Greeting::decode(greeting.encode()), Some(greeting));
        assert_eq!(Greeting::decode([0; LENGTH]), None);
        assert_eq!(Greeting::decode(Greeting { lane: 2, ..greeting }.encode()), None);
    }
}
