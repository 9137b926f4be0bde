//! Video of one participant: the VP8 frames of a clip in one or three layers, padded to the configured
//! bit rate with bytes that decoders ignore.

use std::time::{Duration, Instant};

use super::clip::{CLIP_FPS, Clip, KEY_FRAME_INTERVAL};
use super::schedule::Schedule;
use super::stamp::{STAMP_BYTES, Stamp, unix_us};
use super::vp8::{DESCRIPTOR_BYTES, Numbers, is_key_frame};
use super::{Outgoing, skipped};

/// Encoding parameters of a video track.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding {
    /// Three layers instead of the largest alone.
    pub(crate) simulcast: bool,
    /// Of the largest layer, bit/s; each smaller layer has a third.
    pub(crate) bitrate: u32,
    pub(crate) fps: u32,
    /// Payload of a full packet, bytes.
    pub(crate) packet: usize,
}

#[derive(Debug)]
pub(crate) struct Video {
    pub(super) next: Instant,
    interval: Duration,
    schedule: Schedule,
    /// Of the schedule; one frame each.
    step: u64,
    time: u32,
    ticks: u32,
    packet: usize,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    frames: &'static [&'static [u8]],
    /// Bytes of a frame at the configured bit rate.
    frame_bytes: usize,
    /// Bytes that may be sent before the bit rate is exceeded. Negative after a large frame.
    credit: i64,
    /// Credit is never further below 0: what one second may carry.
    debt: i64,
    subscribed: bool,
    key_frame_due: bool,
    /// Frames by which this layer is behind the schedule, after it went back to a key frame.
    behind: u64,
    count: u32,
    numbers: Numbers,
}

impl Video {
    /// `now_us` is the Unix time of `start`.
    pub(crate) fn new(
        start: Instant,
        now_us: u64,
        clip: &'static Clip,
        schedule: Schedule,
        encoding: Encoding,
    ) -> Self {
        let fps = encoding.fps.max(1);
        let layers = if encoding.simulcast { &clip.layers[..] } else { &clip.layers[2..] };
        let count = u32::try_from(layers.len()).unwrap_or(1);
        let layers = (1..=count).zip(layers).map(|(rank, frames)| {
            let bytes_per_second = encoding.bitrate / 3_u32.pow(count - rank) / 8;
            Layer {
                frames,
                frame_bytes: (bytes_per_second / fps) as usize,
                credit: 0,
                debt: i64::from(bytes_per_second),
                subscribed: true,
                key_frame_due: true,
                behind: 0,
                count: 0,
                numbers: Numbers::default(),
            }
        });
        Self {
            next: start,
            interval: Duration::from_secs(1) / fps,
            schedule,
            step: schedule.step(now_us, CLIP_FPS),
            time: 0,
            ticks: 90_000 / fps,
            packet: encoding.packet.max(64),
            layers: layers.collect(),
        }
    }

    /// After a PLI or FIR: the layer continues at the last key frame of the schedule, and follows the
    /// schedule again from the next one on.
    pub(crate) fn request_key_frame(&mut self, layer: usize) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_frame_due = true;
        }
    }

    /// A layer without subscribers is not sent. When it has some again, it begins with a key frame.
    pub(crate) fn set_subscribed(&mut self, layer: usize, subscribed: bool) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_frame_due |= subscribed && !layer.subscribed;
            layer.subscribed = subscribed;
        }
    }

    pub(super) fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        let skipped = skipped(now, &mut self.next, self.interval);
        if skipped > 0 {
            self.advance(skipped);
            self.layers.iter_mut().for_each(|layer| layer.key_frame_due = true);
        }
        while self.next <= now {
            for (index, layer) in self.layers.iter_mut().enumerate().filter(|(_, layer)| layer.subscribed) {
                layer.frame(index, self.step, self.schedule, self.time, self.packet, out);
            }
            self.advance(1);
            self.next += self.interval;
        }
    }

    fn advance(&mut self, frames: u32) {
        self.step += u64::from(frames);
        self.time = self.time.wrapping_add(frames.wrapping_mul(self.ticks));
    }
}

impl Layer {
    fn frame(
        &mut self,
        index: usize,
        step: u64,
        schedule: Schedule,
        time: u32,
        packet: usize,
        out: &mut Vec<Outgoing>,
    ) {
        let since_key_frame = step % KEY_FRAME_INTERVAL;
        if std::mem::take(&mut self.key_frame_due) || since_key_frame == 0 {
            self.behind = since_key_frame;
        }
        let position = schedule.position(step - self.behind, CLIP_FPS);
        let Some(frame) = self.frames.get(position) else { return };
        self.numbers.advance(is_key_frame(frame));

        let capacity = packet - DESCRIPTOR_BYTES;
        let size = self.padded_size(frame.len(), capacity);
        let packets = size.div_ceil(capacity);
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(frame);
        bytes.resize(size - STAMP_BYTES, 0);
        let last = self.count.wrapping_add(u32::try_from(packets - 1).unwrap_or(0));
        Stamp {
            sent_us: unix_us(),
            count: last,
            layer: u8::try_from(index).unwrap_or(u8::MAX),
            packets: u16::try_from(packets).unwrap_or(u16::MAX),
        }
        .write(&mut bytes);
        for (number, part) in bytes.chunks(capacity).enumerate() {
            let mut payload = Vec::with_capacity(DESCRIPTOR_BYTES + part.len());
            payload.extend_from_slice(&self.numbers.descriptor(number == 0));
            payload.extend_from_slice(part);
            out.push(Outgoing {
                layer: index,
                seq: u64::from(self.count),
                time,
                marker: number + 1 == packets,
                level: None,
                payload,
            });
            self.count = self.count.wrapping_add(1);
        }
    }

    /// Bytes of a frame with padding and stamp.
    fn padded_size(&mut self, frame: usize, capacity: usize) -> usize {
        self.credit += self.frame_bytes as i64;
        let least = frame + STAMP_BYTES;
        let mut size = least.max(usize::try_from(self.credit).unwrap_or(0));
        // The stamp must not span two packets.
        let last = size % capacity;
        if (1..STAMP_BYTES).contains(&last) {
            size += STAMP_BYTES - last;
        }
        self.credit = (self.credit - size as i64).max(-self.debt);
        size
    }
}

#[cfg(test)]
mod tests {
    use super::super::VIDEO_BYTES;
    use super::super::vp8::frame_start;
    use super::*;

    const ENCODING: Encoding =
        Encoding { simulcast: false, bitrate: 800_000, fps: CLIP_FPS, packet: VIDEO_BYTES };

    fn video(start: Instant, encoding: Encoding) -> Video {
        Video::new(start, 0, Clip::of(0), Schedule::speaker(0, 1), encoding)
    }

    fn seconds(mut video: Video, start: Instant, seconds: u64) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for ms in (0..seconds * 1_000).step_by(5) {
            video.produce(start + Duration::from_millis(ms), &mut out);
        }
        out
    }

    fn of_layer(out: &[Outgoing], layer: usize) -> Vec<&Outgoing> {
        out.iter().filter(|packet| packet.layer == layer).collect()
    }

    /// Frames put together again: RTP time and bytes behind the descriptors.
    fn frames(packets: &[&Outgoing]) -> Vec<(u32, Vec<u8>)> {
        let mut frames: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut whole = true;
        for packet in packets {
            if whole {
                assert!(frame_start(&packet.payload).is_some());
                frames.push((packet.time, Vec::new()));
            }
            frames.last_mut().unwrap().1.extend_from_slice(&packet.payload[DESCRIPTOR_BYTES..]);
            whole = packet.marker;
        }
        frames
    }

    #[test]
    fn packets_put_together_are_the_frames_of_the_clip_loop_after_loop() {
        let start = Instant::now();
        let out = seconds(video(start, Encoding { simulcast: true, ..ENCODING }), start, 20);
        for (layer, clip) in Clip::of(0).layers.iter().enumerate() {
            let frames = frames(&of_layer(&out, layer));
            assert_eq!(frames.len(), 300);
            for (number, (time, bytes)) in frames.iter().enumerate() {
                assert_eq!(*time, number as u32 * 6_000);
                let clip = clip[number % 120];
                assert_eq!(&bytes[..clip.len()], clip, "frame {number}");
                let padding = &bytes[clip.len()..bytes.len() - STAMP_BYTES];
                assert!(padding.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn running_numbers_go_on_over_the_end_of_the_clip() {
        let start = Instant::now();
        let out = seconds(video(start, ENCODING), start, 20);
        let firsts: Vec<_> = out.iter().filter(|packet| frame_start(&packet.payload).is_some()).collect();
        let picture_id =
            |packet: &Outgoing| u16::from_be_bytes([packet.payload[2] & 0x7F, packet.payload[3]]);
        for pair in firsts.windows(2) {
            assert_eq!(picture_id(pair[1]), picture_id(pair[0]) + 1);
            assert_eq!(pair[1].payload[4], pair[0].payload[4].wrapping_add(1), "TL0PICIDX");
            let key = frame_start(&pair[1].payload) == Some(true);
            assert_eq!(pair[1].payload[5], (pair[0].payload[5] + u8::from(key)) & 0x1F, "KEYIDX");
        }
        assert!(out.iter().zip(0..).all(|(packet, seq)| packet.seq == seq));
    }

    #[test]
    fn each_frame_has_one_stamp_that_numbers_all_its_packets() {
        let start = Instant::now();
        for packet in [64, 500, VIDEO_BYTES, 1_181] {
            let out = seconds(video(start, Encoding { packet, ..ENCODING }), start, 3);
            let mut begins = 0;
            for (number, sent) in (0..).zip(&out) {
                assert!(sent.payload.len() <= packet);
                let stamp = Stamp::read(&sent.payload);
                assert_eq!(stamp.is_some(), sent.marker);
                if let Some(stamp) = stamp {
                    assert_eq!((stamp.count, u32::from(stamp.packets)), (number, number - begins + 1));
                    begins = number + 1;
                }
            }
        }
    }

    #[test]
    fn video_has_the_configured_bit_rate() {
        let start = Instant::now();
        for (bitrate, fps) in [(300_000, CLIP_FPS), (800_000, CLIP_FPS), (800_000, 25), (2_500_000, 30)] {
            let out = seconds(video(start, Encoding { bitrate, fps, ..ENCODING }), start, 10);
            let rate = out.iter().map(|packet| packet.payload.len()).sum::<usize>() as u32 * 8 / 10;
            assert!((bitrate * 19 / 20..bitrate * 21 / 20).contains(&rate), "{rate} of {bitrate}");
            assert_eq!(out.iter().filter(|packet| packet.marker).count(), 10 * fps as usize);
        }
    }

    #[test]
    fn three_layers_have_their_own_counts_and_a_third_of_the_rate_each() {
        let start = Instant::now();
        let out = seconds(video(start, Encoding { simulcast: true, ..ENCODING }), start, 10);
        let bytes = |layer| of_layer(&out, layer).iter().map(|packet| packet.payload.len()).sum::<usize>();
        assert!(bytes(2) > 2 * bytes(1) && bytes(1) > 2 * bytes(0));
        for layer in 0..3 {
            assert!(of_layer(&out, layer).iter().zip(0..).all(|(packet, seq)| packet.seq == seq));
        }
    }

    /// Layers that begin a key frame, and layers that send, at each of the next frames.
    fn step(video: &mut Video, at: &mut Instant) -> (Vec<usize>, Vec<usize>) {
        let mut out = Vec::new();
        video.produce(*at, &mut out);
        *at += video.interval;
        let layers = |wanted: &dyn Fn(&Outgoing) -> bool| {
            out.iter().filter(|packet| wanted(packet)).map(|packet| packet.layer).collect()
        };
        (layers(&|packet| frame_start(&packet.payload) == Some(true)), layers(&|packet| packet.marker))
    }

    #[test]
    fn key_frame_is_sent_first_on_request_each_second_and_when_a_layer_has_subscribers_again() {
        let mut at = Instant::now();
        let mut video = video(at, Encoding { simulcast: true, ..ENCODING });
        assert_eq!(step(&mut video, &mut at), (vec![0, 1, 2], vec![0, 1, 2]));
        assert_eq!(step(&mut video, &mut at), (vec![], vec![0, 1, 2]));
        video.request_key_frame(1);
        assert_eq!(step(&mut video, &mut at), (vec![1], vec![0, 1, 2]));
        assert_eq!(step(&mut video, &mut at), (vec![], vec![0, 1, 2]));
        video.set_subscribed(2, false);
        assert_eq!(step(&mut video, &mut at), (vec![], vec![0, 1]));
        video.set_subscribed(2, true);
        assert_eq!(step(&mut video, &mut at), (vec![2], vec![0, 1, 2]));
        for _ in 6..15 {
            assert_eq!(step(&mut video, &mut at).0, Vec::<usize>::new());
        }
        assert_eq!(step(&mut video, &mut at), (vec![0, 1, 2], vec![0, 1, 2]));
        video.request_key_frame(9);
        video.set_subscribed(9, true);
    }

    #[test]
    fn frames_after_a_requested_key_frame_follow_it_in_the_clip() {
        let mut at = Instant::now();
        let start = at;
        let mut video = video(start, ENCODING);
        let mut out = Vec::new();
        for number in 0..40 {
            if number == 21 {
                video.request_key_frame(0);
            }
            video.produce(at, &mut out);
            at += video.interval;
        }
        let sent = frames(&of_layer(&out, 0));
        // Frame 15 is the last key frame before the request; frame 30 the next.
        let expected = (0..21).chain(15..24).chain(30..40);
        for ((number, (time, bytes)), place) in sent.iter().enumerate().zip(expected) {
            assert_eq!(*time, number as u32 * 6_000);
            assert!(bytes.starts_with(Clip::of(0).layers[2][place]), "frame {number} is frame {place}");
        }
    }

    #[test]
    fn video_that_fell_behind_continues_with_a_key_frame() {
        let start = Instant::now();
        let mut video = video(start, ENCODING);
        let mut out = Vec::new();
        video.produce(start, &mut out);
        out.clear();
        video.produce(start + Duration::from_millis(3_500), &mut out);
        assert_eq!(out.iter().filter(|packet| packet.marker).count(), 1);
        assert_eq!(frame_start(&out[0].payload), Some(true));
        assert_eq!(out[0].time, 52 * 6_000);
    }
}
