//! The clips that participants publish: cartoon faces that speak and listen, VP8 in three sizes and
//! Opus. `loadtest/clips/make` made them.

use std::sync::LazyLock;

/// Video frames per second of a clip.
pub(crate) const CLIP_FPS: u32 = 15;
/// Audio packets per second.
pub(super) const PACKETS_PER_SECOND: u32 = 50;
/// A clip begins with this many seconds of speech.
pub(super) const SPEECH_SECONDS: u64 = 8;
/// Then it listens for this many seconds, with closed mouth and silent audio.
pub(super) const LISTENING_SECONDS: u64 = 4;
/// Each layer has a key frame each second and no others.
pub(super) const KEY_FRAME_INTERVAL: u64 = CLIP_FPS as u64;

/// The clip of one speaker.
#[derive(Debug)]
pub(crate) struct Clip {
    /// VP8 frames of each layer, smallest first.
    pub(super) layers: [Vec<&'static [u8]>; 3],
    pub(super) audio: Vec<AudioPacket>,
}

/// 20 ms of Opus.
#[derive(Debug, Clone, Copy)]
pub(super) struct AudioPacket {
    pub(super) opus: &'static [u8],
    /// Audio level of the signal, dBov: -127 to 0 (RFC 6464).
    pub(super) level: i8,
}

macro_rules! clip {
    ($name:literal) => {
        Clip::parse(
            [
                include_bytes!(concat!("../../clips/", $name, "/q.ivf")),
                include_bytes!(concat!("../../clips/", $name, "/h.ivf")),
                include_bytes!(concat!("../../clips/", $name, "/f.ivf")),
            ],
            include_bytes!(concat!("../../clips/", $name, "/audio.ogg")),
            include_bytes!(concat!("../../clips/", $name, "/levels")),
        )
    };
}

static CLIPS: LazyLock<[Clip; 4]> =
    LazyLock::new(|| [clip!("amber"), clip!("teal"), clip!("violet"), clip!("rose")]);

impl Clip {
    /// The clip of a participant, by its number.
    pub(crate) fn of(index: usize) -> &'static Self {
        let [first, ..] = &*CLIPS;
        CLIPS.get(index % CLIPS.len()).unwrap_or(first)
    }

    fn parse(layers: [&'static [u8]; 3], audio: &'static [u8], levels: &[u8]) -> Self {
        let packets = ogg_packets(audio);
        // The first two packets are headers (RFC 7845 section 3).
        let audio = packets
            .into_iter()
            .skip(2)
            .zip(levels)
            .map(|(opus, level)| AudioPacket { opus, level: -i8::try_from(*level).unwrap_or(i8::MAX) });
        Self { layers: layers.map(ivf_frames), audio: audio.collect() }
    }
}

/// Frames of an IVF file. Its header has its own length at offset 6; each frame follows a header of 12
/// bytes: length and timestamp.
fn ivf_frames(file: &'static [u8]) -> Vec<&'static [u8]> {
    let header = file.get(6..8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_le_bytes(*bytes));
    let mut rest = file.get(usize::from(header.unwrap_or(0))..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(frame) = behind.get(8..8 + length) else { break };
        frames.push(frame);
        rest = behind.get(8 + length..).unwrap_or_default();
    }
    frames
}

/// Packets of an Ogg file (RFC 3533 section 6) in which none spans two pages.
fn ogg_packets(file: &'static [u8]) -> Vec<&'static [u8]> {
    let mut packets = Vec::new();
    let mut rest = file;
    while let Some((header, behind)) = rest.split_first_chunk::<27>() {
        let Some((lacing, mut body)) = behind.split_at_checked(usize::from(header[26])) else { break };
        let mut length = 0;
        for value in lacing {
            length += usize::from(*value);
            if *value < 255 {
                let Some((packet, behind)) = body.split_at_checked(length) else { return packets };
                packets.push(packet);
                body = behind;
                length = 0;
            }
        }
        rest = body;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::super::SIZES;
    use super::super::vp8::is_key_frame;
    use super::*;

    fn clips() -> impl Iterator<Item = &'static Clip> {
        (0..CLIPS.len()).map(Clip::of)
    }

    #[test]
    fn each_layer_has_a_key_frame_of_its_size_each_second() {
        let count = (SPEECH_SECONDS + LISTENING_SECONDS) * u64::from(CLIP_FPS);
        for clip in clips() {
            for (layer, (width, height)) in clip.layers.iter().zip(SIZES) {
                assert_eq!(layer.len() as u64, count);
                for (number, frame) in (0..).zip(layer) {
                    let key = number % KEY_FRAME_INTERVAL == 0;
                    assert_eq!(is_key_frame(frame), key, "frame {number}");
                    assert_eq!(frame[0] & 0x10, 0x10, "frame {number} is shown");
                    if key {
                        // RFC 6386 section 9.1: start code, then width and height.
                        assert_eq!(frame[3..6], [0x9D, 0x01, 0x2A]);
                        let side = |at: usize| u32::from(u16::from_le_bytes([frame[at], frame[at + 1]]));
                        assert_eq!((side(6), side(8)), (width, height));
                    }
                }
            }
        }
    }

    #[test]
    fn each_audio_packet_is_one_opus_frame_of_twenty_milliseconds() {
        let count = (SPEECH_SECONDS + LISTENING_SECONDS) * u64::from(PACKETS_PER_SECOND);
        for clip in clips() {
            assert_eq!(clip.audio.len() as u64, count);
            for packet in &clip.audio {
                // RFC 6716 section 3.1: the configuration, and code 0 for one frame.
                let (config, code) = (packet.opus[0] >> 3, packet.opus[0] & 3);
                let twenty_ms = match config {
                    0..12 => config % 4 == 1,
                    12..16 => config % 2 == 1,
                    _ => config % 4 == 3,
                };
                assert!(twenty_ms && code == 0, "TOC {:#x}", packet.opus[0]);
            }
        }
    }

    /// LiveKit's speaker detection needs 40 % of 500 ms at -30 dBov or louder.
    #[test]
    fn speech_is_loud_enough_for_speaker_detection_and_listening_is_silent() {
        let speech = (SPEECH_SECONDS * u64::from(PACKETS_PER_SECOND)) as usize;
        for clip in clips() {
            let (speaking, listening) = clip.audio.split_at(speech);
            let active = |window: &[AudioPacket]| window.iter().filter(|packet| packet.level >= -30).count();
            let detected = speaking.chunks(25).filter(|window| active(window) >= 10).count();
            assert!(detected >= 10, "{detected} of 16 windows");
            assert!(listening.iter().all(|packet| packet.level == -127));
        }
    }

    /// The bit rate is variable: speech needs more bytes than silence.
    #[test]
    fn levels_follow_the_signal() {
        for clip in clips() {
            let mean = |wanted: fn(i8) -> bool| {
                let sizes = clip.audio.iter().filter(|packet| wanted(packet.level)).map(|p| p.opus.len());
                let (sum, count) = sizes.fold((0, 0), |(sum, count), size| (sum + size, count + 1));
                sum / count.max(1)
            };
            let (loud, silent) = (mean(|level| level >= -30), mean(|level| level == -127));
            assert!(loud > 2 * silent, "{loud} bytes when loud, {silent} when silent");
        }
    }
}
