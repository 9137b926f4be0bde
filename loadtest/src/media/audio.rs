//! Audio of one participant: the Opus packets of a clip, with a stamp in their padding.

use std::time::{Duration, Instant};

use super::clip::{AudioPacket, Clip, PACKETS_PER_SECOND};
use super::schedule::Schedule;
use super::stamp::{STAMP_BYTES, Stamp, unix_us};
use super::{Outgoing, skipped};

const INTERVAL: Duration = Duration::from_millis(20);
/// RTP timestamp units of a packet at 48 kHz (RFC 7587 section 4.1).
const TICKS: u32 = 960;
/// A participant that never speaks sends one packet of this many, as Opus does with DTX (RFC 7587
/// section 3.1.3).
const DTX: u32 = 20;

#[derive(Debug)]
pub(crate) struct Audio {
    pub(super) next: Instant,
    clip: &'static Clip,
    schedule: Schedule,
    /// Of the schedule, 20 ms each.
    step: u64,
    count: u32,
    time: u32,
    /// Steps from one packet to the next.
    every: u32,
}

impl Audio {
    /// `now_us` is the Unix time of `start`.
    pub(crate) fn new(start: Instant, now_us: u64, clip: &'static Clip, schedule: Schedule) -> Self {
        let step = schedule.step(now_us, PACKETS_PER_SECOND);
        Self { next: start, clip, schedule, step, count: 0, time: 0, every: 1 }
    }

    /// A participant that never speaks.
    pub(crate) fn silent(start: Instant, now_us: u64, clip: &'static Clip, index: usize) -> Self {
        Self { every: DTX, ..Self::new(start, now_us, clip, Schedule::listener(index)) }
    }

    pub(super) fn produce(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        let interval = INTERVAL * self.every;
        let skipped = skipped(now, &mut self.next, interval);
        self.advance(skipped);
        while self.next <= now {
            let position = self.schedule.position(self.step, PACKETS_PER_SECOND);
            let Some(packet) = self.clip.audio.get(position) else { return };
            let stamp = Stamp { sent_us: unix_us(), count: self.count, layer: 0, packets: 1 };
            out.push(Outgoing {
                layer: 0,
                seq: u64::from(self.count),
                time: self.time,
                marker: self.count == 0,
                level: Some(packet.level),
                payload: stamped(*packet, stamp),
            });
            self.count = self.count.wrapping_add(1);
            self.advance(1);
            self.next += interval;
        }
    }

    fn advance(&mut self, packets: u32) {
        let steps = packets * self.every;
        self.step += u64::from(steps);
        self.time = self.time.wrapping_add(steps.wrapping_mul(TICKS));
    }
}

/// Makes a packet of code 0 one of code 3 with one frame and padding (RFC 6716 section 3.2.5). The
/// decoder accepts any value for the padding bytes.
fn stamped(packet: AudioPacket, stamp: Stamp) -> Vec<u8> {
    const PADDING: u8 = 0x40;
    const ONE_FRAME: u8 = 1;
    const LENGTH: u8 = STAMP_BYTES as u8;
    let Some((toc, frame)) = packet.opus.split_first() else { return Vec::new() };
    let mut payload = Vec::with_capacity(frame.len() + STAMP_BYTES + 3);
    payload.extend_from_slice(&[toc | 3, PADDING | ONE_FRAME, LENGTH]);
    payload.extend_from_slice(frame);
    stamp.write(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(mut audio: Audio, start: Instant, seconds: u64) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for ms in (0..seconds * 1_000).step_by(5) {
            audio.produce(start + Duration::from_millis(ms), &mut out);
        }
        out
    }

    #[test]
    fn audio_is_fifty_packets_a_second_and_its_stamp_is_read_back() {
        let start = Instant::now();
        let out = seconds(Audio::new(start, 0, Clip::of(0), Schedule::speaker(0, 1)), start, 2);
        assert_eq!(out.len(), 100);
        assert_eq!(out[3].time - out[2].time, 960);
        let stamp = Stamp::read(&out[7].payload).unwrap();
        assert_eq!((stamp.count, stamp.packets), (7, 1));
    }

    #[test]
    fn packets_hold_the_frames_of_the_clip_and_its_levels_loop_after_loop() {
        let start = Instant::now();
        let clip = Clip::of(1);
        let out = seconds(Audio::new(start, 0, clip, Schedule::speaker(0, 1)), start, 17);
        for (number, packet) in out.iter().enumerate() {
            let whole = clip.audio[number % 400];
            assert_eq!(packet.level, Some(whole.level));
            assert_eq!((packet.seq, packet.time), (number as u64, number as u32 * 960));
            let frame = &packet.payload[3..packet.payload.len() - STAMP_BYTES];
            assert_eq!((packet.payload[0] & !3, frame), (whole.opus[0], &whole.opus[1..]));
            assert_eq!(packet.payload[..3], [whole.opus[0] | 3, 0x41, 19]);
        }
    }

    #[test]
    fn speakers_take_turns() {
        let start = Instant::now();
        let loud = |index| {
            let out = seconds(Audio::new(start, 0, Clip::of(index), Schedule::speaker(index, 2)), start, 16);
            out.iter().map(|packet| packet.level >= Some(-30)).collect::<Vec<_>>()
        };
        let (one, other) = (loud(0), loud(1));
        let both = one.iter().zip(&other).filter(|(one, other)| **one && **other).count();
        assert!(both < 40, "{both} packets: the turns of the two differ by less than a second");
        assert!(one.iter().any(|loud| *loud) && other.iter().any(|loud| *loud));
    }

    #[test]
    fn participant_that_never_speaks_sends_a_packet_every_400_ms() {
        let start = Instant::now();
        let out = seconds(Audio::silent(start, 0, Clip::of(0), 0), start, 2);
        assert_eq!(out.len(), 5);
        assert_eq!(out[3].time - out[2].time, 19_200);
        assert!(out.iter().all(|packet| packet.level == Some(-127)));
        assert_eq!(Stamp::read(&out[4].payload).unwrap().count, 4);
    }

    #[test]
    fn audio_that_fell_behind_skips_what_is_too_late() {
        let start = Instant::now();
        let mut audio = Audio::new(start, 0, Clip::of(0), Schedule::speaker(0, 1));
        let mut out = Vec::new();
        audio.produce(start + Duration::from_secs(60), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].seq, out[0].time), (0, 3_000 * 960));
        assert_eq!(audio.next, start + Duration::from_millis(60_020));
    }
}
