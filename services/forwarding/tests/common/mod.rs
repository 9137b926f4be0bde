//! Simulated publisher, clock and egress for tests of the core.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use systir_forwarding::batch::Priority;
use systir_forwarding::codec::vp8::Descriptor;
use systir_forwarding::{Core, Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Extensions, Kind, Layer, LayerSet, Packet, SenderReport};

/// A packet that the core sent to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    pub sub: SubscriptionId,
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
    pub retransmission: bool,
    pub priority: Priority,
}

impl Forwarded {
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::parse(&self.payload).unwrap()
    }

    /// What the publisher wrote after the descriptor.
    pub fn tag(&self) -> Tag {
        Tag::read(&self.payload[self.descriptor().len()..])
    }
}

/// Identifies a packet of the test publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Is it part of a key frame?
    pub key: bool,
    pub layer: u8,
    /// Number of the frame.
    pub frame: u16,
    /// Number of the packet in its frame.
    pub index: u8,
}

impl Tag {
    fn read(bytes: &[u8]) -> Self {
        Self {
            key: bytes[0] & 1 == 0,
            layer: bytes[1],
            frame: u16::from_be_bytes([bytes[2], bytes[3]]),
            index: bytes[4],
        }
    }
}

/// Records what the core sends.
#[derive(Debug, Default)]
pub struct Log {
    pub sent: Vec<Forwarded>,
    pub fed: Vec<(u32, u32, u64, Vec<u8>)>,
    pub reports: Vec<(u32, u32, SenderReport)>,
    pub key_frames: Vec<(TrackId, Layer)>,
    pub lost: Vec<(TrackId, Layer, Vec<u16>)>,
    /// Subscriptions with queued packets, in the order in which the queues began.
    pub queued: Vec<SubscriptionId>,
}

impl Log {
    pub fn of(&self, sub: SubscriptionId) -> Vec<Forwarded> {
        self.sent.iter().filter(|sent| sent.sub == sub).cloned().collect()
    }
}

impl Egress for Log {
    fn queued(&mut self, sub: SubscriptionId) {
        self.queued.push(sub);
    }

    fn forward(&mut self, sub: SubscriptionId, out: &Forward<'_>) {
        self.sent.push(Forwarded {
            sub,
            seq: out.seq,
            timestamp: out.timestamp,
            marker: out.marker,
            payload: [out.head, out.payload].concat(),
            retransmission: out.retransmission,
            priority: out.priority,
        });
    }

    fn feed(&mut self, peer: u32, flow: u32, _priority: Priority, packet: &Packet<'_>) {
        self.fed.push((peer, flow, packet.seq, packet.payload.to_vec()));
    }

    fn feed_report(&mut self, peer: u32, flow: u32, report: SenderReport) {
        self.reports.push((peer, flow, report));
    }

    fn request_key_frame(&mut self, track: TrackId, layer: Layer) {
        self.key_frames.push((track, layer));
    }

    fn request_retransmission(&mut self, track: TrackId, layer: Layer, seqs: &[u16]) {
        self.lost.push((track, layer, seqs.to_vec()));
    }
}

/// A packet of the test publisher.
#[derive(Debug, Clone)]
pub struct Published {
    pub layer: Layer,
    pub codec: Codec,
    pub seq: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
}

impl Published {
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            codec: self.codec,
            seq: self.seq,
            timestamp: self.timestamp,
            marker: self.marker,
            ext: Extensions::default(),
            payload: &self.payload,
        }
    }
}

/// One VP8 encoder.
#[derive(Debug, Clone)]
pub struct Encoder {
    pub layer: u8,
    pub seq: u64,
    pub timestamp: u32,
    pub picture_id: u16,
    pub narrow: bool,
    pub tl0: u8,
    pub key_index: u8,
    pub frame: u16,
}

impl Encoder {
    pub fn new(layer: u8, seq: u64, timestamp: u32, picture_id: u16) -> Self {
        Self { layer, seq, timestamp, picture_id, narrow: false, tl0: 250, key_index: 30, frame: 0 }
    }

    fn packet(&mut self, marker: bool, payload: Vec<u8>) -> Published {
        self.seq += 1;
        let (layer, seq, timestamp) = (Layer(self.layer), self.seq, self.timestamp);
        Published { layer, codec: Codec::Vp8, seq, timestamp, marker, payload }
    }

    /// The packets of the next frame, 1/30 s after the last one.
    pub fn frame(&mut self, key: bool, packets: u8) -> Vec<Published> {
        self.temporal_frame(key, packets, 0, true)
    }

    /// The packets of the next frame, of a temporal layer. `sync`: it depends on the lowest temporal layer only.
    pub fn temporal_frame(&mut self, key: bool, packets: u8, layer: u8, sync: bool) -> Vec<Published> {
        self.timestamp = self.timestamp.wrapping_add(3000);
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.tl0 = self.tl0.wrapping_add(u8::from(layer == 0));
        self.key_index = (self.key_index + u8::from(key)) & 0x1F;
        self.frame += 1;
        let frame = self.frame.to_be_bytes();
        (0..packets)
            .map(|index| {
                let mut payload = vec![if index == 0 { 0x90 } else { 0x80 }, 0xF0];
                if self.narrow {
                    payload.push((self.picture_id & 0x7F) as u8);
                } else {
                    payload.extend((self.picture_id | 0x8000).to_be_bytes());
                }
                let tag = [u8::from(!key), self.layer, frame[0], frame[1], index];
                payload.extend([self.tl0, layer << 6 | u8::from(sync) << 5 | self.key_index]);
                payload.extend(tag);
                self.packet(index + 1 == packets, payload)
            })
            .collect()
    }

    pub fn padding(&mut self) -> Published {
        self.packet(false, Vec::new())
    }
}

/// A core with its simulated clock and egress.
#[derive(Debug)]
pub struct Sim {
    pub core: Core,
    pub now: Instant,
    pub log: Log,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self { core: Core::new(seed), now: Instant::now(), log: Log::default() }
    }

    pub fn video(&mut self, layers: u8) -> TrackId {
        self.core.add_track(1, Kind::Video, Codec::Vp8, LayerSet(layers))
    }

    /// A subscriber with a target.
    pub fn subscriber(&mut self, track: TrackId, layer: u8) -> SubscriptionId {
        let sub = self.core.subscribe(track).unwrap();
        self.target(sub, Some(layer));
        sub
    }

    pub fn target(&mut self, sub: SubscriptionId, layer: Option<u8>) {
        self.core.set_target(self.now, sub, layer.map(Layer), &mut self.log);
    }

    /// A packet arrives and is sent to those who are due.
    pub fn put(&mut self, track: TrackId, published: &Published) {
        self.queue(track, published);
        self.pull_all();
    }

    /// A packet arrives and is queued.
    pub fn queue(&mut self, track: TrackId, published: &Published) {
        self.core.ingest(self.now, track, published.layer, &published.packet(), &mut self.log);
    }

    /// Sends all that is queued.
    pub fn pull_all(&mut self) {
        for sub in std::mem::take(&mut self.log.queued) {
            while self.core.pull(sub, &mut self.log) {}
        }
    }

    pub fn put_all(&mut self, track: TrackId, published: &[Published]) {
        for published in published {
            self.put(track, published);
        }
    }

    /// Advances the clock and handles each timeout when it is due.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now, &mut self.log);
        }
        self.now = end;
    }

    pub fn nack(&mut self, sub: SubscriptionId, seqs: &[u16]) {
        self.core.nack(self.now, sub, seqs.iter().copied(), None, &mut self.log);
    }
}

/// Are the sequence numbers without a gap?
pub fn continuous(sent: &[Forwarded]) -> bool {
    sent.windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1))
}
