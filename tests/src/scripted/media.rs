//! As much of sound and pictures as a server looks at, such that the receiver can tell what it got.

use std::time::{Duration, Instant};

/// How a track is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Sound, 50 packets a second.
    Opus,
    /// Pictures, 20 a second in each layer.
    Vp8,
    /// Pictures, 20 a second in each layer.
    H264,
}

impl Coding {
    /// As MIME names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "vp8",
            Self::H264 => "h264",
        }
    }

    fn interval(self) -> Duration {
        Duration::from_millis(if self == Self::Opus { 20 } else { 50 })
    }

    fn ticks(self) -> u32 {
        if self == Self::Opus { 960 } else { 4500 }
    }
}

/// Width and height of a layer, 0 the smallest.
#[must_use]
pub(super) fn size(layer: usize) -> (u32, u32) {
    [(320, 180), (640, 360), (1280, 720)].get(layer).copied().unwrap_or((1280, 720))
}

/// What a video payload shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Which layer.
    pub layer: u8,
    /// Does a key frame begin here?
    pub key: bool,
    /// VP8's running number of the picture.
    pub id: Option<u16>,
}

/// What is to be sent of one layer.
pub(super) struct Packet {
    pub(super) layer: usize,
    pub(super) seq: u64,
    pub(super) time: u32,
    pub(super) payload: Vec<u8>,
}

/// A track being sent.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) coding: Coding,
    pub(super) next: Instant,
    frame: u32,
    layers: Vec<Layer>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    count: u64,
    key_due: bool,
    wanted: bool,
}

impl Source {
    pub(super) fn new(coding: Coding, layers: usize, now: Instant) -> Self {
        let layer = Layer { count: 0, key_due: true, wanted: true };
        Self { coding, next: now, frame: 0, layers: vec![layer; layers.max(1)] }
    }

    pub(super) fn key_frame(&mut self, layer: usize) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_due = true;
        }
    }

    pub(super) fn due(&mut self, now: Instant) -> Vec<Packet> {
        let mut out = Vec::new();
        while self.next <= now {
            self.next += self.coding.interval();
            let time = self.frame.wrapping_mul(self.coding.ticks());
            self.frame += 1;
            let only = self.layers.len() == 1;
            for (index, layer) in self.layers.iter_mut().enumerate().filter(|(_, layer)| layer.wanted) {
                let key = std::mem::take(&mut layer.key_due);
                let shown = if only { 2 } else { index };
                let payload = payload(self.coding, shown, key, self.frame as u16);
                out.push(Packet { layer: index, seq: 1000 + layer.count, time, payload });
                layer.count += 1;
            }
        }
        out
    }
}

/// One packet: a whole picture or 20 ms of sound. Each layer counts its pictures from its own start.
fn payload(coding: Coding, layer: usize, key: bool, frame: u16) -> Vec<u8> {
    let (width, height) = size(layer);
    let mark = u8::try_from(layer).unwrap_or_default();
    match coding {
        Coding::Opus => vec![0x78, 1, 2, 3, 4, 5, 6, 7],
        Coding::Vp8 => {
            // RFC 7741: X and S; I, L, T and K; 15 bits of picture id.
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
        Coding::H264 if key => {
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
        Coding::H264 => vec![0x41, 0x9A, mark, mark],
    }
}

/// Reads what [`payload`] wrote, and a server may have renumbered.
pub(super) fn picture(coding: Coding, bytes: &[u8]) -> Option<Picture> {
    match coding {
        Coding::Opus => None,
        Coding::Vp8 => {
            let [first, flags, high, low, _, _, tag, ..] = *bytes else { return None };
            (first == 0x90 && flags == 0xF0).then_some(Picture {
                layer: *bytes.last()?,
                key: tag & 1 == 0,
                id: Some(u16::from_be_bytes([high & 0x7F, low])),
            })
        }
        Coding::H264 => Some(Picture { layer: *bytes.last()?, key: bytes.first()? & 0x1F == 24, id: None }),
    }
}
