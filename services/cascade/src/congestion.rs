//! The congestion controller of links, delay-based like LEDBAT (RFC 6817). On research networks most
//! single losses are not congestion, and a loss-based controller would fall to a few Mbit/s. The
//! operator's ceiling bounds the rate.
//!
//! A round lasts about one round-trip time. After each round the congestion window increases if it
//! was used and the queueing delay is below its target; it decreases if the delay is above the target,
//! more than 15 % was lost, or ECN marked packets. Every 10 s the window is halved for two rounds, so that the base delay
//! is not measured in a queue that this sender built. What is lost meanwhile is not lost to congestion: in a
//! round that loses more, the window stays near the delivery rate times the base delay, as the path has a short
//! queue.

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIN_ROUND: Duration = Duration::from_millis(10);
const BASE_LIFETIME: Duration = Duration::from_secs(10);
const DRAIN_ROUNDS: u8 = 2;
const TARGET_DELAY: Duration = Duration::from_millis(10);
/// Loss below this is as good as none.
const LOSS_IGNORED: f64 = 0.02;
const LOSS_EXCESSIVE: f64 = 0.15;
/// Taken for the usual loss until the first drain measures it: a shallow buffer that overflows looks like random loss.
const LOSS_ASSUMED: f64 = 0.05;
/// How far the window may exceed what is delivered in a round trip, in rounds with loss.
const HEADROOM: f64 = 1.10;
/// In slow start with loss, a round must deliver this much more than the best one before.
const SLOW_START_GAIN: f64 = 1.25;
/// The window stays above this share of the best delivery rate of late, whatever is lost.
const LEAST_SHARE: f64 = 0.5;
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
    best: BestRate,
    /// The share of packets that is lost without congestion, as measured while the queue drained.
    usual_loss: f64,
    /// While the queue drains: rounds left, and the window to restore.
    draining: Option<(u8, u64)>,
}

/// The best delivery rate of the current base period and of the one before, in bytes per second.
#[derive(Debug, Clone, Copy, Default)]
struct BestRate {
    now: f64,
    before: f64,
}

impl BestRate {
    fn get(&self) -> f64 {
        self.now.max(self.before)
    }

    fn add(&mut self, rate: f64) {
        self.now = self.now.max(rate);
    }

    fn next_period(&mut self) {
        *self = Self { now: 0.0, before: self.now };
    }
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
            best: BestRate::default(),
            // Unknown until the first drain.
            usual_loss: LOSS_ASSUMED,
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
                // The rounds before it still lost packets that were sent earlier.
                if round.acked > 0 {
                    self.usual_loss = share_lost(round.acked, round.lost).min(LOSS_EXCESSIVE);
                }
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
        let loss = share_lost(round.acked, round.lost);
        let length = now.saturating_duration_since(round.start).max(min_rtt).as_secs_f64();
        let rate = round.acked as f64 / length;
        let best_before = self.best.get();
        self.best.add(rate);
        if round.marked {
            self.decrease(0.85);
        } else if queueing_delay > target {
            if window_used {
                let excess = (queueing_delay - target).as_secs_f64() / queueing_delay.as_secs_f64();
                self.decrease((1.0 - excess / 2.0).max(0.7));
            }
        } else if loss > LOSS_EXCESSIVE {
            self.slow_start = false;
            let least = (self.best.get() * base.as_secs_f64() * LEAST_SHARE) as u64;
            let window = self.window as f64 * (1.0 - (loss - LOSS_EXCESSIVE) / 2.0 - 0.05);
            self.window = self.window.min(least.max(window as u64));
        } else if window_used && loss <= LOSS_IGNORED {
            self.increase(queueing_delay.as_secs_f64() / target.as_secs_f64());
        } else if window_used {
            self.slow_start &= rate > best_before * SLOW_START_GAIN;
            let before = self.window;
            self.increase(queueing_delay.as_secs_f64() / target.as_secs_f64());
            if !self.slow_start {
                // With the base delay: the round's own includes the queue that the window built.
                let delivered = rate * base.as_secs_f64() / (1.0 - self.usual_loss);
                let limit = ((delivered * HEADROOM) as u64).max(before - before / 20);
                self.window = self.window.min(limit);
            }
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
        self.best.next_period();
    }
}

fn share_lost(acked: u64, lost: u64) -> f64 {
    if lost == 0 { 0.0 } else { lost as f64 / (acked + lost) as f64 }
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
mod tests;
