//! Speaker detection from the audio levels in packets (RFC 6464), by LiveKit's rule. A track is active when
//! at least 40 % of a window of 500 ms is at -30 dBov or louder. Its level is the loudest one in the window,
//! weighted by the active part of the window and smoothed over four windows.

use std::time::{Duration, Instant};

use crate::TrackId;

/// Quietest level that counts as speech, in -dBov.
const ACTIVE_LEVEL: u8 = 30;
/// Length of the window.
const WINDOW: Duration = Duration::from_millis(500);
/// Part of the window that must be active, percent.
const MIN_ACTIVE_PERCENT: u32 = 40;
/// Windows over which the level is smoothed.
const SMOOTHING_WINDOWS: f64 = 4.0;
/// Steps of the reported level.
const STEPS: f64 = 8.0;
/// Longest duration that one packet counts for.
const MAX_PACKET_DURATION: Duration = Duration::from_millis(120);

/// A change of a track's loudness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackLoudness {
    /// The group that the track was added with.
    pub group: u32,
    /// The track.
    pub track: TrackId,
    /// 0 is silent, 1 is the loudest; in steps of 1/8.
    pub level: f32,
    /// Does the participant speak?
    pub active: bool,
}

/// The loudness of one track.
#[derive(Debug, Default)]
pub(crate) struct Loudness {
    last: Option<(Instant, u32)>,
    observed: Duration,
    active: Duration,
    loudest: u8,
    smoothed: f64,
    reported: (f32, bool),
}

/// A level in -dBov as a factor: 0 is the loudest and gives 1.
fn linear(level: f64) -> f64 {
    10f64.powf(-level / 20.0)
}

impl Loudness {
    /// Takes the level of one packet, in -dBov.
    pub(crate) fn observe(&mut self, now: Instant, level: u8, timestamp: u32, rate: u32) {
        let duration = match self.last {
            // A late packet: its time is counted already.
            Some((_, last)) if (timestamp.wrapping_sub(last) as i32) <= 0 => return,
            Some((_, last)) => {
                let ticks = u64::from(timestamp.wrapping_sub(last));
                Duration::from_micros(ticks * 1_000_000 / u64::from(rate.max(1))).min(MAX_PACKET_DURATION)
            }
            None => Duration::from_millis(20),
        };
        self.last = Some((now, timestamp));
        self.observed += duration;
        if level <= ACTIVE_LEVEL {
            self.loudest = if self.active.is_zero() { level } else { self.loudest.min(level) };
            self.active += duration;
        }
        if self.observed < WINDOW {
            return;
        }
        if self.active * 100 >= WINDOW * MIN_ACTIVE_PERCENT {
            let weight = 20.0 * (self.active.as_secs_f64() / WINDOW.as_secs_f64()).log10();
            let level = linear(f64::from(self.loudest) - weight).min(1.0);
            self.smoothed += (level - self.smoothed) * 2.0 / (SMOOTHING_WINDOWS + 1.0);
        } else {
            self.smoothed = 0.0;
        }
        self.observed = Duration::ZERO;
        self.active = Duration::ZERO;
    }

    /// May [`Loudness::poll_change`] return a change now or later, without a louder packet before?
    pub(crate) fn is_heard(&self) -> bool {
        self.reported != (0.0, false) || self.smoothed > 0.0 || !self.active.is_zero()
    }

    /// The level, and whether the track is active, when either differs from what was reported last.
    pub(crate) fn poll_change(&mut self, now: Instant) -> Option<(f32, bool)> {
        if self.last.is_some_and(|(at, _)| now.saturating_duration_since(at) > WINDOW * 2) {
            let reported = self.reported;
            *self = Self { reported, ..Self::default() };
        }
        let active = self.smoothed >= linear(f64::from(ACTIVE_LEVEL));
        let level = if active { ((self.smoothed * STEPS).ceil() / STEPS) as f32 } else { 0.0 };
        (self.reported != (level, active)).then(|| {
            self.reported = (level, active);
            self.reported
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speak(loudness: &mut Loudness, start: Instant, from_ms: u64, to_ms: u64, level: impl Fn(u64) -> u8) {
        for ms in (from_ms..to_ms).step_by(20) {
            let now = start + Duration::from_millis(ms);
            loudness.observe(now, level(ms), (ms * 48) as u32, 48_000);
        }
    }

    #[test]
    fn steady_speech_is_reported_once_and_its_end_once() {
        let start = Instant::now();
        let mut loudness = Loudness::default();
        speak(&mut loudness, start, 0, 10_000, |_| 6);
        let end = start + Duration::from_secs(10);
        assert_eq!(loudness.poll_change(end), Some((0.625, true)));
        assert_eq!(loudness.poll_change(end), None);
        speak(&mut loudness, start, 10_000, 11_100, |_| 127);
        assert_eq!(loudness.poll_change(start + Duration::from_millis(11_100)), Some((0.0, false)));
    }

    #[test]
    fn short_noises_are_not_speech() {
        let start = Instant::now();
        let mut loudness = Loudness::default();
        speak(&mut loudness, start, 0, 5000, |ms| if ms % 500 < 100 { 3 } else { 127 });
        assert_eq!(loudness.poll_change(start + Duration::from_secs(5)), None);
    }

    #[test]
    fn a_speaker_whose_packets_stop_becomes_silent() {
        let start = Instant::now();
        let mut loudness = Loudness::default();
        speak(&mut loudness, start, 0, 1200, |_| 0);
        assert!(loudness.poll_change(start + Duration::from_millis(1200)).unwrap().1);
        assert_eq!(loudness.poll_change(start + Duration::from_secs(3)), Some((0.0, false)));
    }
}
