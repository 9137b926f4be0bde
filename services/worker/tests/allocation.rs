//! A worker allocates nothing per packet: neither for one that arrives nor for one that it sends.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]
// The clients of the other tests can do more.
#![allow(dead_code)]

#[path = "worker/client.rs"]
mod client;
#[path = "worker/harness.rs"]
mod harness;

use std::alloc::System;

use client::{Client, run_until};
use harness::{Camera, Harness};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use systir_worker::WorkerCounts;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SUBSCRIBERS: u64 = 10;
const STEPS: usize = 1000;
/// Packets of a step: one of voice, and three layers of a frame.
const STEP: usize = 10;

/// Sends steps that were kept, and returns the counts once the worker has handled them.
fn send(harness: &Harness, publisher: &mut Client, steps: &[Vec<u8>]) -> WorkerCounts {
    let first = harness.counts().media_in;
    let mut sent = first;
    // The counts are published ten times a second; the socket's buffer holds what is sent in that time.
    for part in steps.chunks(100 * STEP) {
        for datagram in part {
            publisher.send_raw(datagram, harness.server);
        }
        sent += part.len() as u64;
        harness.wait_counts("packets arrive", |counts| counts.media_in >= sent);
    }
    harness.counts()
}

/// It is the only test in this binary: other tests would allocate on their threads.
#[test]
fn no_packet_allocates() {
    let harness = Harness::new();
    let (mut publisher, _idle) = harness.join(1);
    harness.publish(1, &mut publisher);
    let mut subscribers: Vec<Client> = (2..2 + SUBSCRIBERS)
        .map(|key| {
            let (_, mut subscriber) = harness.join(key);
            harness.subscribe(key, &mut subscriber);
            subscriber
        })
        .collect();
    let mut all: Vec<_> = subscribers.iter_mut().chain([&mut publisher]).collect();
    run_until(&mut all, "all clients connect", |all| all.iter().all(|client| client.rtc.is_connected()));
    let mut camera = Camera::default();
    publisher.kept = Some(Vec::new());
    for _ in 0..2 * STEPS {
        camera.step(&mut publisher);
        publisher.poll();
    }
    let kept = publisher.kept.take().unwrap();
    let (warm_up, measured) = kept.split_at(kept.len() / STEP / 2 * STEP);
    let before = send(&harness, &mut publisher, warm_up);

    let region = Region::new(ALLOCATOR);
    let after = send(&harness, &mut publisher, measured);
    let change = region.change();
    let (received, sent) = (after.media_in - before.media_in, after.media_out - before.media_out);
    assert_eq!(received as usize, measured.len());
    assert!(sent > received, "{sent} packets were sent");
    // Reports are written a few times a second, whatever arrives.
    let allocations = change.allocations + change.reallocations;
    assert!(allocations < measured.len() / 20, "{allocations} allocations for {received} packets");
}
