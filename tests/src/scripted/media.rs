//! RTP payloads of synthetic audio and video: valid as far as an SFU parses them, with marks that tell
//! the receiver which layer and frame it got.

use std::time::{Duration, Instant};

/// The codec of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptedCodec {
    /// Audio, 50 packets a second.
    Opus,
    /// Video, 20 frames a second in each layer.
    Vp8,
    /// Video, 20 frames a second in each layer.
    H264,
}

impl ScriptedCodec {
    /// The subtype of its MIME type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "vp8",
            Self::H264 => "h264",
        }
    }

    pub(crate) fn interval(self) -> Duration {
        Duration::from_millis(if self == Self::Opus { 20 } else { 50 })
    }

    fn ticks(self) -> u32 {
        if self == Self::Opus { 960 } else { 4500 }
    }
}

/// Width and height of a layer; layer 0 is the smallest.
#[must_use]
pub(super) fn size(layer: usize) -> (u32, u32) {
    [(320, 180), (640, 360), (1280, 720)].get(layer).copied().unwrap_or((1280, 720))
}

/// What the receiver reads from a video payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoFrame {
    /// The simulcast layer.
    pub layer: u8,
    /// Whether it starts a key frame.
    pub key: bool,
    /// The VP8 picture id (RFC 7741).
    pub id: Option<u16>,
}

/// A packet of one layer, to be sent.
pub(super) struct Packet {
    pub(super) layer: usize,
    pub(super) seq: u64,
    pub(super) time: u32,
    pub(super) payload: Vec<u8>,
}

/// The source of a track's packets.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) codec: ScriptedCodec,
    pub(super) next: Instant,
    frame: u32,
    layers: Vec<Layer>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    count: u64,
    key_due: bool,
    enabled: bool,
}

impl Source {
    pub(super) fn new(codec: ScriptedCodec, layers: usize, now: Instant) -> Self {
        let layer = Layer { count: 0, key_due: true, enabled: true };
        Self { codec, next: now, frame: 0, layers: vec![layer; layers.max(1)] }
    }

    pub(super) fn key_frame(&mut self, layer: usize) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_due = true;
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Packet> {
        let mut out = Vec::new();
        while self.next <= now {
            self.next += self.codec.interval();
            let time = self.frame.wrapping_mul(self.codec.ticks());
            self.frame += 1;
            let only = self.layers.len() == 1;
            for (index, layer) in self.layers.iter_mut().enumerate().filter(|(_, layer)| layer.enabled) {
                let key = std::mem::take(&mut layer.key_due);
                let mark = if only { 2 } else { index };
                let payload = payload(self.codec, mark, key, self.frame as u16);
                out.push(Packet { layer: index, seq: 1000 + layer.count, time, payload });
                layer.count += 1;
            }
        }
        out
    }
}

/// One packet: a whole video frame or 20 ms of audio. Picture ids of each layer have their own offset.
fn payload(codec: ScriptedCodec, layer: usize, key: bool, frame: u16) -> Vec<u8> {
    let (width, height) = size(layer);
    let mark = u8::try_from(layer).unwrap_or_default();
    match codec {
        ScriptedCodec::Opus => vec![0x78, 1, 2, 3, 4, 5, 6, 7],
        ScriptedCodec::Vp8 => {
            // RFC 7741: X and S; I, L, T and K; picture id of 15 bits.
            let id = frame.wrapping_add(u16::from(mark) * 1000) & 0x7FFF;
            let [high, low] = id.to_be_bytes();
            let mut bytes = vec![0x90, 0xF0, 0x80 | high, low, frame as u8, 0];
            bytes.extend([u8::from(!key) | 0x10, 0, 0]);
            if key {
                bytes.extend([0x9D, 0x01, 0x2A]);
                bytes.extend((width as u16).to_le_bytes());
                bytes.extend((height as u16).to_le_bytes());
            }
            bytes.extend([mark; 40]);
            bytes
        }
        ScriptedCodec::H264 if key => {
            // RFC 6184: SPS, PPS and an IDR slice in one STAP-A.
            let mut bytes = vec![0x78];
            for unit in
                [&[0x67, 0x42, 0xE0, 0x1F, mark][..], &[0x68, 0xCE, 0x3C][..], &[0x65, 0x88, mark][..]]
            {
                bytes.extend((unit.len() as u16).to_be_bytes());
                bytes.extend(unit);
            }
            bytes
        }
        ScriptedCodec::H264 => vec![0x41, 0x9A, mark, mark],
    }
}

/// Reads a payload of [`payload`], in which the server may have rewritten the picture id.
pub(super) fn frame(codec: ScriptedCodec, bytes: &[u8]) -> Option<VideoFrame> {
    match codec {
        ScriptedCodec::Opus => None,
        ScriptedCodec::Vp8 => {
            let [first, flags, high, low, _, _, tag, ..] = *bytes else { return None };
            (first == 0x90 && flags == 0xF0).then_some(VideoFrame {
                layer: *bytes.last()?,
                key: tag & 1 == 0,
                id: Some(u16::from_be_bytes([high & 0x7F, low])),
            })
        }
        ScriptedCodec::H264 => {
            Some(VideoFrame { layer: *bytes.last()?, key: bytes.first()? & 0x1F == 24, id: None })
        }
    }
}
