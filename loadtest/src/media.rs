//! Synthetic sound and pictures: as much of Opus and VP8 as an SFU looks at, and in each packet a
//! stamp by which the receiver finds its age and what is missing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rids of the layers, smallest first, as LiveKit names them.
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];
/// Picture sizes of the layers.
pub(crate) const SIZES: [(u32, u32); 3] = [(320, 180), (640, 360), (1280, 720)];

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Opus with DTX describes silence this often (RFC 7587 section 3.1.3).
const SILENCE_INTERVAL: Duration = Duration::from_millis(400);
const SILENCE_BYTES: usize = 24;
/// 32 kbit/s.
const AUDIO_BYTES: usize = 80;
/// RTP payload of a full video packet when nothing else is wanted, below any sensible path MTU.
pub(crate) const VIDEO_BYTES: usize = 1_100;
/// A source that fell this far behind goes on from now instead of sending it all at once.
const TOO_LATE: Duration = Duration::from_millis(500);
const MAGIC: [u8; 4] = *b"SyLd";
const STAMP_BYTES: usize = 17;

/// What each synthetic packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was made, microseconds of Unix time.
    pub(crate) sent_us: u64,
    /// Which packet of its layer.
    pub(crate) count: u32,
    /// Layer, 0 the smallest.
    pub(crate) layer: u8,
}

impl Stamp {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.sent_us.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.push(self.layer);
    }

    /// Reads the stamp of a packet that one of us sent; none of others' packets.
    pub(crate) fn read(video: bool, payload: &[u8]) -> Option<Self> {
        let at = if video { vp8_body(payload)? } else { 1 };
        let stamp = payload.get(at..at + STAMP_BYTES)?;
        let (magic, rest) = stamp.split_first_chunk::<4>()?;
        let (sent, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        (*magic == MAGIC).then_some(Self {
            sent_us: u64::from_be_bytes(*sent),
            count: u32::from_be_bytes(*count),
            layer: *rest.first()?,
        })
    }
}

/// Unix time in microseconds.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Length of the VP8 payload descriptor (RFC 7741 section 4.2) and, at a frame's start, of the
/// frame header behind it.
fn vp8_body(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let at = vp8_descriptor(payload)?;
    let header = if first & 0x10 == 0 {
        0
    } else if payload.get(at)? & 1 == 0 {
        10
    } else {
        3
    };
    Some(at + header)
}

fn vp8_descriptor(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let present = *payload.get(1)?;
        at += 1;
        if present & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(present & 0x40 != 0) + usize::from(present & 0x30 != 0);
    }
    Some(at)
}

/// Does a frame begin in this payload (RFC 7741 section 4.2), and is it a key frame?
pub(crate) fn vp8_start(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let header = payload.get(vp8_descriptor(payload)?)?;
    (first & 0x17 == 0x10).then_some(header & 1 == 0)
}

/// One RTP packet to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Layer, 0 the smallest.
    pub(crate) layer: usize,
    pub(crate) seq: u64,
    pub(crate) time: u32,
    pub(crate) marker: bool,
    /// Audio level, -dBov, of sound.
    pub(crate) level: Option<i8>,
    pub(crate) payload: Vec<u8>,
}

/// Something that publishes.
#[derive(Debug)]
pub(crate) enum Source {
    Audio(Audio),
    Video(Video),
}

impl Source {
    pub(crate) fn is_video(&self) -> bool {
        matches!(self, Self::Video(_))
    }

    /// When [`Source::produce`] next has something.
    pub(crate) fn due(&self) -> Instant {
        match self {
            Self::Audio(audio) => audio.next,
            Self::Video(video) => video.next,
        }
    }

    /// Appends what is due.
    pub(crate) fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        match self {
            Self::Audio(audio) => audio.produce(now, out),
            Self::Video(video) => video.produce(now, out),
        }
    }
}

/// Opus of 20 ms a packet; participants speak in turns of four seconds. One that is silent sends a
/// description of the silence now and then.
#[derive(Debug)]
pub(crate) struct Audio {
    next: Instant,
    count: u32,
    time: u32,
    turn: u32,
    turns: u32,
    silent: bool,
}

impl Audio {
    pub(crate) fn new(start: Instant, index: usize, publishers: usize) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            next: start,
            count: 0,
            time: 0,
            turn: number(index),
            turns: number(publishers).max(1),
            silent: false,
        }
    }

    /// Somebody who says nothing.
    pub(crate) fn silent(start: Instant) -> Self {
        Self { silent: true, ..Self::new(start, 0, 1) }
    }

    fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        if now > self.next + TOO_LATE {
            self.next = now;
        }
        while self.next <= now {
            let speaks = !self.silent && (self.count / 200) % self.turns == self.turn % self.turns;
            let (bytes, interval) =
                if self.silent { (SILENCE_BYTES, SILENCE_INTERVAL) } else { (AUDIO_BYTES, AUDIO_INTERVAL) };
            let mut payload = Vec::with_capacity(bytes);
            payload.push(0x78);
            Stamp { sent_us: unix_us(), count: self.count, layer: 0 }.write(&mut payload);
            payload.resize(bytes, 0);
            out.push(Outgoing {
                layer: 0,
                seq: u64::from(self.count),
                time: self.time,
                marker: self.count == 0,
                level: Some(if speaks { -20 } else { -70 }),
                payload,
            });
            self.count = self.count.wrapping_add(1);
            self.time = self.time.wrapping_add(u32::try_from(interval.as_millis()).unwrap_or(0) * 48);
            self.next += interval;
        }
    }
}

/// VP8 of one or three layers.
#[derive(Debug)]
pub(crate) struct Video {
    next: Instant,
    interval: Duration,
    frame: u32,
    ticks: u32,
    packet: usize,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    size: (u32, u32),
    frame_bytes: usize,
    wanted: bool,
    key_frame_due: bool,
    count: u32,
    picture: u16,
    tl0: u8,
    key_index: u8,
}

impl Video {
    /// `bitrate` is of the largest layer, bit/s; each smaller one has a third.
    /// `packet` is the payload of a full packet, bytes.
    pub(crate) fn new(start: Instant, simulcast: bool, bitrate: u32, fps: u32, packet: usize) -> Self {
        let fps = fps.max(1);
        let sizes = if simulcast { &SIZES[..] } else { &SIZES[SIZES.len() - 1..] };
        let smaller = u32::try_from(sizes.len()).unwrap_or(1);
        let layers = (1..=smaller).zip(sizes).map(|(rank, size)| Layer {
            size: *size,
            frame_bytes: (bitrate / 3_u32.pow(smaller - rank) / 8 / fps) as usize,
            wanted: true,
            key_frame_due: true,
            count: 0,
            picture: 0,
            tl0: 0,
            key_index: 0,
        });
        Self {
            next: start,
            interval: Duration::from_secs(1) / fps,
            frame: 0,
            ticks: 90_000 / fps,
            packet: packet.max(64),
            layers: layers.collect(),
        }
    }

    /// A receiver cannot go on without a key frame.
    pub(crate) fn request_key_frame(&mut self, layer: usize) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_frame_due = true;
        }
    }

    /// The server has use for a layer, or none. One that comes back begins with a key frame.
    pub(crate) fn want(&mut self, layer: usize, wanted: bool) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_frame_due |= wanted && !layer.wanted;
            layer.wanted = wanted;
        }
    }

    fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        if now > self.next + TOO_LATE {
            self.next = now;
        }
        while self.next <= now {
            let time = self.frame.wrapping_mul(self.ticks);
            for (index, layer) in self.layers.iter_mut().enumerate().filter(|(_, layer)| layer.wanted) {
                layer.frame(index, time, self.packet, out);
            }
            self.frame = self.frame.wrapping_add(1);
            self.next += self.interval;
        }
    }
}

impl Layer {
    fn frame(&mut self, index: usize, time: u32, packet: usize, out: &mut Vec<Outgoing>) {
        let key = std::mem::take(&mut self.key_frame_due);
        self.picture = (self.picture + 1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(1);
        self.key_index = (self.key_index + u8::from(key)) & 0x1f;
        let layer = u8::try_from(index).unwrap_or(u8::MAX);
        let mut left = if key { 4 * self.frame_bytes } else { self.frame_bytes }.max(40);
        let mut first = true;
        while left > 0 {
            let size = left.min(packet);
            let mut payload = Vec::with_capacity(size + 64);
            let [high, low] = self.picture.to_be_bytes();
            let start = if first { 0x10 } else { 0 };
            payload.extend_from_slice(&[0x80 | start, 0xf0, 0x80 | high, low, self.tl0, self.key_index]);
            if first {
                self.frame_header(key, &mut payload);
            }
            Stamp { sent_us: unix_us(), count: self.count, layer }.write(&mut payload);
            payload.resize(payload.len().max(size), 0);
            left -= size;
            out.push(Outgoing {
                layer: index,
                seq: u64::from(self.count),
                time,
                marker: left == 0,
                level: None,
                payload,
            });
            self.count = self.count.wrapping_add(1);
            first = false;
        }
    }

    /// RFC 6386 section 9.1: the frame tag and, of a key frame, start code and dimensions.
    fn frame_header(&self, key: bool, payload: &mut Vec<u8>) {
        let partition = (self.frame_bytes as u32 & 0x7ffff) << 5;
        let tag = partition | 1 << 4 | u32::from(!key);
        payload.extend_from_slice(&tag.to_le_bytes()[..3]);
        if key {
            payload.extend_from_slice(&[0x9d, 0x01, 0x2a]);
            payload.extend_from_slice(&(self.size.0 as u16).to_le_bytes());
            payload.extend_from_slice(&(self.size.1 as u16).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(source: &mut Source, start: Instant, seconds: u64) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for ms in (0..seconds * 1_000).step_by(5) {
            source.produce(start + Duration::from_millis(ms), &mut out);
        }
        out
    }

    #[test]
    fn sound_is_fifty_packets_a_second_and_its_stamp_is_read_back() {
        let start = Instant::now();
        let out = seconds(&mut Source::Audio(Audio::new(start, 0, 1)), start, 2);
        assert_eq!(out.len(), 100);
        assert_eq!(out[3].time - out[2].time, 960);
        assert_eq!(Stamp::read(false, &out[7].payload).unwrap().count, 7);
        assert_eq!(Stamp::read(false, &[0x78; 80]), None, "somebody else's packet");
    }

    #[test]
    fn the_silent_send_a_packet_now_and_then() {
        let start = Instant::now();
        let out = seconds(&mut Source::Audio(Audio::silent(start)), start, 2);
        assert_eq!(out.len(), 5);
        assert_eq!(out[3].time - out[2].time, 19_200);
        assert!(out.iter().all(|packet| packet.level == Some(-70)));
        assert_eq!(Stamp::read(false, &out[4].payload).unwrap().count, 4);
    }

    #[test]
    fn frames_begin_where_their_descriptor_says_so() {
        let start = Instant::now();
        let out = seconds(&mut Source::Video(Video::new(start, false, 900_000, 10, 500)), start, 1);
        assert!(out.iter().all(|packet| packet.payload.len() <= 564));
        let starts: Vec<_> = out.iter().filter_map(|packet| vp8_start(&packet.payload)).collect();
        assert_eq!(starts.len(), 10);
        assert!(starts[0] && starts[1..].iter().all(|key| !key));
        assert_eq!(vp8_start(&[]), None);
        assert_eq!(vp8_start(&[0x10]), None);
    }

    #[test]
    fn speakers_take_turns() {
        let start = Instant::now();
        let loud = |index| {
            let out = seconds(&mut Source::Audio(Audio::new(start, index, 2)), start, 8);
            out.iter().map(|p| p.level == Some(-20)).collect::<Vec<_>>()
        };
        assert!(loud(0).iter().zip(&loud(1)).all(|(a, b)| a != b));
    }

    #[test]
    fn pictures_keep_the_bit_rate_and_each_packet_has_a_stamp() {
        let start = Instant::now();
        let out = seconds(&mut Source::Video(Video::new(start, false, 800_000, 25, VIDEO_BYTES)), start, 10);
        let bytes: usize = out.iter().map(|p| p.payload.len()).sum();
        let rate = bytes * 8 / 10;
        assert!((750_000..900_000).contains(&rate), "{rate}");
        for (count, packet) in out.iter().enumerate() {
            assert_eq!(Stamp::read(true, &packet.payload).unwrap().count as usize, count);
            assert!(packet.payload.len() <= VIDEO_BYTES + 64);
        }
        assert_eq!(out.iter().filter(|p| p.marker).count(), 250);
    }

    #[test]
    fn three_layers_have_their_own_counts_and_a_third_of_the_rate_each() {
        let start = Instant::now();
        let out = seconds(&mut Source::Video(Video::new(start, true, 900_000, 30, VIDEO_BYTES)), start, 10);
        let bytes = |layer| out.iter().filter(|p| p.layer == layer).map(|p| p.payload.len()).sum::<usize>();
        assert!(bytes(2) > 2 * bytes(1) && bytes(1) > 2 * bytes(0));
        for layer in 0..3 {
            let counts = out.iter().filter(|p| p.layer == layer).map(|p| p.seq);
            assert!(counts.enumerate().all(|(n, seq)| n as u64 == seq));
        }
    }

    fn is_key(packet: &Outgoing) -> bool {
        packet.payload[0] & 0x10 != 0 && packet.payload[6] & 1 == 0
    }

    #[test]
    fn a_key_frame_comes_first_on_request_and_when_a_layer_comes_back() {
        let start = Instant::now();
        let mut video = Video::new(start, true, 300_000, 10, VIDEO_BYTES);
        let mut at = start;
        let mut step = |video: &mut Video| {
            let mut out = Vec::new();
            video.produce(at, &mut out);
            at += Duration::from_millis(100);
            let keys: Vec<_> = out.iter().filter(|p| is_key(p)).map(|p| p.layer).collect();
            (keys, out.iter().any(|p| p.layer == 2))
        };
        assert_eq!(step(&mut video), (vec![0, 1, 2], true));
        assert_eq!(step(&mut video), (vec![], true));
        video.request_key_frame(1);
        assert_eq!(step(&mut video), (vec![1], true));
        video.want(2, false);
        assert_eq!(step(&mut video), (vec![], false));
        video.want(2, true);
        assert_eq!(step(&mut video), (vec![2], true));
        video.request_key_frame(9);
        video.want(9, true);
    }

    #[test]
    fn a_source_that_fell_behind_does_not_send_it_all_at_once() {
        let start = Instant::now();
        let mut source = Source::Audio(Audio::new(start, 0, 1));
        let mut out = Vec::new();
        source.produce(start + Duration::from_secs(60), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(source.due(), start + Duration::from_millis(60_020));
    }

    #[test]
    fn a_stamp_is_found_behind_any_descriptor() {
        let stamp = Stamp { sent_us: 5, count: 6, layer: 1 };
        for descriptor in
            [vec![0x00], vec![0x80, 0x80, 0x05], vec![0x80, 0x80, 0x85, 0x01], vec![0x80, 0x40, 9]]
        {
            let mut payload = descriptor.clone();
            stamp.write(&mut payload);
            assert_eq!(Stamp::read(true, &payload), Some(stamp), "{descriptor:?}");
            for cut in 0..payload.len() {
                assert_eq!(Stamp::read(true, &payload[..cut]), None);
            }
        }
    }
}
