//! A cap on the estimate for a connection over TCP: what its sender cannot pass on waits at the sender. A backlog that
//! does not go says that the path carries less than is sent, and what leaves meanwhile says how much it carries.

use crate::gcc::Micros;

/// The backlog is judged over this time: a single lost segment stops TCP for a round trip or two.
const WINDOW: Micros = 500_000;
/// A backlog counts if it is more than leaves in this time, and more than a few packets.
const MAX_WAIT: Micros = 100_000;
const MIN_BACKLOG: usize = 6_000;
/// The cap is this part of what left, so that the backlog goes too.
const PART: f64 = 0.85;
/// The cap rises by this factor per window without a backlog: TCP tells at once when that is too much.
const RISE: f64 = 1.25;

/// The backlog of one connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Bits per second.
    cap: Option<u64>,
    began: Option<(Micros, u64)>,
    least: usize,
}

impl Backlog {
    /// `unsent` bytes wait, and `left` bytes have left since the connection began. `useful`: bits per second that could
    /// be used at most; a higher cap is none. Never below `min`.
    pub(crate) fn observe(&mut self, now: Micros, unsent: usize, left: u64, (min, useful): (u64, u64)) {
        // Another connection begins from nothing.
        let Some((began, before)) = self.began.filter(|(_, before)| *before <= left) else {
            (self.began, self.least) = (Some((now, left)), unsent);
            return;
        };
        self.least = self.least.min(unsent);
        let length = now.saturating_sub(began);
        if length < WINDOW {
            return;
        }
        let rate = (left - before).saturating_mul(8_000_000) / length;
        let waits = self.least as u64 * 8 * (1_000_000 / MAX_WAIT) > rate;
        if self.least > MIN_BACKLOG && waits {
            let cap = (rate as f64 * PART) as u64;
            self.cap = Some(self.cap.map_or(cap, |before| before.min(cap)).max(min));
        } else if self.least <= MIN_BACKLOG {
            self.cap = self.cap.map(|cap| (cap as f64 * RISE) as u64).filter(|cap| *cap < useful);
        }
        (self.began, self.least) = (Some((now, left)), unsent);
    }

    /// What may be sent at most, in bits per second.
    pub(crate) fn cap(&self) -> Option<u64> {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 30_000;
    const USEFUL: u64 = 2_000_000;

    /// A TCP connection that passes so many bits per second.
    #[derive(Default)]
    struct Tcp {
        backlog: Backlog,
        now: Micros,
        unsent: usize,
        left: u64,
    }

    impl Tcp {
        /// Sends as much as the cap allows, at most `wanted` bits per second.
        fn run(&mut self, seconds: u64, capacity: u64, wanted: u64) {
            for _ in 0..seconds * 10 {
                let rate = self.backlog.cap().unwrap_or(wanted).min(wanted);
                self.unsent += (rate / 80) as usize;
                let passed = self.unsent.min((capacity / 80) as usize);
                self.unsent -= passed;
                self.left += passed as u64;
                self.now += 100_000;
                self.backlog.observe(self.now, self.unsent, self.left, (MIN, USEFUL));
            }
        }
    }

    #[test]
    fn a_path_that_carries_all_has_no_cap() {
        let mut tcp = Tcp::default();
        tcp.run(10, 3_000_000, 1_500_000);
        assert_eq!(tcp.backlog.cap(), None);
    }

    #[test]
    fn a_backlog_lowers_the_cap_to_what_leaves_and_goes() {
        let mut tcp = Tcp::default();
        tcp.run(3, 500_000, 1_500_000);
        let cap = tcp.backlog.cap().unwrap();
        assert!((300_000..500_000).contains(&cap), "{cap}");
        let (mut high, mut low) = (0, usize::MAX);
        for _ in 0..20 {
            tcp.run(1, 500_000, 1_500_000);
            (high, low) = (high.max(tcp.unsent), low.min(tcp.unsent));
        }
        assert!(low < MIN_BACKLOG, "it never goes: {low}");
        assert!(high < 150_000, "{high}");
    }

    #[test]
    fn the_cap_ends_when_the_path_carries_all_again() {
        let mut tcp = Tcp::default();
        tcp.run(5, 0, 1_500_000);
        assert_eq!(tcp.backlog.cap(), Some(MIN));
        tcp.unsent = 0;
        tcp.run(15, 10_000_000, 1_500_000);
        assert_eq!(tcp.backlog.cap(), None);
    }

    #[test]
    fn a_short_stop_is_no_backlog() {
        let mut tcp = Tcp::default();
        for _ in 0..10 {
            tcp.run(1, 3_000_000, 1_000_000);
            tcp.unsent += 20_000;
        }
        assert_eq!(tcp.backlog.cap(), None);
    }

    #[test]
    fn another_connection_begins_anew() {
        let mut tcp = Tcp::default();
        tcp.run(2, 3_000_000, 1_000_000);
        (tcp.left, tcp.unsent) = (0, 0);
        tcp.run(2, 3_000_000, 1_000_000);
        assert_eq!(tcp.backlog.cap(), None);
    }
}
