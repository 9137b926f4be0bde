//! Reliable data to readers that stop reading, and to those beside them.

use bytes::Bytes;
use systir_media_control::{DataChannel, ParticipantKey, Side, WorkerCommand, WorkerEvent};

use super::client::{Client, run_until};
use super::harness::{Harness, ROOM};
use super::{ALICE, BOB, CAROL, connect};

const MESSAGE: usize = 1_000;

fn message(number: u32) -> Bytes {
    let mut data = vec![7; MESSAGE];
    data[..4].copy_from_slice(&number.to_be_bytes());
    data.into()
}

fn send(harness: &Harness, to: u64, number: u32) {
    let (participant, channel) = (ParticipantKey(to), DataChannel::Reliable);
    harness.command(WorkerCommand::SendData { participant, channel, data: message(number) });
}

fn is_open(client: &Client) -> bool {
    client.channel("_reliable").is_some()
}

/// Numbers of the received messages.
fn received(client: &Client) -> Vec<u32> {
    let channel = client.channel("_reliable").unwrap();
    let messages = client.messages(channel).into_iter();
    messages.map(|data| u32::from_be_bytes(*data.first_chunk().unwrap())).collect()
}

#[track_caller]
fn wait_for_messages(client: &mut Client, count: u32) {
    run_until(&mut [client], "all messages", |clients| received(clients[0]).len() >= count as usize);
    assert_eq!(received(client), (0..count).collect::<Vec<_>>());
}

fn ended(harness: &mut Harness, key: u64) -> bool {
    let is_ended = |event: &WorkerEvent| matches!(event, WorkerEvent::ReaderEnded { participant } if participant.0 == key);
    harness.events().iter().any(is_ended)
}

#[test]
fn messages_before_the_channel_is_open_all_arrive() {
    let mut harness = Harness::new();
    let (_, mut bob) = harness.join(BOB);
    for number in 0..300 {
        send(&harness, BOB, number);
    }
    connect(&mut harness, &mut [&mut bob], &[(BOB, Side::Subscriber)]);
    run_until(&mut [&mut bob], "the channel", |clients| is_open(clients[0]));
    wait_for_messages(&mut bob, 300);
}

#[test]
fn participant_that_still_connects_slows_nobody_down_and_is_not_ended() {
    /// More than may wait for a reader.
    const SENT: u32 = 10_000;
    let mut harness = Harness::new();
    let (_, mut bob) = harness.join(BOB);
    for number in 0..SENT {
        send(&harness, BOB, number);
    }
    connect(&mut harness, &mut [&mut bob], &[(BOB, Side::Subscriber)]);
    run_until(&mut [&mut bob], "the channel", |clients| is_open(clients[0]));
    run_until(&mut [&mut bob], "the last message", |clients| {
        received(clients[0]).last() == Some(&(SENT - 1))
    });
    let got = received(&bob);
    let first = *got.first().unwrap();
    assert!(first > 0, "not all was kept");
    assert_eq!(got, (first..SENT).collect::<Vec<_>>(), "no gap");
    assert!(!ended(&mut harness, BOB));
    harness.wait_counts("what was not kept", |counts| {
        counts.data_dropped == u64::from(first) && counts.readers_ended == 0 && counts.rooms_slowed == 0
    });
}

#[test]
fn reader_that_stops_and_comes_back_gets_all_in_order() {
    let mut harness = Harness::new();
    let (_, mut bob) = harness.join(BOB);
    connect(&mut harness, &mut [&mut bob], &[(BOB, Side::Subscriber)]);
    run_until(&mut [&mut bob], "the channel", |clients| is_open(clients[0]));
    // More than the send buffer holds, and more than 64 messages above that. The reader reads nothing meanwhile.
    for number in 0..1_800 {
        send(&harness, BOB, number);
    }
    wait_for_messages(&mut bob, 1_800);
    assert_eq!(harness.counts().data_dropped, 0);
}

#[test]
fn reader_that_never_comes_back_is_ended_and_others_get_all() {
    let mut harness = Harness::new();
    let (_, mut bob) = harness.join(BOB);
    let (_, mut carol) = harness.join(CAROL);
    let who = [(BOB, Side::Subscriber), (CAROL, Side::Subscriber)];
    connect(&mut harness, &mut [&mut bob, &mut carol], &who);
    run_until(&mut [&mut bob, &mut carol], "channels", |clients| clients.iter().all(|one| is_open(one)));
    let mut sent = 0;
    while !ended(&mut harness, BOB) {
        for _ in 0..100 {
            send(&harness, BOB, sent);
            send(&harness, CAROL, sent);
            sent += 1;
        }
        assert!(sent < 20_000, "the reader is not ended after {sent} messages");
        // Only carol reads.
        run_until(&mut [&mut carol], "what was sent", |clients| received(clients[0]).len() == sent as usize);
    }
    wait_for_messages(&mut carol, sent);
    let slow =
        harness.events().iter().filter(|one| matches!(one, WorkerEvent::ReadersSlow { slow: true })).count();
    assert_eq!(slow, 1, "the room was told first, and once");
    harness.wait_counts("one ended reader", |counts| counts.readers_ended == 1 && counts.rooms_slowed == 1);
    // Its channel is silent, rather than with a gap.
    for number in 0..10 {
        send(&harness, BOB, number);
    }
    run_until(&mut [&mut bob, &mut carol], "the room is told", |_| {
        harness.events().iter().any(|event| matches!(event, WorkerEvent::ReadersSlow { slow: false }))
    });
    let got = received(&bob);
    assert_eq!(got, (0..got.len() as u32).collect::<Vec<_>>(), "no gap");
}

#[test]
fn those_who_send_are_slowed_down_while_readers_are_slow() {
    let mut harness = Harness::new();
    let (mut alice, _) = harness.join(ALICE);
    connect(&mut harness, &mut [&mut alice], &[(ALICE, Side::Publisher)]);
    let channel = alice.open_channel("_reliable", true);
    run_until(&mut [&mut alice], "the channel", |clients| is_open(clients[0]));
    let slow = |slow| WorkerCommand::SlowData { room: ROOM, slow };
    let data = vec![7; 60_000];
    let write = |client: &mut Client| {
        (0..4).filter(|_| client.rtc.channel(channel).unwrap().write(true, &data).unwrap()).count()
    };
    harness.command(slow(true));
    let arrivals = |harness: &mut Harness| {
        harness.take().iter().filter(|event| matches!(event, WorkerEvent::Data { .. })).count()
    };
    let (mut written, mut arrived) = (0, 0);
    let throttled = harness.counts().data_throttled;
    // The room takes all that arrives, so that only the command slows her down.
    run_until(&mut [&mut alice], "its data to be throttled", |clients| {
        written += write(clients[0]);
        arrived += arrivals(&mut harness);
        harness.counts().data_throttled > throttled
    });
    harness.command(slow(false));
    run_until(&mut [&mut alice], "all that was written", |_| {
        arrived += arrivals(&mut harness);
        arrived == written
    });
}
