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
    /// Share of the packets that were lost in the second half.
    loss: f64,
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
    let mut lost_bytes = 0;
    while now < end {
        now += tick;
        wanted = (wanted + path.demand as f64 * tick.as_secs_f64()).min(60_000.0);
        // quinn paces a window over a round trip, at 1.25 times the rate.
        let mut paced = 4
            + (controller.window() as f64 * 1.25 * tick.as_secs_f64() / path.rtt.as_secs_f64()) as u64 / MTU;
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
                if arrives > start + length / 2 {
                    lost_bytes += MTU;
                }
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
        loss: share_lost(delivered, lost_bytes),
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
fn random_loss_up_to_fifteen_percent_does_not_stop_a_link() {
    for (one_in, least) in [(20, 9_000_000), (10, 8_500_000), (7, 7_500_000)] {
        let (mut controller, now) = fresh(1_000_000_000);
        let path = Path { noise: Some(one_in), ..PATH };
        let outcome = run(&mut controller, &path, now, Duration::from_secs(40));
        println!("one in {one_in} lost: {} B/s, {:?}", outcome.goodput, outcome.queueing_delay);
        assert!(outcome.goodput > least, "{} of 12500000 B/s with one in {one_in}", outcome.goodput);
        assert!(outcome.queueing_delay < Duration::from_millis(5), "{:?}", outcome.queueing_delay);
    }
}

#[test]
fn more_random_loss_does_not_shrink_the_window_to_nothing() {
    let (mut controller, now) = fresh(1_000_000_000);
    run(&mut controller, &PATH, now, Duration::from_secs(10));
    let path = Path { noise: Some(4), ..PATH };
    let outcome = run(&mut controller, &path, now + Duration::from_secs(10), Duration::from_secs(20));
    println!("one in 4 lost: {} B/s", outcome.goodput);
    assert!(outcome.goodput > 2_000_000, "{} of 12500000 B/s", outcome.goodput);
}

#[test]
fn a_path_with_random_loss_that_shrinks_builds_no_long_queue() {
    let (mut controller, now) = fresh(1_000_000_000);
    run(&mut controller, &Path { noise: Some(12), ..PATH }, now, Duration::from_secs(20));
    let narrow = Path { rate: 1_250_000, noise: Some(12), ..PATH };
    let outcome = run(&mut controller, &narrow, now + Duration::from_secs(20), Duration::from_secs(20));
    assert!(outcome.queueing_delay < Duration::from_millis(40), "{:?}", outcome.queueing_delay);
    assert!(outcome.goodput > 800_000, "{} of 1250000 B/s", outcome.goodput);
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
    println!("small buffer: {} B/s, {:.3} lost", outcome.goodput, outcome.loss);
    assert!(outcome.loss < 0.05, "{} lost", outcome.loss);
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
