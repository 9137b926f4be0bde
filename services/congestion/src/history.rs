use std::collections::VecDeque;

use crate::gcc::Micros;
use crate::probe::ProbeId;

/// Packets that are remembered at most. With more in flight the oldest are forgotten.
pub(crate) const MAX_PACKETS: usize = 2048;
/// Feedback that comes later than this is ignored.
pub(crate) const MAX_AGE: Micros = 10_000_000;
/// A packet that was reported lost may still be reported as received for this long.
const MAX_LATE: Micros = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Received,
}

/// One packet that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Micros,
    /// Bytes on the wire.
    pub(crate) size: u16,
    /// Number of the probe that it belongs to.
    pub(crate) probe: Option<ProbeId>,
    state: State,
}

/// The packets that may still be reported, by transport-wide sequence number.
#[derive(Debug, Default)]
pub(crate) struct SendHistory {
    packets: VecDeque<Sent>,
    /// Extended number of the first one in `packets`.
    first: u64,
    /// Extended number after the highest that was reported as received.
    reported: u64,
}

impl SendHistory {
    /// Records a packet and returns its extended number.
    pub(crate) fn push(&mut self, at: Micros, size: u16, probe: Option<ProbeId>) -> u64 {
        self.forget_old(at);
        if self.packets.len() >= MAX_PACKETS {
            self.pop();
        }
        let number = self.next();
        self.packets.push_back(Sent { at, size, probe, state: State::InFlight });
        number
    }

    fn forget_old(&mut self, now: Micros) {
        while let Some(packet) = self.packets.front() {
            let max_age = match packet.state {
                State::InFlight => MAX_AGE,
                State::Lost => MAX_LATE,
                State::Received => 0,
            };
            if now.saturating_sub(packet.at) < max_age {
                return;
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        self.first += u64::from(self.packets.pop_front().is_some());
    }

    /// The extended number of the next packet.
    fn next(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// Takes note of what feedback says about a packet: the extended number and the packet, unless it is
    /// unknown or that was already known.
    pub(crate) fn report(&mut self, seq: u16, received: bool) -> Option<(u64, Sent)> {
        // The last number sent: numbers are near it.
        let last = self.next().checked_sub(1)?;
        let number = last.checked_add_signed(i64::from(seq.wrapping_sub(last as u16) as i16))?;
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let packet = self.packets.get_mut(at)?;
        packet.state = match (packet.state, received) {
            (State::InFlight, false) => State::Lost,
            (State::InFlight | State::Lost, true) => State::Received,
            (State::Lost | State::Received, _) => return None,
        };
        if received {
            self.reported = self.reported.max(number + 1);
        }
        Some((number, *packet))
    }

    /// Whether packets were sent after the last one that is known to have arrived.
    pub(crate) fn in_flight(&self) -> bool {
        self.reported < self.next()
    }

    /// Forgets all packets; their numbers are not used again.
    pub(crate) fn clear(&mut self) {
        self.first = self.next();
        self.packets = VecDeque::new();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.packets.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history_of(count: u64) -> SendHistory {
        let mut history = SendHistory::default();
        for number in 0..count {
            assert_eq!(history.push(number * 1000, 1200, None), number);
        }
        history
    }

    #[test]
    fn a_lost_packet_may_be_reported_as_received_later_and_never_twice() {
        let mut history = history_of(3);
        assert_eq!(history.report(1, false).unwrap().0, 1);
        assert!(history.report(1, false).is_none());
        assert_eq!(history.report(1, true).unwrap().1.at, 1000);
        assert!(history.report(1, true).is_none());
        assert!(history.report(1, false).is_none());
    }

    #[test]
    fn numbers_wrap() {
        let mut history = SendHistory::default();
        for number in 0..70_000 {
            history.push(number * 1000, 1200, None);
        }
        assert_eq!(history.report(69_999_u64 as u16, true).unwrap().0, 69_999);
        assert_eq!(history.report(69_000_u64 as u16, true).unwrap().0, 69_000);
    }

    #[test]
    fn unknown_numbers_are_ignored() {
        let mut history = history_of(10);
        assert!(history.report(10, true).is_none());
        assert!(history.report(40_000, true).is_none());
        assert!(SendHistory::default().report(0, true).is_none());
        history.clear();
        assert!(history.report(9, true).is_none());
        assert_eq!(history.push(0, 1200, None), 10);
    }

    #[test]
    fn reported_packets_are_forgotten() {
        let mut history = history_of(100);
        assert!(history.in_flight());
        for seq in 0..100 {
            history.report(seq, true);
        }
        assert!(!history.in_flight());
        history.push(100_000, 1200, None);
        assert_eq!(history.len(), 1);
    }

    proptest! {
        #[test]
        fn history_is_bounded(reports in proptest::collection::vec((any::<u16>(), any::<bool>()), 0..500)) {
            let mut history = history_of(3 * MAX_PACKETS as u64);
            prop_assert!(history.len() <= MAX_PACKETS);
            for (seq, received) in reports {
                history.report(seq, received);
                history.push(20_000_000, 1200, None);
                prop_assert!(history.len() <= MAX_PACKETS);
            }
        }
    }
}
