//! Sealing a packet once more, for streams that have no retransmission stream beside them
//! (RFC 4585 allows to send the original again). Under one SRTP index only one packet may ever be
//! sealed: another one under the same nonce would give the key's authentication away (RFC 7714
//! section 8.1). So what was sealed is remembered by the end of its tag, and what comes out
//! differently the second time is not sent.

/// Packets that may be repeated: the newest of a stream, more than a second of sound.
const PLACES: usize = 64;

/// The newest packets of one stream: low bits of the index, end of the tag.
#[derive(Debug, Default)]
pub(super) struct Sealed(Vec<(u32, u32)>);

impl Sealed {
    /// A packet was sealed for the first time.
    pub(super) fn note(&mut self, index: u64, packet: &[u8]) {
        let Some(tag) = tag(packet) else { return };
        if self.0.is_empty() {
            // Index 0 in place 1 is in no stream: that place is not its own.
            self.0 = vec![(0, 0); PLACES];
            if let Some(first) = self.0.first_mut() {
                first.0 = 1;
            }
        }
        if let Some(place) = self.0.get_mut(index as usize % PLACES) {
            *place = (index as u32, tag);
        }
    }

    /// Is this the very packet that was sealed under this index?
    pub(super) fn is_same(&self, index: u64, packet: &[u8]) -> bool {
        let place = self.0.get(index as usize % PLACES);
        place.is_some_and(|place| place.0 == index as u32 && Some(place.1) == tag(packet))
    }
}

fn tag(packet: &[u8]) -> Option<u32> {
    packet.last_chunk::<4>().map(|end| u32::from_be_bytes(*end))
}
