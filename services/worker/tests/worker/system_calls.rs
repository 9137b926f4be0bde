//! How few system calls the packets for many subscribers take.

use crate::client::{Client, run_until};
use crate::harness::{Camera, Harness};

const SUBSCRIBERS: u64 = 16;

#[test]
fn packets_of_many_subscribers_leave_in_few_system_calls() {
    let (datagrams, calls) = datagrams_and_calls(Camera::default());
    assert!(datagrams >= 8 * calls, "{datagrams} datagrams in {calls} calls");
}

#[test]
fn packets_of_a_frame_that_differ_by_a_byte_leave_in_few_system_calls() {
    let mut camera = Camera::default();
    camera.is_uneven = true;
    let (datagrams, calls) = datagrams_and_calls(camera);
    // Each subscriber's frame would need two calls: 64 datagrams in 34 calls.
    assert!(datagrams >= 4 * calls, "{datagrams} datagrams in {calls} calls");
}

fn datagrams_and_calls(mut camera: Camera) -> (u64, u64) {
    let mut harness = Harness::new();
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
    harness.take();
    let mut sent = |harness: &Harness, publisher: &mut Client, steps: u64| {
        let before = harness.counts();
        for step in 1..=steps {
            camera.step(publisher);
            publisher.poll();
            // Voice for each subscriber.
            let least = before.media_out + step * SUBSCRIBERS;
            if step % 10 == 0 {
                harness.wait_counts("packets leave", |counts| counts.media_out >= least);
            }
        }
        let after = harness.counts();
        (after.datagrams_out - before.datagrams_out, after.sends - before.sends)
    };
    sent(&harness, &mut publisher, 10);
    let (datagrams, calls) = sent(&harness, &mut publisher, 50);
    assert!(datagrams >= 50 * SUBSCRIBERS, "{datagrams}");
    (datagrams, calls)
}
