//! The quality of one connection's media, from the receiver's reports on it (RFC 3550 section 6.4.1), by LiveKit's
//! measure: a simplified E-model of loss, round-trip time and jitter.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use systir_media_control::MediaQuality;
use systir_rtp::packet::{Codec, Kind};
use systir_rtp::rtcp::ReportBlock;

/// Reports of so long are judged together.
const WINDOW: Duration = Duration::from_secs(5);
/// Fewer packets say little.
const MIN_PACKETS: u64 = 20;
/// Streams of a connection that are followed.
const MAX_STREAMS: usize = 64;

const MAX_SCORE: f32 = 100.0;
/// A lower score would take long to recover.
const MIN_SCORE: f32 = 30.0;
/// Above it, quality is excellent.
const EXCELLENT: f32 = 80.0;
/// Above it, quality is good.
const GOOD: f32 = 40.0;
/// By how much of the difference the score follows: fast down, slowly up.
const FALL: f32 = 0.8;
const RISE: f32 = 0.4;
/// Points that each percent of loss costs: 4 % of audio, which has forward error correction, or 2 % of video is
/// noticed.
const AUDIO_LOSS: f32 = 5.3;
const VIDEO_LOSS: f32 = 10.0;

/// What the last report said of a stream.
#[derive(Debug, Clone, Copy)]
struct ReportedStream {
    ssrc: u32,
    extended_seq: u32,
    cumulative_lost: u32,
}

/// Packets of one kind in a window.
#[derive(Debug, Clone, Copy, Default)]
struct Packets {
    expected: u64,
    lost: u64,
}

impl Packets {
    fn loss_percent(self) -> f32 {
        if self.expected < MIN_PACKETS { 0.0 } else { self.lost as f32 * 100.0 / self.expected as f32 }
    }
}

/// The quality of one connection.
#[derive(Debug)]
pub(super) struct QualityMeter {
    streams: SmallVec<[ReportedStream; 4]>,
    audio: Packets,
    video: Packets,
    jitter: Duration,
    window_ends: Instant,
    score: f32,
}

impl QualityMeter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            streams: SmallVec::new(),
            audio: Packets::default(),
            video: Packets::default(),
            jitter: Duration::ZERO,
            window_ends: now + WINDOW,
            score: MAX_SCORE,
        }
    }

    /// Takes the report on a stream.
    pub(super) fn report(&mut self, codec: Codec, block: &ReportBlock) {
        let ReportBlock { ssrc, extended_seq, cumulative_lost, jitter, .. } = *block;
        let newest = ReportedStream { ssrc, extended_seq, cumulative_lost };
        let Some(known) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) else {
            if self.streams.len() >= MAX_STREAMS {
                self.streams.remove(0);
            }
            self.streams.push(newest);
            return;
        };
        let before = std::mem::replace(known, newest);
        let expected = extended_seq.wrapping_sub(before.extended_seq);
        // The stream began anew, or the report is an old one.
        if expected > u32::from(u16::MAX) {
            return;
        }
        let lost = cumulative_lost.saturating_sub(before.cumulative_lost).min(expected);
        let packets = match codec.kind() {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        packets.expected += u64::from(expected);
        packets.lost += u64::from(lost);
        let micros = u64::from(jitter) * 1_000_000 / u64::from(codec.clock_rate());
        self.jitter = self.jitter.max(Duration::from_micros(micros));
    }

    /// Judges the window, if it has ended. True when it did. `round_trip`: of media that we send.
    pub(super) fn judge(&mut self, now: Instant, round_trip: Option<Duration>) -> bool {
        if now < self.window_ends {
            return false;
        }
        self.window_ends = now + WINDOW;
        let (audio, video) = (std::mem::take(&mut self.audio), std::mem::take(&mut self.video));
        let jitter = std::mem::take(&mut self.jitter);
        let delay = round_trip.unwrap_or_default() / 2 + jitter * 2;
        let delay = delay.as_secs_f32() * 1000.0;
        let delay = if delay > 160.0 { (delay - 120.0) / 10.0 } else { delay / 40.0 };
        let loss = (audio.loss_percent() * AUDIO_LOSS).max(video.loss_percent() * VIDEO_LOSS);
        let score = (MAX_SCORE - delay - loss).max(0.0);
        let factor = if score < self.score { FALL } else { RISE };
        self.score = (self.score + (score - self.score) * factor).max(MIN_SCORE);
        true
    }

    pub(super) fn quality(&self) -> MediaQuality {
        if self.score > EXCELLENT {
            MediaQuality::Excellent
        } else if self.score > GOOD {
            MediaQuality::Good
        } else {
            MediaQuality::Poor
        }
    }

    /// The mean opinion score (ITU-T G.107 annex B).
    pub(super) fn mean_opinion(&self) -> f32 {
        let score = self.score;
        1.0 + 0.035 * score + 0.000_007 * score * (score - 60.0) * (100.0 - score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Link {
        meter: QualityMeter,
        now: Instant,
        block: ReportBlock,
    }

    impl Link {
        fn new() -> Self {
            let now = Instant::now();
            let block = ReportBlock {
                ssrc: 7,
                fraction_lost: 0,
                cumulative_lost: 0,
                extended_seq: 0xFFFF_FF00,
                jitter: 0,
                last_sr: 0,
                delay_since_last_sr: 0,
            };
            Self { meter: QualityMeter::new(now), now, block }
        }

        /// A window of 500 packets with this loss, in thousandths.
        fn window(&mut self, codec: Codec, lost: u32) -> MediaQuality {
            for _ in 0..5 {
                self.meter.report(codec, &self.block);
                self.now += Duration::from_secs(1);
                self.block.extended_seq = self.block.extended_seq.wrapping_add(100);
                self.block.cumulative_lost += lost / 10;
            }
            assert!(self.meter.judge(self.now, Some(Duration::from_millis(30))));
            self.meter.quality()
        }
    }

    #[test]
    fn loss_lowers_the_quality_at_once_and_it_recovers_slowly() {
        let mut link = Link::new();
        assert_eq!(link.window(Codec::Vp8, 0), MediaQuality::Excellent);
        assert!(link.meter.mean_opinion() > 4.4);
        assert_eq!(link.window(Codec::Vp8, 40), MediaQuality::Good);
        assert_eq!(link.window(Codec::Vp8, 150), MediaQuality::Poor);
        let recovered = (0..10).find(|_| link.window(Codec::Vp8, 0) == MediaQuality::Excellent);
        assert!((1..6).contains(&recovered.unwrap()), "{recovered:?}");
    }

    #[test]
    fn audio_stands_more_loss_than_video() {
        assert_eq!(Link::new().window(Codec::Opus, 30), MediaQuality::Excellent);
        assert_eq!(Link::new().window(Codec::Vp8, 30), MediaQuality::Good);
    }

    #[test]
    fn delay_and_jitter_count() {
        let mut link = Link::new();
        link.block.jitter = 90 * 100;
        assert_eq!(link.window(Codec::Vp8, 0), MediaQuality::Excellent);
        link.block.jitter = 90 * 400;
        assert_eq!(link.window(Codec::Vp8, 0), MediaQuality::Good);
    }

    #[test]
    fn a_stream_that_begins_anew_is_not_lost() {
        let mut link = Link::new();
        link.window(Codec::Vp8, 0);
        link.block.extended_seq = 5;
        link.block.cumulative_lost = 0;
        assert_eq!(link.window(Codec::Vp8, 0), MediaQuality::Excellent);
    }

    #[test]
    fn few_packets_say_nothing() {
        let mut link = Link::new();
        link.meter.report(Codec::Opus, &link.block);
        link.block.extended_seq = link.block.extended_seq.wrapping_add(10);
        link.block.cumulative_lost = 5;
        link.meter.report(Codec::Opus, &link.block);
        assert!(!link.meter.judge(link.now, None), "the window has not ended");
        assert!(link.meter.judge(link.now + WINDOW, None));
        assert_eq!(link.meter.quality(), MediaQuality::Excellent);
    }
}
