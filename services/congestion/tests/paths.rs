//! The estimate on simulated paths: what is used of the path, how long packets wait, how fast it recovers.

#![allow(clippy::disallowed_methods, reason = "a start time")]
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod network;

use network::{KILOBIT, LAYERS, MEGABIT, Path, Simulation};

/// Each statement holds for each of these seeds.
const SEEDS: std::ops::Range<u64> = 1..11;

fn run(path: Path, until: u64) -> Simulation {
    println!("seed {}", path.seed);
    let mut simulation = Simulation::new(path);
    simulation.run_until(until);
    simulation.print(200);
    simulation
}

#[test]
fn steps_of_capacity_are_followed() {
    for seed in SEEDS {
        let capacity =
            vec![(0, 3 * MEGABIT), (20_000, MEGABIT), (40_000, 400 * KILOBIT), (70_000, 100 * MEGABIT)];
        let simulation = run(Path { capacity, seed, ..Path::default() }, 90_000);
        // All layers at 3 Mbit/s, soon after the start.
        assert!(simulation.time_to_layer(0, LAYERS[2]) < 3_000);
        // The middle layer at 1 Mbit/s with room to spare, and never frozen.
        let estimate = simulation.mean_estimate(25_000, 40_000);
        assert!(estimate > LAYERS[1] as f64 / 0.85, "{estimate}");
        let received = simulation.received(22_000, 40_000);
        assert!(received > 0.95 * LAYERS[1] as f64, "{received}");
        let freeze = simulation.longest_freeze(21_000, 40_000);
        assert!(freeze <= 300, "{freeze}");
        let freeze = simulation.longest_freeze(19_900, 21_000);
        assert!(freeze <= 400, "{freeze}");
        let queue = simulation.queue_below(22_000, 40_000, 100.0);
        assert!(queue > 0.9, "{queue}");
        let queue = simulation.queue_below(43_000, 70_000, 150.0);
        assert!(queue > 0.9, "{queue}");
        let is_lowest =
            |from| simulation.between(from, 70_000).iter().all(|sample| sample.layer == LAYERS[0]);
        assert!(is_lowest(43_000), "the lowest layer at 400 kbit/s");
        let estimate = simulation.mean_estimate(45_000, 70_000);
        assert!((0.25e6..0.42e6).contains(&estimate), "{estimate}");
        // Free again.
        let middle = simulation.time_to_layer(70_000, LAYERS[1]);
        assert!(middle < 4_000, "{middle}");
        let best = simulation.time_to_layer(70_000, LAYERS[2]);
        assert!(best < 10_000, "{best}");
    }
}

#[test]
fn random_loss_of_five_percent_leaves_most_of_the_path_usable() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT)];
        let simulation = run(Path { capacity, seed, loss: 0.05, ..Path::default() }, 40_000);
        let estimate = simulation.mean_estimate(10_000, 40_000);
        // What is useful is 2.1 Mbit/s.
        assert!(estimate > 0.7 * 2.1e6, "{estimate}");
    }
}

#[test]
fn jitter_is_not_mistaken_for_congestion() {
    for jitter_ms in [15, 30] {
        for seed in SEEDS {
            let capacity = vec![(0, 3 * MEGABIT)];
            let simulation = run(Path { capacity, seed, jitter_ms, ..Path::default() }, 40_000);
            let estimate = simulation.mean_estimate(10_000, 40_000);
            assert!(estimate > 0.7 * 2.1e6, "{estimate}");
        }
    }
}

#[test]
fn a_path_that_becomes_slower_has_no_long_queue() {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    // Where a probe meets the step is chance, so more seeds than elsewhere.
    for seed in 1..41 {
        // At different times between two reports.
        let step = 15_000 + 7 * seed;
        let capacity = vec![(0, 100 * MEGABIT), (step, MEGABIT), (step + 20_000, 400 * KILOBIT)];
        let path = Path { capacity, seed, burst: 4_500, queue_ms: 250, propagation_ms: 1, ..Path::default() };
        let simulation = run(path, 50_000);
        first.push(simulation.worst_queue(step, step + 2_000));
        second.push(simulation.worst_queue(step + 20_000, step + 22_000));
        // Probes and trials.
        let later = simulation.worst_queue(step + 22_000, 50_000);
        assert!(later < 150.0, "{later}");
    }
    for queues in [first, second] {
        let mean = queues.iter().sum::<f64>() / queues.len() as f64;
        println!("longest queues {queues:.0?}, mean {mean:.0} ms");
        assert!(mean < 150.0, "{mean}");
    }
}

#[test]
fn a_radio_that_pauses_is_not_mistaken_for_congestion() {
    for seed in SEEDS {
        let path = Path { stall: (1000, 100), seed, queue_ms: 400, ..Path::default() };
        let simulation = run(path, 40_000);
        let estimate = simulation.mean_estimate(10_000, 40_000);
        assert!(estimate > 0.9 * 3e6, "{estimate}");
    }
}

#[test]
fn a_competing_flow_leaves_its_rest() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT)];
        let competing = (15_000, 45_000, 2 * MEGABIT);
        let simulation = run(Path { capacity, seed, competing, ..Path::default() }, 60_000);
        let queue = simulation.queue_below(18_000, 45_000, 100.0);
        assert!(queue > 0.9, "{queue}");
        let estimate = simulation.mean_estimate(20_000, 45_000);
        assert!(estimate > 0.6e6, "{estimate}");
        assert!(simulation.time_to_layer(45_000, LAYERS[2]) < 10_000);
    }
}

#[test]
fn a_deep_queue_is_kept_short() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT), (15_000, MEGABIT)];
        let simulation = run(Path { capacity, seed, queue_ms: 1000, ..Path::default() }, 45_000);
        let queue = simulation.worst_queue(19_000, 45_000);
        assert!(queue < 300.0, "{queue}");
        let queue = simulation.queue_below(18_000, 45_000, 100.0);
        assert!(queue > 0.9, "{queue}");
    }
}

#[test]
fn estimate_falls_in_a_blackout_and_recovers_by_probing() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT), (15_000, 0), (17_000, 3 * MEGABIT)];
        let simulation = run(Path { capacity, seed, ..Path::default() }, 30_000);
        let before = simulation.lowest_estimate(14_900, 15_000);
        assert!(before > LAYERS[2]);
        assert!(simulation.lowest_estimate(16_000, 16_300) < before / 4 * 3);
        assert!(simulation.lowest_estimate(16_800, 17_000) < before / 2);
        let best = simulation.time_to_layer(17_200, LAYERS[2]);
        assert!(best < 4_000, "{best}");
    }
}

/// Nothing of the video fits, so only probes show that the path carries more.
#[test]
fn video_returns_after_the_path_carried_none() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT), (15_000, 70 * KILOBIT), (25_000, 400 * KILOBIT)];
        let simulation = run(Path { capacity, seed, queue_ms: 500, ..Path::default() }, 45_000);
        assert!(simulation.lowest_estimate(15_000, 25_000) < LAYERS[0] / 2);
        // Meanwhile probes take little from audio.
        let lost = simulation.audio_lost_percent(18_000, 25_000);
        assert!(lost < 1.0, "{lost}");
        let lowest = simulation.time_to_layer(25_500, LAYERS[0]);
        println!("the lowest layer after {lowest} ms");
        assert!(lowest < 5_000, "{lowest}");
    }
}

#[test]
fn a_layer_that_fits_is_kept() {
    for (capacity, layer) in [(700 * KILOBIT, LAYERS[1]), (2_400 * KILOBIT, LAYERS[2])] {
        for seed in SEEDS {
            let simulation = run(Path { capacity: vec![(0, capacity)], seed, ..Path::default() }, 40_000);
            let received = simulation.received(10_000, 40_000);
            assert!(received > 0.9 * layer as f64, "{received}");
        }
    }
}

#[test]
fn an_ordinary_frame_leaves_at_once_on_a_path_with_room() {
    for seed in SEEDS {
        let capacity = vec![(0, 10 * MEGABIT), (10_000, MEGABIT), (15_000, 10 * MEGABIT)];
        let mut simulation = run(Path { capacity, seed, ..Path::default() }, 10_000);
        assert_eq!(simulation.control.pacing_burst().as_millis(), 40);
        // Nor for a while after it was too slow.
        simulation.run_until(30_000);
        assert_eq!(simulation.control.pacing_burst().as_millis(), 10);
        simulation.run_until(120_000);
        assert_eq!(simulation.control.pacing_burst().as_millis(), 40);
    }
}

#[test]
fn a_raise_that_fails_delays_the_next() {
    // The best layer fits without room to spare.
    for (capacity, most) in [(2 * MEGABIT, 4), (2_200 * KILOBIT, 6)] {
        for seed in SEEDS {
            let simulation = run(Path { capacity: vec![(0, capacity)], seed, ..Path::default() }, 40_000);
            let layers = simulation.between(5_000, 40_000).windows(2);
            let changes = layers.filter(|pair| pair[0].layer != pair[1].layer).count();
            assert!(changes <= most, "{changes}");
            let received = simulation.received(5_000, 40_000);
            assert!(received > 0.95 * LAYERS[1] as f64, "{received}");
        }
    }
}

#[test]
fn a_long_round_trip_is_used_too() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT)];
        let simulation = run(Path { capacity, seed, propagation_ms: 100, ..Path::default() }, 30_000);
        assert!(simulation.time_to_layer(0, LAYERS[2]) < 3_000);
        let estimate = simulation.mean_estimate(5_000, 30_000);
        assert!(estimate > 1.8e6, "{estimate}");
    }
}

#[test]
fn path_is_not_probed_while_nothing_is_held_back() {
    let mut simulation = Simulation::new(Path::default());
    simulation.wanted = LAYERS[0];
    simulation.run_until(5_000);
    let probes = |simulation: &Simulation, from, until| -> u64 {
        simulation.between(from, until).iter().map(|sample| sample.probe_bits).sum()
    };
    assert_eq!(probes(&simulation, 0, 5_000), 0);
    // More is wanted.
    simulation.wanted = LAYERS[2];
    simulation.run_until(10_000);
    assert!(probes(&simulation, 5_000, 6_000) > 0);
    assert!(simulation.time_to_layer(5_000, LAYERS[2]) < 2_000);
    assert_eq!(probes(&simulation, 8_000, 10_000), 0);
}

/// A router that lets 4.5 kB through at full speed, as a token bucket does: short probes say that it carries more.
#[test]
fn the_picture_does_not_stand_still_behind_a_token_bucket() {
    for seed in SEEDS {
        let capacity =
            vec![(0, 100 * MEGABIT), (15_000, MEGABIT), (35_000, 400 * KILOBIT), (50_000, 100 * MEGABIT)];
        let path = Path { capacity, seed, burst: 4_500, queue_ms: 250, propagation_ms: 1, ..Path::default() };
        let simulation = run(path, 65_000);
        assert_eq!(simulation.frozen(15_000, 35_000), 0);
        // The lowest layer's frames may wait behind a probe.
        let frozen = simulation.frozen(35_000, 50_000);
        assert!(frozen < 300, "{frozen}");
        assert!(simulation.received(20_000, 35_000) > 0.95 * LAYERS[1] as f64, "the middle layer");
        // A probe that the bucket lets through is not followed by one of twice its rate: both would delay the rest.
        let probes =
            simulation.between(20_000, 50_000).iter().map(|sample| sample.probe_bits).sum::<u64>() / 30;
        println!("probes {probes} bit/s");
        assert!(probes < 50 * KILOBIT, "{probes}");
        let lost = simulation.audio_lost_percent(15_000, 50_000);
        assert!(lost < 1.0, "{lost}");
        let middle = simulation.time_to_layer(50_000, LAYERS[1]);
        assert!(middle < 5_000, "{middle}");
        let best = simulation.time_to_layer(50_000, LAYERS[2]);
        assert!(best < 10_000, "{best}");
    }
}

#[test]
fn without_transport_wide_feedback_loss_decides_and_nothing_is_probed() {
    for seed in SEEDS {
        let capacity = vec![(0, 3 * MEGABIT), (20_000, 700 * KILOBIT), (60_000, 5 * MEGABIT)];
        let path = Path { capacity, seed, queue_ms: 100, ..Path::default() };
        println!("seed {seed}");
        let mut simulation = Simulation::without_feedback(path);
        simulation.run_until(120_000);
        simulation.print(1000);
        assert!(simulation.samples.iter().all(|sample| sample.probe_bits + sample.trial_bits == 0));
        assert!(simulation.received(35_000, 60_000) > 0.25e6);
        assert!(simulation.time_to_layer(60_000, LAYERS[2]) < 40_000);
    }
}
