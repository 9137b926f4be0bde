//! Media packets from publishers and from other nodes.

use std::time::{Duration, Instant};

use systir_forwarding::batch::Priority;
use systir_forwarding::codec;
use systir_forwarding::{Core, Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet, Packet, SenderReport};
use systir_rtp::{ExtendedSeq, RtpHeader, parse_link_packet, write_link_packet};
use systir_worker::fuzz::IngressStep;

use crate::reader::Reader;

/// RTP header and its extensions.
pub fn rtp_header(bytes: &[u8]) {
    if let Ok(header) = RtpHeader::parse(bytes) {
        assert_eq!(header.header_len + header.payload.len() + usize::from(header.padding), bytes.len());
        let total: usize = header.extensions().map(|(_, value)| value.len()).sum();
        assert!(total <= header.extension.len());
    }
}

/// A packet on a link: a parsed packet is written back the same.
pub fn link_packet(bytes: &[u8]) {
    if let Ok(packet) = parse_link_packet(bytes) {
        let mut written = Vec::new();
        write_link_packet(&packet.packet(u64::from(packet.seq)), packet.flow, &mut written);
        assert_eq!(parse_link_packet(&written), Ok(packet));
    }
}

/// VP8 payload descriptor and frame header.
pub fn vp8(payload: &[u8]) {
    if let Some(descriptor) = codec::vp8::Descriptor::parse(payload) {
        assert!(descriptor.len() < payload.len());
        let _ = descriptor.begins_key_frame(payload);
        let mut out = [0; codec::vp8::MAX_LEN];
        let len = descriptor.write(0x1234, 5, 6, &mut out);
        assert!(len >= descriptor.len());
    }
}

/// VP9 payload descriptor.
pub fn vp9(payload: &[u8]) {
    let _ = codec::vp9::begins_key_frame(payload);
}

/// H.264 NAL units, single, aggregated and fragmented.
pub fn h264(payload: &[u8]) {
    let _ = codec::h264::key_frame_start(payload);
}

/// AV1 dependency descriptor and aggregation header.
pub fn av1(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let dependency = (rest.byte() & 1 == 1).then(|| rest.piece());
    let _ = codec::av1::begins_key_frame(dependency, rest.0);
}

/// Decrypted packets of a publisher: mid, rid, RTX and the other extensions.
pub fn ingress(bytes: &[u8]) {
    let mut rest = Reader(bytes);
    let steps = std::iter::from_fn(|| {
        if rest.is_empty() {
            return None;
        }
        let kind = rest.byte();
        Some(match kind % 8 {
            0 => IngressStep::Wait(Duration::from_millis(u64::from(rest.byte()) * 20)),
            1 => IngressStep::Describe(rest.piece()),
            2 => IngressStep::Track(rest.byte() % 8, kind & 0x80 != 0),
            3 => {
                let ssrc = u32::from(rest.number()) << 16 | u32::from(rest.number());
                IngressStep::SenderReport(ssrc, u64::from(rest.number()) << 32)
            }
            _ => IngressStep::Packet(rest.piece()),
        })
    });
    systir_worker::fuzz::ingress(steps);
}

struct Sink;

impl Egress for Sink {
    fn queued(&mut self, _: SubscriptionId) {}
    fn forward(&mut self, _: SubscriptionId, _: &Forward<'_>) {}
    fn feed(&mut self, _: u32, _: u32, _: Priority, _: &Packet<'_>) {}
    fn feed_report(&mut self, _: u32, _: u32, _: SenderReport) {}
    fn request_key_frame(&mut self, _: TrackId, _: Layer) {}
    fn request_retransmission(&mut self, _: TrackId, _: Layer, _: &[u16]) {}
}

/// A forwarding core that gets packets and feedback of any kind, in any order.
pub fn forwarding_core(bytes: &[u8]) {
    let mut core = Core::new(1);
    let mut now = Instant::now();
    let track = core.add_track(0, Kind::Video, Codec::Vp8, LayerSet(0b111));
    let Some(sub) = core.subscribe(track) else { return };
    core.feed(track, Layer(0), 1, 1);
    let mut seqs = [ExtendedSeq::default(); 4];
    let mut rest = Reader(bytes);
    while !rest.is_empty() {
        let (action, number) = (rest.byte(), rest.number());
        now += Duration::from_millis(u64::from(number % 300));
        let layer = Layer(action & 3);
        match (action >> 2) % 15 {
            0 => core.set_target(now, sub, Some(layer), &mut Sink),
            1 => core.set_target(now, sub, None, &mut Sink),
            2 => core.set_muted(track, action & 1 == 0),
            3 => core.nack(now, sub, (0..64).map(|step| number.wrapping_add(step)), None, &mut Sink),
            4 => core.feed_nack(now, 1, 1, std::iter::once(number), &mut Sink),
            5 => core.key_frame_wanted(now, sub, &mut Sink),
            6 => core.handle_timeout(now, &mut Sink),
            8 => while core.pull(sub, &mut Sink) {},
            9 => core.set_temporal_target(sub, action & 3, number as u8),
            10 => {
                core.resend(sub, number.into(), &mut Sink);
            }
            7 => {
                let report =
                    SenderReport { ntp: u64::from(number) << 40, timestamp: u32::from(number) << 12 };
                core.sender_report(now, track, layer, report, &mut Sink);
            }
            _ => {
                let packet = rest.piece();
                if let Ok(packet) = parse_link_packet(packet)
                    && let Some(seq) = seqs.get_mut(usize::from(layer.0)).and_then(|seq| seq.extend(number))
                {
                    let packet = Packet { codec: Codec::Vp8, ..packet.packet(seq) };
                    core.ingest(now, track, layer, &packet, &mut Sink);
                }
            }
        }
        while core.poll_wanted().is_some() {}
    }
}
