//! Subscribers that give no transport-wide feedback: what is sent to them follows what their path carries, and their
//! clients are told which tracks are paused.

use systir_media_control::{Side, WorkerEvent};

use crate::client::{Client, run_until};
use crate::harness::{CAMERA, Camera, Harness};
use crate::tcp::listen;
use crate::{ALICE, BOB, Duration, Instant, connect};

/// Was bob last told that the camera is paused? None: he was told nothing.
fn is_paused(harness: &mut Harness) -> Option<bool> {
    harness.events().iter().rev().find_map(|event| match event {
        WorkerEvent::StreamState { participant, changes } if participant.0 == BOB => {
            changes.iter().rev().find(|(track, _)| *track == CAMERA).map(|(_, paused)| *paused)
        }
        _ => None,
    })
}

/// Alice's camera, with frames that are far apart: each layer has about 160 kbit/s.
#[derive(Default)]
struct SlowCamera {
    camera: Camera,
    next: Option<Instant>,
}

impl SlowCamera {
    fn step(&mut self, alice: &mut Client) {
        if self.next.is_none_or(|next| Instant::now() >= next) {
            self.next = Some(Instant::now() + Duration::from_millis(60));
            self.camera.step(alice);
        }
    }
}

fn video(client: &Client) -> usize {
    client.packets(6000).len()
}

#[test]
fn video_over_tcp_is_paused_while_the_client_reads_nothing_and_returns() {
    let mut harness = Harness::new();
    let (_runtime, address, _limiter) = listen(&harness);
    let (mut alice, _) = harness.join(ALICE);
    let mut bob = harness.join_over_tcp(BOB, address);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    connect(&mut harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    let mut camera = SlowCamera::default();
    run_until(&mut [&mut alice, &mut bob], "video", |clients| {
        camera.step(clients[0]);
        video(clients[1]) >= 30
    });
    assert_eq!(is_paused(&mut harness), None);
    run_until(&mut [&mut alice], "a pause", |clients| {
        camera.step(clients[0]);
        is_paused(&mut harness) == Some(true)
    });
    run_until(&mut [&mut alice, &mut bob], "the end of the pause", |clients| {
        camera.step(clients[0]);
        is_paused(&mut harness) == Some(false)
    });
    let before = video(&bob);
    run_until(&mut [&mut alice, &mut bob], "video again", |clients| {
        camera.step(clients[0]);
        video(clients[1]) >= before + 30
    });
    assert_eq!(harness.counts().streams_dropped, 0);
}

#[test]
fn video_is_paused_while_the_clients_own_estimate_is_too_low_and_returns() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    let (_, mut bob) = harness.join(BOB);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    connect(&mut harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    let mut camera = SlowCamera::default();
    for (estimate, paused) in [(40_000, true), (5_000_000, false)] {
        let mut next = Instant::now();
        run_until(&mut [&mut alice, &mut bob], "a change", |clients| {
            camera.step(clients[0]);
            if Instant::now() >= next && video(clients[1]) >= 20 {
                next = Instant::now() + Duration::from_millis(500);
                clients[1].report_estimate(6000, estimate);
            }
            is_paused(&mut harness) == Some(paused)
        });
    }
}

#[test]
fn video_whose_loss_is_reported_is_paused() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    let (_, mut bob) = harness.join(BOB);
    harness.publish(ALICE, &mut alice);
    harness.subscribe(BOB, &mut bob);
    connect(&mut harness, &mut [&mut alice, &mut bob], &[(ALICE, Side::Publisher), (BOB, Side::Subscriber)]);
    let mut count = 0_u32;
    // Two of three packets of video are lost, and of its retransmissions.
    bob.lose(move |bytes| {
        let is_video = bytes.get(1).is_some_and(|byte| matches!(byte & 0x7f, 96 | 97)) && bytes[0] >> 6 == 2;
        count += u32::from(is_video);
        is_video && !count.is_multiple_of(3)
    });
    let mut camera = Camera::default();
    let mut next = Instant::now();
    run_until(&mut [&mut alice, &mut bob], "a pause", |clients| {
        if Instant::now() >= next {
            next = Instant::now() + Duration::from_millis(20);
            camera.step(clients[0]);
        }
        is_paused(&mut harness) == Some(true)
    });
}
