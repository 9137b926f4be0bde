//! Limits how fast a peer's messages are read. Unread messages fill SCTP's receive window, and then the
//! peer waits. No message of a reliable channel is lost.

use std::time::{Duration, Instant};

/// Messages per second.
const MESSAGE_RATE: f64 = 2_000.0;
/// Bytes per second.
const BYTE_RATE: f64 = (8 << 20) as f64;
/// Burst, in seconds of these rates.
const BURST: f64 = 0.5;
/// When reading is tried again after the limit was reached.
const RETRY_DELAY: Duration = Duration::from_millis(10);
/// Bytes per second while reading is slow: while someone who receives the messages takes them slowly.
const SLOW_BYTE_RATE: f64 = (64 << 10) as f64;
/// What a message counts for in that rate beside its bytes: small messages take memory too.
const SLOW_MESSAGE: f64 = 128.0;
/// Messages read per turn, so that other connections have their turn.
const MESSAGES_PER_TURN: usize = 64;
/// Unread messages from which packets are dropped. SCTP's window counts payload bytes only, and small
/// messages take more memory than that.
const MAX_UNREAD: usize = 4_096;

/// Token buckets of one peer, for messages and for bytes.
#[derive(Debug)]
pub(super) struct ReadLimiter {
    messages: f64,
    bytes: f64,
    /// Bytes that may be read at the slow rate; at most one second of it.
    slow_bytes: f64,
    slow: bool,
    refilled_at: Instant,
    left_in_turn: usize,
    /// The application reads no messages for now.
    paused: bool,
    resume: Option<Instant>,
    /// Times that reading was delayed.
    throttled: u64,
}

impl ReadLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: MESSAGE_RATE * BURST,
            bytes: BYTE_RATE * BURST,
            slow_bytes: SLOW_BYTE_RATE,
            slow: false,
            refilled_at: now,
            left_in_turn: 0,
            paused: false,
            resume: None,
            throttled: 0,
        }
    }

    /// Begins a turn: refills the buckets.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.refilled_at = self.refilled_at.max(now);
        self.messages = (self.messages + passed * MESSAGE_RATE).min(MESSAGE_RATE * BURST);
        self.bytes = (self.bytes + passed * BYTE_RATE).min(BYTE_RATE * BURST);
        self.slow_bytes = (self.slow_bytes + passed * SLOW_BYTE_RATE).min(SLOW_BYTE_RATE);
        self.left_in_turn = MESSAGES_PER_TURN;
        self.resume = None;
    }

    /// Whether another message may be read in this turn. If not, [`ReadLimiter::resume`] is set.
    pub(super) fn may_read(&mut self) -> bool {
        let within_limits = self.messages >= 1.0 && self.bytes > 0.0 && (!self.slow || self.slow_bytes > 0.0);
        if within_limits && self.left_in_turn > 0 && !self.paused {
            return true;
        }
        if self.resume.is_none() && !self.paused {
            self.throttled += u64::from(!within_limits);
            self.resume = Some(if within_limits { self.refilled_at } else { self.refilled_at + RETRY_DELAY });
        }
        false
    }

    /// Records that a message was read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.messages -= 1.0;
        self.bytes -= bytes as f64;
        if self.slow {
            self.slow_bytes -= bytes as f64 + SLOW_MESSAGE;
        }
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
    }

    /// Pauses or resumes reading.
    pub(super) fn pause(&mut self, now: Instant, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.throttled += u64::from(paused);
            self.resume = (!paused).then_some(now);
        }
    }

    /// Reads slowly, or at full speed again.
    pub(super) fn slow_down(&mut self, slow: bool) {
        self.slow = slow;
    }

    /// When reading continues; none while nothing is left to read, or while paused.
    pub(super) fn resume(&self) -> Option<Instant> {
        self.resume
    }

    /// Whether arriving packets are to be dropped. The peer retransmits them later.
    pub(super) fn overflows(&self, unread: usize) -> bool {
        unread >= MAX_UNREAD
    }

    /// Times that reading was delayed since the last call.
    pub(super) fn take_throttled(&mut self) -> u64 {
        std::mem::take(&mut self.throttled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_read(limiter: &mut ReadLimiter, start: Instant, millis: u64, bytes: usize) -> usize {
        let mut count = 0;
        for millisecond in 0..millis {
            limiter.begin_turn(start + Duration::from_millis(millisecond));
            while limiter.may_read() {
                limiter.read(bytes);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn messages_and_bytes_are_limited_over_time() {
        let start = Instant::now();
        let small = count_read(&mut ReadLimiter::new(start), start, 4_000, 10);
        assert!((8_900..=9_100).contains(&small), "{small} messages in 4 s");
        let large = count_read(&mut ReadLimiter::new(start), start, 4_000, 64 << 10);
        assert!((570..=580).contains(&large), "{large} messages of 64 KiB in 4 s");
    }

    #[test]
    fn slow_reading_limits_bytes_and_lets_single_messages_pass_at_once() {
        let start = Instant::now();
        for bytes in [10, 1_000, 15_000] {
            let mut limiter = ReadLimiter::new(start);
            limiter.slow_down(true);
            let read = count_read(&mut limiter, start, 10_000, bytes) * (bytes + 128);
            // One second of the rate at once, ten seconds of it, and one message.
            let most = 11 * (64 << 10) + bytes + 128;
            assert!((most - bytes - 2_000..=most).contains(&read), "{read} bytes in messages of {bytes}");
            limiter.slow_down(false);
            let later = start + Duration::from_secs(10);
            assert!(count_read(&mut limiter, later, 100, bytes) > 200, "full speed again");
        }
    }

    #[test]
    fn nothing_is_read_while_paused() {
        let start = Instant::now();
        let mut limiter = ReadLimiter::new(start);
        limiter.begin_turn(start);
        limiter.pause(start, true);
        assert!(!limiter.may_read());
        assert_eq!(limiter.resume(), None, "no retry while paused");
        limiter.pause(start, false);
        assert_eq!(limiter.resume(), Some(start));
        limiter.begin_turn(start);
        assert!(limiter.may_read());
        assert_eq!(limiter.take_throttled(), 1);
    }
}
