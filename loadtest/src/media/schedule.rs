//! Who speaks when, and so which part of its clip a participant plays. Turns follow Unix time, so that
//! audio and video of a participant agree, and participants of several processes too.

use super::clip::{LISTENING_SECONDS, SPEECH_SECONDS};

/// When one participant speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Its number among those who speak.
    index: u64,
    /// How many speak, each in its turn; 0 when this participant never speaks.
    speakers: u64,
}

impl Schedule {
    /// Speaker `index` of `speakers`.
    pub(crate) fn speaker(index: usize, speakers: usize) -> Self {
        Self { index: index as u64, speakers: speakers.max(1) as u64 }
    }

    /// A participant who only listens.
    pub(crate) fn listener(index: usize) -> Self {
        Self { index: index as u64, speakers: 0 }
    }

    /// The step at a time, of `rate` steps a second. Participants differ by a part of a second, so that
    /// they do not send key frames all at once.
    pub(super) fn step(self, now_us: u64, rate: u32) -> u64 {
        let shift_us = self.index.wrapping_mul(618_034) % 1_000_000;
        now_us.wrapping_add(shift_us) / 1_000 * u64::from(rate) / 1_000
    }

    /// Position in the clip, in steps. It advances by one with each step; where it jumps, a key frame is.
    pub(super) fn position(self, step: u64, rate: u32) -> usize {
        let rate = u64::from(rate);
        let turn = SPEECH_SECONDS * rate;
        let position = if self.speakers > 0 && (step / turn) % self.speakers == self.index % self.speakers {
            step % turn
        } else {
            // Participants with the same clip should not blink at the same time.
            turn + (step + self.index % LISTENING_SECONDS * rate) % (LISTENING_SECONDS * rate)
        };
        usize::try_from(position).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEECH: usize = SPEECH_SECONDS as usize * 50;

    #[test]
    fn one_speaker_speaks_at_a_time_and_everyone_gets_a_turn() {
        let speakers: Vec<_> = (0..3).map(|index| Schedule::speaker(index, 3)).collect();
        let mut spoke = [0; 3];
        for step in 0..3 * SPEECH as u64 {
            let speaking: Vec<_> =
                (0..3).filter(|index| speakers[*index].position(step, 50) < SPEECH).collect();
            let [one] = speaking.as_slice() else { panic!("{speaking:?} speak at once") };
            spoke[*one] += 1;
        }
        assert_eq!(spoke, [SPEECH; 3]);
        assert!((0..5_000).all(|step| Schedule::listener(1).position(step, 50) >= SPEECH));
    }

    #[test]
    fn audio_and_video_are_at_the_same_position() {
        let schedule = Schedule::speaker(5, 7);
        for ms in (0..100_000).step_by(33) {
            let position =
                |rate| schedule.position(schedule.step(ms * 1_000, rate), rate) as f64 / f64::from(rate);
            assert!(
                (position(50) - position(15)).abs() < 0.1,
                "{ms} ms: {} and {} s",
                position(50),
                position(15)
            );
        }
    }

    #[test]
    fn positions_jump_at_whole_seconds_only() {
        for index in 0..9 {
            let schedule = Schedule::speaker(index, 4);
            for step in (0..10_000).filter(|step| (step + 1) % 15 != 0) {
                assert_eq!(schedule.position(step + 1, 15), schedule.position(step, 15) + 1);
            }
        }
    }
}
