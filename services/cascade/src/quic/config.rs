//! Configuration of quinn for links.

use crate::authenticator::Authenticator;
use crate::congestion::DelayControllerFactory;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};
use std::sync::Arc;
use std::time::Duration;
use systir_identity::{SpiffeId, alpn};

/// UDP payload of an IPv6 packet at the minimum link MTU of 1280 bytes (RFC 8200, section 5).
const INITIAL_MTU: u16 = 1232;
const RECEIVE_BUFFER: usize = 8 << 20;
/// Connections whose first packet waits for this node, and what each and all of them may send until then, in bytes.
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER: u64 = 16 << 10;
const INCOMING_BUFFERS: u64 = 1 << 20;

/// Configuration of the QUIC thread.
#[derive(Clone)]
pub(crate) struct QuicConfig {
    pub(crate) authenticator: Arc<Authenticator>,
    /// Highest send rate of one link in bytes per second.
    pub(crate) ceiling: u64,
    /// QUIC connections per link.
    pub(crate) connections: u8,
    /// Largest UDP payload that path MTU discovery tries.
    pub(crate) max_mtu: u16,
    /// Bytes of socket buffer to request, per direction.
    pub(crate) socket_buffer: usize,
}

impl QuicConfig {
    /// Highest send rate of one connection in bytes per second.
    pub(crate) fn connection_ceiling(&self) -> u64 {
        (self.ceiling / u64::from(self.connections.max(1))).max(16_000)
    }

    /// Bytes in quinn's datagram send buffer, at most: 20 ms at the ceiling.
    pub(crate) fn send_buffer(&self) -> usize {
        (self.connection_ceiling() / 50).clamp(64 << 10, 16 << 20) as usize
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut acks = AckFrequencyConfig::default();
        // Fewer acknowledgements, but with a delay below the target of the congestion controller.
        acks.ack_eliciting_threshold(VarInt::from_u32(8)).max_ack_delay(Some(Duration::from_millis(5)));
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.max_mtu.max(INITIAL_MTU));
        let mut transport = TransportConfig::default();
        transport
            .initial_mtu(INITIAL_MTU)
            .mtu_discovery_config(Some(mtu))
            .ack_frequency_config(Some(acks))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(5_000))))
            .max_concurrent_bidi_streams(VarInt::from_u32(2))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(4096))
            .datagram_receive_buffer_size(Some(RECEIVE_BUFFER))
            .datagram_send_buffer_size(self.send_buffer())
            .congestion_controller_factory(Arc::new(DelayControllerFactory {
                ceiling: self.connection_ceiling(),
            }));
        Arc::new(transport)
    }

    pub(crate) fn server(&self) -> Result<ServerConfig, String> {
        let tls =
            self.authenticator.credentials.server_config(alpn::LINK).map_err(|error| error.to_string())?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| error.to_string())?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(self.transport())
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS)
            .migration(false);
        Ok(config)
    }

    pub(crate) fn client(&self, peer: &SpiffeId) -> Result<ClientConfig, String> {
        let tls = self
            .authenticator
            .credentials
            .client_config(peer, alpn::LINK)
            .map_err(|error| error.to_string())?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport());
        Ok(config)
    }
}
