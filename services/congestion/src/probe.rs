/// The number of a probe within its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeId(pub(crate) u16);

/// Packets to send at a given rate, to find out whether the path carries it. They may be retransmissions or
/// padding, best of about `bytes / packets` each: larger ones fill the bottleneck's queue for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Goes with each of its packets: [`SentKind::Probe`].
    pub id: ProbeId,
    /// Bits per second, on the wire.
    pub rate: u64,
    /// Bytes on the wire to send at least, all packets together.
    pub bytes: usize,
    /// Packets to send at least.
    pub packets: usize,
}

/// A packet of full size, bytes on the wire.
const LONG: u64 = 1_250;
/// A probe's packets follow each other within this time, in microseconds: what is further apart measures nothing.
pub(crate) const MAX_PAUSE: u64 = 100_000;

impl Probe {
    /// May its packets be of full size? At a low rate they would be too far apart.
    #[must_use]
    pub fn takes_long_packets(&self) -> bool {
        self.rate.saturating_mul(MAX_PAUSE / 2) >= LONG * 8_000_000
    }
}

/// Why a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentKind {
    /// Audio or video, sent for the first time.
    Media,
    /// A packet that the receiver requested again.
    Retransmission,
    /// A packet of a probe, whatever it contains.
    Probe(ProbeId),
    /// A packet that only fills the path, so that it shows whether it carries a higher layer.
    Filler,
}
