//! Retransmission cache: the last second of one layer. There is one cache per layer of a track, shared by
//! all subscribers. Slots and their memory are reused, so a running stream allocates nothing.

use std::time::{Duration, Instant};

use crate::codec::PayloadInfo;
use systir_rtp::packet::{AudioLevel, Codec, Extensions, Kind, Packet};

/// How long packets are kept.
const SPAN: Duration = Duration::from_secs(1);
/// Initial number of slots; a power of two.
const INITIAL_SLOTS: usize = 64;
/// Most slots of a video layer; a power of two. A second of 9 Mbit/s: a packet may wait for the pacer for half of it, and
/// be requested again a round trip later.
const MAX_SLOTS: usize = 1024;
/// Marks an empty slot; never a sequence number.
const EMPTY_SEQ: u64 = u64::MAX;

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
    /// Length of the capture time, the first part of `bytes`.
    capture_time: Option<u8>,
    /// Length of the dependency descriptor, the second part of `bytes`.
    dependency: Option<u16>,
    info: PayloadInfo,
    /// Capture time, dependency descriptor, payload.
    bytes: Vec<u8>,
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
            info: PayloadInfo::default(),
            bytes: Vec::new(),
        }
    }

    fn packet(&self) -> Packet<'_> {
        let (capture, rest) =
            self.bytes.split_at_checked(usize::from(self.capture_time.unwrap_or(0))).unwrap_or_default();
        let (dependency, payload) =
            rest.split_at_checked(usize::from(self.dependency.unwrap_or(0))).unwrap_or_default();
        Packet {
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
        }
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<CachedPacket>,
    max_slots: usize,
    /// A slot's memory is a multiple of this, so few packets need a larger allocation.
    allocation_unit: usize,
}

impl Cache {
    pub(crate) fn new(kind: Kind) -> Self {
        let (max_slots, allocation_unit) = match kind {
            Kind::Audio => (INITIAL_SLOTS, 256),
            Kind::Video => (MAX_SLOTS, 1280),
        };
        Self { slots: Vec::new(), max_slots, allocation_unit }
    }

    fn slot(&self, seq: u64) -> Option<&CachedPacket> {
        let mask = self.slots.len().wrapping_sub(1) as u64;
        self.slots.get((seq & mask) as usize)
    }

    /// Is a packet so old that its slot was reused? Then a duplicate cannot be recognised.
    pub(crate) fn is_past(&self, seq: u64, highest: u64) -> bool {
        highest.saturating_sub(seq) >= self.slots.len() as u64
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.slot(seq).is_some_and(|slot| slot.seq == seq)
    }

    pub(crate) fn get(&self, seq: u64) -> Option<(Packet<'_>, &PayloadInfo)> {
        self.slot(seq).filter(|slot| slot.seq == seq).map(|slot| (slot.packet(), &slot.info))
    }

    pub(crate) fn insert(&mut self, now: Instant, packet: &Packet<'_>, info: &PayloadInfo) {
        if self.slots.is_empty() {
            self.slots.resize_with(INITIAL_SLOTS, || CachedPacket::empty(now));
        }
        // The slot still holds a packet younger than `SPAN`: the stream needs more slots.
        while self.slots.len() < self.max_slots
            && self
                .slot(packet.seq)
                .is_some_and(|slot| slot.seq != EMPTY_SEQ && now.saturating_duration_since(slot.at) < SPAN)
        {
            self.grow(now);
        }
        let (mask, allocation_unit) = (self.slots.len().wrapping_sub(1) as u64, self.allocation_unit);
        let Some(slot) = self.slots.get_mut((packet.seq & mask) as usize) else { return };
        let capture = packet.ext.capture_time.filter(|bytes| bytes.len() <= 16);
        let dependency = packet.ext.dependency.filter(|bytes| bytes.len() <= 255);
        let len = capture.map_or(0, <[u8]>::len) + dependency.map_or(0, <[u8]>::len) + packet.payload.len();
        slot.seq = packet.seq;
        slot.at = now;
        slot.codec = packet.codec;
        slot.timestamp = packet.timestamp;
        slot.marker = packet.marker;
        slot.audio_level = packet.ext.audio_level;
        slot.orientation = packet.ext.orientation;
        slot.playout_delay = packet.ext.playout_delay;
        slot.capture_time = capture.map(|bytes| bytes.len() as u8);
        slot.dependency = dependency.map(|bytes| bytes.len() as u16);
        slot.info = *info;
        slot.bytes.clear();
        if slot.bytes.capacity() < len {
            slot.bytes.reserve_exact(len.next_multiple_of(allocation_unit));
        }
        slot.bytes.extend_from_slice(capture.unwrap_or_default());
        slot.bytes.extend_from_slice(dependency.unwrap_or_default());
        slot.bytes.extend_from_slice(packet.payload);
    }

    fn grow(&mut self, now: Instant) {
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
}
