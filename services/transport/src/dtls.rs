//! DTLS 1.2 (RFC 6347) by `dimpl`: authenticates the peer, derives the SRTP keys, carries SCTP.
//!
//! 1.2 and not 1.3, although the library has both: as a 1.2 server it chooses the SRTP profile
//! itself and takes AES-GCM; as a 1.3 server it takes the client's first profile, which in browsers is
//! the SHA-1 one at four times the cost.

use std::{sync::Arc, time::Instant};

use aws_lc_rs::constant_time;
use dimpl::Output;

use crate::{Certificate, CloseReason, SrtpProfile, certificate::sha256, srtp::Srtp};

/// Records of a handshake flight or a burst of SCTP that may wait to be polled.
const MAX_QUEUE: usize = 64;
/// Largest record: 2^14 bytes and the header.
const MAX_RECORD: usize = 17 * 1024;

/// An output of the association.
pub(crate) enum DtlsOutput {
    /// A datagram to send.
    Packet(Vec<u8>),
    /// The handshake is done and the peer has the announced certificate; the SRTP keys.
    Connected(SrtpProfile, Box<Srtp>),
    /// An SCTP packet of the verified peer.
    Data(Vec<u8>),
    /// The peer closed.
    Closed,
}

/// One DTLS association.
pub(crate) struct Dtls {
    engine: dimpl::Dtls,
    expected: [u8; 32],
    /// Whether we are the DTLS client.
    active: bool,
    /// The peer's certificate has the expected fingerprint.
    verified: bool,
    handshake_done: bool,
    keys: Option<(SrtpProfile, Box<Srtp>)>,
    /// [`DtlsOutput::Connected`] was returned.
    connected: bool,
    timeout: Option<Instant>,
    buffer: Vec<u8>,
}

impl Dtls {
    pub(crate) fn new(
        certificate: &Certificate,
        expected: [u8; 32],
        active: bool,
        mtu: usize,
        now: Instant,
    ) -> Result<Self, CloseReason> {
        // ICE has verified the peer's address: the cookie round trip is not needed.
        let config = dimpl::Config::builder()
            .mtu(mtu)
            .use_server_cookie(false)
            .max_queue_tx(MAX_QUEUE)
            .build()
            .map_err(failed)?;
        let mut engine = dimpl::Dtls::new_12(Arc::new(config), certificate.dtls(), now);
        engine.set_active(active);
        engine.handle_timeout(now).map_err(failed)?;
        Ok(Self {
            engine,
            expected,
            active,
            verified: false,
            handshake_done: false,
            keys: None,
            connected: false,
            timeout: None,
            buffer: vec![0; 2048],
        })
    }

    /// Whether we are the DTLS client, which sends the ClientHello.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    pub(crate) fn expects(&self, fingerprint: &[u8; 32]) -> bool {
        self.expected == *fingerprint
    }

    /// Whether the handshake with the verified peer is done.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<(), CloseReason> {
        self.engine.handle_timeout(now).map_err(failed)?;
        self.engine.handle_packet(datagram).map_err(failed)
    }

    pub(crate) fn send(&mut self, data: &[u8]) -> Result<(), CloseReason> {
        self.engine.send_application_data(data).map(|_| ()).map_err(failed)
    }

    pub(crate) fn close(&mut self) {
        if let Err(error) = self.engine.close() {
            tracing::debug!(%error, "DTLS close failed");
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        if self.timeout.is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now).map_err(failed)?;
        }
        Ok(())
    }

    /// Passes all pending output to `sink`. An error ends the association.
    pub(crate) fn drain(&mut self, mut sink: impl FnMut(DtlsOutput)) -> Result<(), CloseReason> {
        loop {
            let size = self.buffer.len();
            match self.engine.poll_output(&mut self.buffer) {
                Output::Packet(packet) => sink(DtlsOutput::Packet(packet.to_vec())),
                Output::BufferTooSmall { needed } if needed <= MAX_RECORD && needed > size => {
                    self.buffer.resize(needed, 0);
                }
                Output::BufferTooSmall { .. } => {
                    return Err(CloseReason::Dtls("the DTLS library made a record over the limit".into()));
                }
                Output::PeerCert(der) => {
                    let fingerprint = sha256(der);
                    if constant_time::verify_slices_are_equal(&fingerprint, &self.expected).is_err() {
                        return Err(CloseReason::WrongCertificate);
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::Aes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::Aes256Gcm,
                        dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::Aes128CmSha1,
                        _ => return Err(CloseReason::NoSrtp),
                    };
                    let srtp = Srtp::new(profile, &material, self.active).ok_or(CloseReason::NoSrtp)?;
                    self.keys = Some((profile, Box::new(srtp)));
                }
                Output::Connected => self.handshake_done = true,
                Output::ApplicationData(data) if self.connected => sink(DtlsOutput::Data(data.to_vec())),
                Output::CloseNotify => sink(DtlsOutput::Closed),
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    if !self.handshake_done || self.connected {
                        return Ok(());
                    }
                    // Connected only with all three: verified certificate, Finished, keys.
                    if !self.verified {
                        return Err(CloseReason::WrongCertificate);
                    }
                    let (profile, srtp) = self.keys.take().ok_or(CloseReason::NoSrtp)?;
                    self.connected = true;
                    sink(DtlsOutput::Connected(profile, srtp));
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

fn failed(error: dimpl::Error) -> CloseReason {
    CloseReason::Dtls(error.to_string())
}
