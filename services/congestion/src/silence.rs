//! A receiver that reports nothing: the estimate falls while packets are sent and none is reported.
//!
//! Google congestion control reacts to silence only after three seconds; libwebrtc's congestion window, which
//! reacts earlier, is for an encoder.

use crate::gcc::Micros;

/// Silence is longer than a round trip and the receiver's feedback interval.
const MIN_TIMEOUT: Micros = 500_000;
const MAX_TIMEOUT: Micros = 1_000_000;
/// After that much silence the path may be another one: it is estimated anew.
const BLACKOUT: Micros = 1_200_000;
/// The estimate falls by a fifth per interval.
const INTERVAL: Micros = 250_000;
/// While nothing is sent there is nothing to report.
const IDLE: Micros = 400_000;

/// After that, the estimate is no longer held down by silence.
const MAX_IDLE: Micros = 1_000_000;

/// How long nothing has been reported while packets were sent.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// When the receiver last reported, or the first packet that it should have reported was sent.
    since: Option<Micros>,
    last_sent: Micros,
    cap: Option<u64>,
    next_cut: Micros,
}

impl Silence {
    pub(crate) fn sent(&mut self, now: Micros) {
        if self.since.is_none() || now.saturating_sub(self.last_sent) > IDLE {
            self.since = Some(now);
        }
        self.last_sent = now;
    }

    /// Feedback came. Returns the estimate that the silence left, if it was a blackout.
    pub(crate) fn reported(&mut self, now: Micros, in_flight: bool) -> Option<u64> {
        let length = self.since.map_or(0, |since| now.saturating_sub(since));
        self.since = in_flight.then_some(now);
        self.cap.take().filter(|_| length >= BLACKOUT)
    }

    /// Nothing has been sent for a while after the estimate was lowered, because too little was left to send anything.
    /// Ends the silence, and returns that rest.
    pub(crate) fn ended_idle(&mut self, now: Micros) -> Option<u64> {
        if now.saturating_sub(self.last_sent) <= MAX_IDLE {
            return None;
        }
        self.since = None;
        self.cap.take()
    }

    /// Lowers the estimate if it is time to.
    pub(crate) fn process(&mut self, now: Micros, estimate: u64, round_trip: Micros) {
        let Some(since) = self.since else { return };
        let timeout = (2 * round_trip + MIN_TIMEOUT / 2).clamp(MIN_TIMEOUT, MAX_TIMEOUT);
        let sending = now.saturating_sub(self.last_sent) <= IDLE;
        if sending && now.saturating_sub(since) >= timeout && (self.cap.is_none() || now >= self.next_cut) {
            let before = self.cap.unwrap_or(estimate).min(estimate);
            self.cap = Some(before / 5 * 4);
            self.next_cut = now + INTERVAL;
        }
    }

    /// What may be sent at most, in bits per second.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1000;

    #[test]
    fn silence_ends_when_too_little_is_left_to_send_anything() {
        let mut silence = Silence::default();
        send(&mut silence, 0, 3000);
        let left = silence.cap();
        assert!(left.is_some());
        assert_eq!(silence.ended_idle(3500 * MS), None);
        assert_eq!(silence.ended_idle(4500 * MS), left);
        assert_eq!(silence.cap(), None);
    }

    /// Packets every 20 ms until `end`.
    fn send(silence: &mut Silence, start: Micros, end: Micros) {
        for ms in (start..end).step_by(20) {
            silence.sent(ms * MS);
            silence.process(ms * MS, 1_000_000, 50 * MS);
        }
    }

    #[test]
    fn estimate_falls_in_steps_after_half_a_second_of_silence() {
        let mut silence = Silence::default();
        send(&mut silence, 0, 490);
        assert_eq!(silence.cap(), None);
        send(&mut silence, 490, 600);
        assert_eq!(silence.cap(), Some(800_000));
        send(&mut silence, 600, 1100);
        assert!(silence.cap().unwrap() < 600_000);
        assert_eq!(silence.reported(1100 * MS, true), None);
        assert_eq!(silence.cap(), None);
    }

    #[test]
    fn a_blackout_says_what_it_left() {
        let mut silence = Silence::default();
        send(&mut silence, 0, 2000);
        let cap = silence.cap().unwrap();
        assert!(cap < 400_000, "{cap}");
        assert_eq!(silence.reported(2000 * MS, true), Some(cap));
    }

    #[test]
    fn nothing_sent_is_no_silence() {
        let mut silence = Silence::default();
        send(&mut silence, 0, 300);
        silence.process(5000 * MS, 1_000_000, 0);
        assert_eq!(silence.cap(), None);
        silence.sent(5000 * MS);
        silence.process(5100 * MS, 1_000_000, 0);
        assert_eq!(silence.cap(), None);
    }
}
