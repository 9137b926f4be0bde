//! Retransmission cache: the last second of one layer. There is one cache per layer of a track, shared by
//! all subscribers. Slots and bytes are reused, so a running stream allocates nothing.

use std::time::{Duration, Instant};

use crate::byte_ring::ByteRing;
use crate::codec::PayloadInfo;
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Kind, Packet};

/// How long packets are kept.
const SPAN: Duration = Duration::from_secs(1);
/// Initial number of slots; a power of two.
const INITIAL_SLOTS: usize = 64;
/// Most slots of a video layer; a power of two. A second of 9 Mbit/s: a packet may wait for the pacer for half of it, and
/// be requested again a round trip later.
const MAX_SLOTS: usize = 1024;
/// Bytes for the payloads of a stream at first, and at most. A second of Opus has 4 to 8 kB.
const INITIAL_BYTES: usize = 8 << 10;
const MAX_AUDIO_BYTES: usize = 32 << 10;
const MAX_VIDEO_BYTES: usize = 2 << 20;
/// Marks an empty slot; never a sequence number.
const EMPTY_SEQ: u64 = u64::MAX;

/// A packet without its bytes.
#[derive(Debug)]
struct CachedPacket {
    seq: u64,
    at: Instant,
    codec: Codec,
    timestamp: u32,
    marker: bool,
    audio_level: Option<AudioLevel>,
    orientation: Option<u8>,
    playout_delay: Option<[u8; 3]>,
    /// Length of the capture time, the first part of its bytes.
    capture_time: Option<u8>,
    /// Length of the dependency descriptor, the second part of its bytes.
    dependency: Option<u8>,
    /// Length of the payload, the last part.
    payload: u32,
    info: PayloadInfo,
    /// Where its bytes begin in the ring.
    position: u64,
}

impl CachedPacket {
    fn empty(at: Instant) -> Self {
        Self {
            seq: EMPTY_SEQ,
            at,
            codec: Codec::Opus,
            timestamp: 0,
            marker: false,
            audio_level: None,
            orientation: None,
            playout_delay: None,
            capture_time: None,
            dependency: None,
            payload: 0,
            info: PayloadInfo::default(),
            position: 0,
        }
    }

    fn packet<'a>(&self, ring: &'a ByteRing) -> Option<Packet<'a>> {
        let capture = usize::from(self.capture_time.unwrap_or(0));
        let dependency = usize::from(self.dependency.unwrap_or(0));
        let bytes = ring.get(self.position, capture + dependency + self.payload as usize)?;
        let (capture, rest) = bytes.split_at_checked(capture)?;
        let (dependency, payload) = rest.split_at_checked(dependency)?;
        Some(Packet {
            codec: self.codec,
            seq: self.seq,
            timestamp: self.timestamp,
            marker: self.marker,
            ext: Extensions {
                audio_level: self.audio_level,
                capture_time: self.capture_time.map(|_| capture),
                orientation: self.orientation,
                dependency: self.dependency.map(|_| dependency),
                playout_delay: self.playout_delay,
            },
            payload,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    /// By sequence number.
    slots: Vec<CachedPacket>,
    max_slots: usize,
    ring: ByteRing,
    max_bytes: usize,
    /// No packet with a lower number is older than the one with this number, as far as they are kept.
    oldest: u64,
    /// When a packet was last inserted.
    newest_at: Option<Instant>,
}

impl Cache {
    pub(crate) fn new(kind: Kind) -> Self {
        let (max_slots, max_bytes) = match kind {
            Kind::Audio => (INITIAL_SLOTS, MAX_AUDIO_BYTES),
            Kind::Video => (MAX_SLOTS, MAX_VIDEO_BYTES),
        };
        Self {
            slots: Vec::new(),
            max_slots,
            ring: ByteRing::default(),
            max_bytes,
            oldest: 0,
            newest_at: None,
        }
    }

    fn slot(&self, seq: u64) -> Option<&CachedPacket> {
        let mask = self.slots.len().wrapping_sub(1) as u64;
        self.slots.get((seq & mask) as usize)
    }

    /// The packet of that number, if it was inserted. Its bytes may be overwritten.
    fn inserted(&self, seq: u64) -> Option<&CachedPacket> {
        self.slot(seq).filter(|slot| slot.seq == seq)
    }

    /// The packet of that number, if its bytes are kept.
    fn kept(&self, seq: u64) -> Option<&CachedPacket> {
        self.inserted(seq).filter(|slot| self.ring.holds(slot.position))
    }

    /// Is a packet so old that its slot was reused? Then a duplicate cannot be recognised.
    pub(crate) fn is_past(&self, seq: u64, highest: u64) -> bool {
        highest.saturating_sub(seq) >= self.slots.len() as u64
    }

    /// Was it inserted? Its bytes may be overwritten.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.inserted(seq).is_some()
    }

    /// When it was inserted.
    pub(crate) fn inserted_at(&self, seq: u64) -> Option<Instant> {
        self.inserted(seq).map(|slot| slot.at)
    }

    pub(crate) fn get(&self, seq: u64) -> Option<(Packet<'_>, &PayloadInfo)> {
        let slot = self.inserted(seq)?;
        slot.packet(&self.ring).map(|packet| (packet, &slot.info))
    }

    pub(crate) fn insert(&mut self, now: Instant, packet: &Packet<'_>, info: &PayloadInfo) {
        if self.slots.is_empty() {
            self.slots.resize_with(INITIAL_SLOTS, || CachedPacket::empty(now));
            self.ring.grow(INITIAL_BYTES);
            self.oldest = packet.seq;
        }
        // The slot still holds a packet younger than `SPAN`: the stream needs more slots.
        while self.slots.len() < self.max_slots
            && self
                .slot(packet.seq)
                .is_some_and(|slot| slot.seq != EMPTY_SEQ && now.saturating_duration_since(slot.at) < SPAN)
        {
            self.add_slots(now);
        }
        let capture = packet.ext.capture_time.filter(|bytes| bytes.len() <= 16);
        let dependency = packet.ext.dependency.filter(|bytes| bytes.len() <= 255);
        let parts = [capture.unwrap_or_default(), dependency.unwrap_or_default(), packet.payload];
        let len = parts.iter().map(|part| part.len()).sum();
        self.make_room(now, packet.seq, len);
        if len > self.ring.capacity() {
            return;
        }
        self.newest_at = Some(now);
        let position = self.ring.push(parts);
        let mask = self.slots.len().wrapping_sub(1) as u64;
        let Some(slot) = self.slots.get_mut((packet.seq & mask) as usize) else { return };
        *slot = CachedPacket {
            seq: packet.seq,
            at: now,
            codec: packet.codec,
            timestamp: packet.timestamp,
            marker: packet.marker,
            audio_level: packet.ext.audio_level,
            orientation: packet.ext.orientation,
            playout_delay: packet.ext.playout_delay,
            capture_time: capture.map(|bytes| bytes.len() as u8),
            dependency: dependency.map(|bytes| bytes.len() as u8),
            payload: packet.payload.len() as u32,
            info: *info,
            position,
        };
    }

    /// Frees its memory if all packets in it are older than [`SPAN`].
    pub(crate) fn free_outdated(&mut self, now: Instant) {
        if self.newest_at.is_some_and(|at| now.saturating_duration_since(at) >= SPAN) {
            (self.slots, self.ring, self.newest_at) = (Vec::new(), ByteRing::default(), None);
        }
    }

    /// Enlarges the ring if a packet of that length would overwrite one that is younger than [`SPAN`].
    fn make_room(&mut self, now: Instant, seq: u64, len: usize) {
        self.oldest = self.oldest.max(seq.saturating_sub(self.slots.len() as u64));
        loop {
            let too_long = len > self.ring.capacity();
            let young = match self.kept(self.oldest) {
                Some(slot) if self.ring.will_hold(slot.position, len) && !too_long => return,
                Some(slot) => now.saturating_duration_since(slot.at) < SPAN,
                None => false,
            };
            if (young || too_long) && self.ring.capacity() < self.max_bytes {
                self.ring.grow(self.ring.capacity() * 2);
            } else if self.oldest < seq {
                self.oldest += 1;
            } else {
                return;
            }
        }
    }

    fn add_slots(&mut self, now: Instant) {
        let len = self.slots.len() * 2;
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(len, || CachedPacket::empty(now));
        for slot in old {
            if slot.seq != EMPTY_SEQ
                && let Some(target) = self.slots.get_mut((slot.seq & (len as u64 - 1)) as usize)
            {
                *target = slot;
            }
        }
    }

    /// Removes all packets and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.seq = EMPTY_SEQ;
        }
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u64, payload: &[u8]) -> Packet<'_> {
        Packet {
            codec: Codec::Av1,
            seq,
            timestamp: 7,
            marker: true,
            ext: Extensions {
                capture_time: Some(&[1; 8]),
                dependency: Some(&[2; 5]),
                playout_delay: Some([3; 3]),
                ..Extensions::default()
            },
            payload,
        }
    }

    #[test]
    fn a_cached_packet_is_returned_unchanged() {
        let now = Instant::now();
        let mut cache = Cache::new(Kind::Video);
        let packet = packet(70_000, b"payload");
        cache.insert(now, &packet, &PayloadInfo::default());
        assert_eq!(cache.get(70_000).map(|(packet, _)| packet), Some(packet));
        assert!(cache.get(70_000 - 64).is_none());
    }

    #[test]
    fn a_faster_stream_gets_more_slots() {
        let start = Instant::now();
        for (gap_ms, slots) in [(1, 1024), (2, 512), (20, 64), (7, 256)] {
            let mut cache = Cache::new(Kind::Video);
            for seq in 0..2000u64 {
                let now = start + Duration::from_millis(seq * gap_ms);
                cache.insert(now, &packet(seq, &[0; 100]), &PayloadInfo::default());
            }
            assert_eq!(cache.slots.len(), slots);
            assert!((2000 - slots as u64..2000).all(|seq| cache.contains(seq)));
        }
    }

    #[test]
    fn the_last_second_is_kept_in_about_as_many_bytes_as_it_has() {
        let start = Instant::now();
        for (gap_ms, size, most) in
            [(20, 100, 8 << 10), (50, 900, 32 << 10), (5, 1_150, 512 << 10), (1, 1_200, 2 << 20)]
        {
            let mut cache = Cache::new(Kind::Video);
            let payload = vec![7; size];
            let at = |seq: u64| start + Duration::from_millis(seq * gap_ms);
            for seq in 0..3000u64 {
                cache.insert(at(seq), &packet(seq, &payload), &PayloadInfo::default());
            }
            let second = (1000 / gap_ms).min(1024);
            for seq in 3000 - second..3000 {
                assert_eq!(cache.get(seq).map(|(packet, _)| packet), Some(packet(seq, &payload)), "{seq}");
            }
            assert!(cache.ring.capacity() <= most, "{} bytes for {gap_ms} ms", cache.ring.capacity());
        }
    }

    #[test]
    fn packets_that_come_late_are_kept_too() {
        let now = Instant::now();
        let mut cache = Cache::new(Kind::Video);
        for seq in [10, 14, 11, 13, 12] {
            cache.insert(now, &packet(seq, &[seq as u8; 2000]), &PayloadInfo::default());
        }
        assert!((10..15).all(|seq| cache.get(seq).is_some_and(|(packet, _)| packet.payload[0] == seq as u8)));
        cache.clear();
        assert!((10..15).all(|seq| !cache.contains(seq) && cache.get(seq).is_none()));
    }
}
