//! A core that is fed packets and feedback of any kind, in any order, must stay on its feet.
#![no_main]
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use systir_media::batch::Priority;
use systir_media::packet::{Codec, Kind, Layer, LayerSet, Packet, SenderReport};
use systir_media::rtp::{ExtendedSeq, parse_link_packet};
use systir_media::{Core, Egress, Forward, SubscriptionId, TrackId};

struct Sink;

impl Egress for Sink {
    fn forward(&mut self, _: SubscriptionId, _: &Forward<'_>) {}
    fn feed(&mut self, _: u32, _: u32, _: Priority, _: &Packet<'_>) {}
    fn feed_report(&mut self, _: u32, _: u32, _: SenderReport) {}
    fn request_key_frame(&mut self, _: TrackId, _: Layer) {}
    fn request_retransmission(&mut self, _: TrackId, _: Layer, _: &[u16]) {}
}

fuzz_target!(|steps: Vec<(u8, u16, Vec<u8>)>| {
    let mut core = Core::new(1);
    let mut now = Instant::now();
    let track = core.add_track(0, Kind::Video, Codec::Vp8, LayerSet(0b111));
    let Some(sub) = core.subscribe(track) else { return };
    core.feed(track, Layer(0), 1, 1);
    let mut seqs = [ExtendedSeq::default(); 4];
    for (what, number, bytes) in steps {
        now += Duration::from_millis(u64::from(number % 300));
        let layer = Layer(what & 3);
        match what >> 2 {
            0 => core.set_target(now, sub, Some(layer), &mut Sink),
            1 => core.set_target(now, sub, None, &mut Sink),
            2 => core.set_muted(track, what & 1 == 0),
            3 => core.nack(now, sub, (0..64).map(|step| number.wrapping_add(step)), &mut Sink),
            4 => core.feed_nack(now, 1, 1, std::iter::once(number), &mut Sink),
            5 => core.key_frame_wanted(now, sub, &mut Sink),
            6 => core.handle_timeout(now, &mut Sink),
            7 => {
                let report = SenderReport { ntp: u64::from(number) << 40, timestamp: u32::from(number) << 12 };
                core.sender_report(now, track, layer, report, &mut Sink);
            }
            _ => {
                if let Ok(packet) = parse_link_packet(&bytes)
                    && let Some(seq) = seqs[usize::from(layer.0)].extend(number)
                {
                    let packet = Packet { codec: Codec::Vp8, ..packet.packet(seq) };
                    core.ingest(now, track, layer, &packet, &mut Sink);
                }
            }
        }
        while core.poll_wanted().is_some() {}
    }
});
