//! Sealing a packet again, for streams without an RTX stream: a NACK (RFC 4585) is answered with the
//! original packet. Only one packet may ever be sealed under one SRTP index: a different one under the
//! same nonce would reveal the GCM authentication key (RFC 7714 section 8.1). So the last four bytes of
//! each sealed packet's tag are kept, and a packet that seals to other bytes is not sent.

/// Packets that can be sealed again: the newest of a stream, more than a second of audio.
const CAPACITY: usize = 64;

/// The newest packets of one stream: low bits of the index, last bytes of the tag.
#[derive(Debug, Default)]
pub(super) struct SealedPackets(Vec<(u32, u32)>);

impl SealedPackets {
    /// Records a packet that was sealed for the first time.
    pub(super) fn record(&mut self, index: u64, packet: &[u8]) {
        let Some(tag) = tag_end(packet) else { return };
        if self.0.is_empty() {
            // Marks all entries as empty: index 0 is only ever in entry 0, index 1 in entry 1.
            self.0 = vec![(0, 0); CAPACITY];
            if let Some(first) = self.0.first_mut() {
                first.0 = 1;
            }
        }
        if let Some(entry) = self.0.get_mut(index as usize % CAPACITY) {
            *entry = (index as u32, tag);
        }
    }

    /// Whether the sealed packet is the one recorded under this index.
    pub(super) fn is_same(&self, index: u64, packet: &[u8]) -> bool {
        let entry = self.0.get(index as usize % CAPACITY);
        entry.is_some_and(|entry| entry.0 == index as u32 && Some(entry.1) == tag_end(packet))
    }
}

/// The last four bytes of the authentication tag.
fn tag_end(packet: &[u8]) -> Option<u32> {
    packet.last_chunk::<4>().map(|end| u32::from_be_bytes(*end))
}
