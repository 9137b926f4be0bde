//! The congestion controller of links, delay-based like LEDBAT (RFC 6817). On research networks most
//! single losses are not congestion, and a loss-based controller would fall to a few Mbit/s. The
//! operator's ceiling bounds the rate.
//!
//! A round lasts about one round-trip time. After each round the congestion window increases if it
//! was used and the queueing delay is below its target; it decreases if the delay is above the target,
//! more than 10 % was lost, or ECN marked packets. Every 10 s the window is halved for two rounds, so that the base delay
//! is not measured in a queue that this sender built.

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIN_ROUND: Duration = Duration::from_millis(10);
const BASE_LIFETIME: Duration = Duration::from_secs(10);
const DRAIN_ROUNDS: u8 = 2;
const TARGET_DELAY: Duration = Duration::from_millis(10);
const LOSS_TOLERATED: f64 = 0.02;
const LOSS_EXCESSIVE: f64 = 0.10;
/// Added to the round-trip time in the ceiling's bandwidth-delay product, for delayed acknowledgements.
const CEILING_SLACK: Duration = Duration::from_millis(10);
const INITIAL_WINDOW_PACKETS: u64 = 64;
const MIN_WINDOW_PACKETS: u64 = 16;

/// The controller of one connection. It reads no clock and no socket.
#[derive(Debug, Clone)]
pub struct DelayController {
    ceiling: u64,
    mtu: u64,
    window: u64,
    slow_start: bool,
    bytes_in_flight: u64,
    base: Base,
    round: Round,
    /// While the queue drains: rounds left, and the window to restore.
    draining: Option<(u8, u64)>,
}

/// The base delay: the round-trip time without queue.
#[derive(Debug, Clone)]
struct Base {
    rtt: Option<Duration>,
    since: Instant,
    /// Lowest round-trip time since `since`: the base delay of the next period.
    next: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Round {
    start: Instant,
    min_rtt: Option<Duration>,
    acked: u64,
    lost: u64,
    max_in_flight: u64,
    marked: bool,
}

impl Round {
    fn new(start: Instant) -> Self {
        Self { start, min_rtt: None, acked: 0, lost: 0, max_in_flight: 0, marked: false }
    }
}

fn shorter(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl DelayController {
    /// A controller whose rate does not stay above `ceiling` bytes per second.
    #[must_use]
    pub fn new(ceiling: u64, mtu: u16, now: Instant) -> Self {
        let mtu = u64::from(mtu);
        Self {
            ceiling,
            mtu,
            window: INITIAL_WINDOW_PACKETS * mtu,
            slow_start: true,
            bytes_in_flight: 0,
            base: Base { rtt: None, since: now, next: None },
            round: Round::new(now),
            draining: None,
        }
    }

    /// The congestion window in bytes.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// A packet was sent.
    pub fn packet_sent(&mut self, bytes: u64) {
        self.bytes_in_flight += bytes;
        self.round.max_in_flight = self.round.max_in_flight.max(self.bytes_in_flight);
    }

    /// A packet was acknowledged; `rtt` is its round-trip time.
    pub fn packet_acked(&mut self, rtt: Duration, bytes: u64) {
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes);
        self.round.acked += bytes;
        self.round.min_rtt = shorter(self.round.min_rtt, rtt);
        self.base.next = shorter(self.base.next, rtt);
        self.base.rtt = shorter(self.base.rtt, rtt);
    }

    /// All packets of one ACK frame have been passed in; `bytes_in_flight` is quinn's count.
    pub fn acks_processed(&mut self, now: Instant, bytes_in_flight: u64) {
        self.bytes_in_flight = bytes_in_flight;
        let length = self.round.min_rtt.unwrap_or(MIN_ROUND).max(MIN_ROUND);
        if now.saturating_duration_since(self.round.start) >= length {
            self.end_round(now);
        }
    }

    /// Packets were declared lost; persistent congestion as in RFC 9002, section 7.6.
    pub fn packets_lost(&mut self, bytes: u64, persistent_congestion: bool) {
        self.bytes_in_flight = self.bytes_in_flight.saturating_sub(bytes);
        self.round.lost += bytes;
        if persistent_congestion {
            self.window = self.min_window();
            self.slow_start = true;
            self.draining = None;
        }
    }

    /// ECN reported congestion (RFC 9002, section 7.1).
    pub fn ecn_marked(&mut self) {
        self.round.marked = true;
    }

    /// The path MTU changed.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.window.max(self.min_window());
    }

    fn min_window(&self) -> u64 {
        MIN_WINDOW_PACKETS * self.mtu
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        self.round.max_in_flight = self.bytes_in_flight;
        let (Some(min_rtt), Some(base)) = (round.min_rtt, self.base.rtt) else { return };
        let window_used = round.max_in_flight * 2 >= self.window;

        if let Some((left, saved)) = self.draining {
            if left > 1 {
                self.draining = Some((left - 1, saved));
            } else {
                self.draining = None;
                self.refresh_base(now);
                self.window = saved;
            }
            return;
        }
        let old = now.saturating_duration_since(self.base.since) >= BASE_LIFETIME;
        if old && window_used {
            self.draining = Some((DRAIN_ROUNDS, self.window - self.window / 10));
            self.window = (self.window / 2).max(self.min_window());
            return;
        }
        if old {
            // An idle sender builds no queue: its recent round-trip times are the base delay.
            self.refresh_base(now);
        }

        let queueing_delay = min_rtt.saturating_sub(base);
        let target = TARGET_DELAY + base / 8;
        let total = round.acked + round.lost;
        let loss = if total == 0 { 0.0 } else { round.lost as f64 / total as f64 };
        if loss > LOSS_EXCESSIVE {
            self.decrease(1.0 - loss / 2.0);
        } else if round.marked {
            self.decrease(0.85);
        } else if queueing_delay > target {
            if window_used {
                let excess = (queueing_delay - target).as_secs_f64() / queueing_delay.as_secs_f64();
                self.decrease((1.0 - excess / 2.0).max(0.7));
            }
        } else if window_used && loss <= LOSS_TOLERATED {
            self.increase(queueing_delay.as_secs_f64() / target.as_secs_f64());
        }
        let bdp = self.ceiling as f64 * (min_rtt + CEILING_SLACK).as_secs_f64();
        self.window = self.window.min(bdp as u64).max(self.min_window());
    }

    /// `delay` is the queueing delay as a share of the target.
    fn increase(&mut self, delay: f64) {
        if self.slow_start && delay <= 0.5 {
            self.window *= 2;
            return;
        }
        self.slow_start = false;
        let step = self.window as f64 * 0.05 * (1.0 - delay);
        self.window += (step as u64).max(self.mtu);
    }

    fn decrease(&mut self, factor: f64) {
        self.slow_start = false;
        self.window = ((self.window as f64 * factor) as u64).max(self.min_window());
    }

    fn refresh_base(&mut self, now: Instant) {
        self.base.rtt = self.base.next.take().or(self.base.rtt);
        self.base.since = now;
    }
}

impl Controller for DelayController {
    fn on_sent(&mut self, _now: Instant, bytes: u64, _last_packet_number: u64) {
        self.packet_sent(bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.packet_acked(now.saturating_duration_since(sent), bytes);
    }

    fn on_end_acks(&mut self, now: Instant, bytes_in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.acks_processed(now, bytes_in_flight);
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        if lost_bytes == 0 {
            self.ecn_marked();
        } else {
            self.packets_lost(lost_bytes, persistent_congestion);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes one controller per connection.
#[derive(Debug, Clone, Copy)]
pub struct DelayControllerFactory {
    /// Highest rate of a connection in bytes per second.
    pub ceiling: u64,
}

impl ControllerFactory for DelayControllerFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(DelayController::new(self.ceiling, current_mtu, now))
    }
}

#[cfg(test)]
mod tests {
    //! One sender over one bottleneck, in simulated time.

    use super::*;
    use std::collections::VecDeque;

    const MTU: u64 = 1200;

    struct Path {
        /// Bytes per second.
        rate: u64,
        /// Round-trip time without queue.
        rtt: Duration,
        /// Bytes that the bottleneck holds.
        buffer: u64,
        /// One packet in this many is lost at random.
        noise: Option<u64>,
        /// Bytes per second that the sender wants to send.
        demand: u64,
    }

    struct Outcome {
        goodput: u64,
        /// Mean queueing delay in the second half.
        queueing_delay: Duration,
    }

    fn run(controller: &mut DelayController, path: &Path, start: Instant, length: Duration) -> Outcome {
        let tick = Duration::from_micros(200);
        let (mut now, end) = (start, start + length);
        let mut free_at = start;
        let mut wanted = 0.0;
        let mut count = 0u64;
        let mut bytes_in_flight = 0u64;
        let mut flight: VecDeque<(Instant, Instant, bool)> = VecDeque::new();
        let (mut delivered, mut queue_sum, mut queue_count) = (0u64, 0.0, 0u64);
        while now < end {
            now += tick;
            wanted = (wanted + path.demand as f64 * tick.as_secs_f64()).min(60_000.0);
            // quinn paces a window over a round trip, at 1.25 times the rate.
            let mut paced = 4
                + (controller.window() as f64 * 1.25 * tick.as_secs_f64() / path.rtt.as_secs_f64()) as u64
                    / MTU;
            while wanted >= MTU as f64 && bytes_in_flight + MTU <= controller.window() && paced > 0 {
                wanted -= MTU as f64;
                paced -= 1;
                count += 1;
                bytes_in_flight += MTU;
                controller.packet_sent(MTU);
                let queued = free_at.saturating_duration_since(now);
                let full = queued.as_secs_f64() * path.rate as f64 + MTU as f64 > path.buffer as f64;
                let noise = path.noise.is_some_and(|one_in| count.is_multiple_of(one_in));
                if !full {
                    free_at = free_at.max(now) + Duration::from_secs_f64(MTU as f64 / path.rate as f64);
                }
                let arrives = if full { now + queued + path.rtt } else { free_at + path.rtt };
                flight.push_back((arrives, now, full || noise));
                if now > start + length / 2 {
                    queue_sum += queued.as_secs_f64();
                    queue_count += 1;
                }
            }
            let mut any = false;
            while flight.front().is_some_and(|(arrives, ..)| *arrives <= now) {
                let (arrives, sent, lost) = flight.pop_front().unwrap();
                bytes_in_flight -= MTU;
                any = true;
                if lost {
                    controller.packets_lost(MTU, false);
                } else {
                    controller.packet_acked(arrives - sent, MTU);
                    if arrives > start + length / 2 {
                        delivered += MTU;
                    }
                }
            }
            if any {
                controller.acks_processed(now, bytes_in_flight);
            }
        }
        Outcome {
            goodput: (delivered as f64 / (length / 2).as_secs_f64()) as u64,
            queueing_delay: Duration::from_secs_f64(queue_sum / queue_count.max(1) as f64),
        }
    }

    fn fresh(ceiling: u64) -> (DelayController, Instant) {
        let now = Instant::now();
        (DelayController::new(ceiling, MTU as u16, now), now)
    }

    const PATH: Path = Path {
        rate: 12_500_000,
        rtt: Duration::from_millis(20),
        buffer: 2_500_000,
        noise: None,
        demand: 100_000_000,
    };

    #[test]
    fn a_clean_path_is_filled_without_a_long_queue() {
        let (mut controller, now) = fresh(1_000_000_000);
        let outcome = run(&mut controller, &PATH, now, Duration::from_secs(30));
        assert!(outcome.goodput > 10_000_000, "{} of 12500000 B/s", outcome.goodput);
        assert!(outcome.queueing_delay < Duration::from_millis(25), "{:?}", outcome.queueing_delay);
    }

    #[test]
    fn random_loss_of_one_in_a_hundred_costs_little() {
        let (mut controller, now) = fresh(1_000_000_000);
        let path = Path { noise: Some(100), ..PATH };
        let outcome = run(&mut controller, &path, now, Duration::from_secs(30));
        assert!(outcome.goodput > 9_500_000, "{} of 12500000 B/s", outcome.goodput);
    }

    #[test]
    fn the_ceiling_bounds_the_window() {
        let ceiling = 1_250_000;
        let (mut controller, now) = fresh(ceiling);
        run(&mut controller, &PATH, now, Duration::from_secs(10));
        // 10 Mbit/s for 20 ms, plus the slack and the target delay.
        assert!(controller.window() < ceiling * 45 / 1000, "{}", controller.window());
    }

    #[test]
    fn it_adapts_when_the_path_shrinks() {
        let (mut controller, now) = fresh(1_000_000_000);
        run(&mut controller, &PATH, now, Duration::from_secs(20));
        let narrow = Path { rate: 1_250_000, ..PATH };
        let outcome = run(&mut controller, &narrow, now + Duration::from_secs(20), Duration::from_secs(20));
        assert!(outcome.queueing_delay < Duration::from_millis(40), "{:?}", outcome.queueing_delay);
        assert!(outcome.goodput > 900_000, "{} of 1250000 B/s", outcome.goodput);
    }

    #[test]
    fn a_small_buffer_is_not_overrun_for_long() {
        let (mut controller, now) = fresh(1_000_000_000);
        let path = Path { buffer: 60_000, ..PATH };
        let outcome = run(&mut controller, &path, now, Duration::from_secs(20));
        assert!(outcome.goodput > 8_000_000, "{} of 12500000 B/s", outcome.goodput);
    }

    #[test]
    fn a_link_with_little_traffic_keeps_its_window() {
        let (mut controller, now) = fresh(1_000_000_000);
        let path = Path { demand: 100_000, ..PATH };
        let before = controller.window();
        run(&mut controller, &path, now, Duration::from_secs(30));
        assert_eq!(controller.window(), before);
    }

    #[test]
    fn persistent_congestion_resets_the_window_to_the_minimum() {
        let (mut controller, _) = fresh(1_000_000_000);
        controller.packet_sent(10 * MTU);
        controller.packets_lost(10 * MTU, true);
        assert_eq!(controller.window(), MIN_WINDOW_PACKETS * MTU);
    }
}
