//! How fast a peer's messages are taken. A peer that sends more is held back by SCTP's own window:
//! what is not read fills it, and the peer waits. Nothing of what it sent reliably is lost.

use std::time::{Duration, Instant};

/// Messages in a second.
const MESSAGES: f64 = 2_000.0;
/// Bytes in a second.
const BYTES: f64 = (8 << 20) as f64;
/// What may come at once, in seconds of the above.
const BURST: f64 = 0.5;
/// How soon a peer that used up its share is looked at again.
const PAUSE: Duration = Duration::from_millis(10);
/// Messages taken at a stretch; others want their turn.
const STRETCH: usize = 64;
/// Messages that may wait unread. The window counts bytes, and small messages cost more than those.
const UNREAD: usize = 4_096;

/// One peer's share.
#[derive(Debug)]
pub(super) struct Intake {
    messages: f64,
    bytes: f64,
    at: Instant,
    stretch: usize,
    /// The application cannot take more.
    held: bool,
    resume: Option<Instant>,
    /// Times that something had to wait.
    waits: u64,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: MESSAGES * BURST,
            bytes: BYTES * BURST,
            at: now,
            stretch: 0,
            held: false,
            resume: None,
            waits: 0,
        }
    }

    /// A turn begins.
    pub(super) fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.messages = (self.messages + passed * MESSAGES).min(MESSAGES * BURST);
        self.bytes = (self.bytes + passed * BYTES).min(BYTES * BURST);
        self.stretch = STRETCH;
        self.resume = None;
    }

    /// May another message be read in this turn? If not, it is looked at again later.
    pub(super) fn may_read(&mut self) -> bool {
        let has_share = self.messages >= 1.0 && self.bytes > 0.0;
        if has_share && self.stretch > 0 && !self.held {
            return true;
        }
        if self.resume.is_none() && !self.held {
            self.waits += u64::from(!has_share);
            self.resume = Some(if has_share { self.at } else { self.at + PAUSE });
        }
        false
    }

    /// A message was read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.messages -= 1.0;
        self.bytes -= bytes as f64;
        self.stretch = self.stretch.saturating_sub(1);
    }

    /// The application takes nothing more for now, or takes again.
    pub(super) fn hold(&mut self, now: Instant, hold: bool) {
        if self.held != hold {
            self.held = hold;
            self.waits += u64::from(hold);
            self.resume = (!hold).then_some(now);
        }
    }

    /// When reading goes on, if something waits.
    pub(super) fn resume(&self) -> Option<Instant> {
        self.resume
    }

    /// Must packets be dropped, as if lost on the way, so that the peer sends them again later?
    pub(super) fn overflows(&self, unread: usize) -> bool {
        unread >= UNREAD
    }

    /// Times that something had to wait since the last call.
    pub(super) fn take_waits(&mut self) -> u64 {
        std::mem::take(&mut self.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(intake: &mut Intake, start: Instant, millis: u64, bytes: usize) -> usize {
        let mut taken = 0;
        for millisecond in 0..millis {
            intake.turn(start + Duration::from_millis(millisecond));
            while intake.may_read() {
                intake.read(bytes);
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn both_messages_and_bytes_are_limited_over_time() {
        let start = Instant::now();
        let small = taken(&mut Intake::new(start), start, 4_000, 10);
        assert!((8_900..=9_100).contains(&small), "{small} messages in 4 s");
        let large = taken(&mut Intake::new(start), start, 4_000, 64 << 10);
        assert!((570..=580).contains(&large), "{large} messages of 64 KiB in 4 s");
    }

    #[test]
    fn what_is_held_is_not_read_until_it_is_let_go() {
        let start = Instant::now();
        let mut intake = Intake::new(start);
        intake.turn(start);
        intake.hold(start, true);
        assert!(!intake.may_read());
        assert_eq!(intake.resume(), None, "nothing to look at before that");
        intake.hold(start, false);
        assert_eq!(intake.resume(), Some(start));
        intake.turn(start);
        assert!(intake.may_read());
        assert_eq!(intake.take_waits(), 1);
    }
}
