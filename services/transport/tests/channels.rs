//! Data channels with an independent peer.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Setup, World};
use str0m::{
    Event,
    channel::{ChannelConfig, Reliability},
};
use systir_transport::{ChannelId, SendError, TransportEvent};

fn opened(world: &World, name: &str) -> Option<(ChannelId, bool, Option<u16>, bool)> {
    world.events.iter().find_map(|event| match event {
        TransportEvent::ChannelOpen { id, label, ordered, max_retransmits, by_peer } if &**label == name => {
            Some((*id, *ordered, *max_retransmits, *by_peer))
        }
        _ => None,
    })
}

fn client_opened(world: &World, name: &str) -> Option<str0m::channel::ChannelId> {
    world.client_events.iter().find_map(|event| match event {
        Event::ChannelOpen(id, label) if label == name => Some(*id),
        _ => None,
    })
}

#[test]
fn channels_that_the_server_opens_carry_messages_both_ways() {
    for client_is_active in [true, false] {
        let setup = Setup { client_is_active };
        let mut world = World::new(&setup);
        // Asked for long before there is a connection, as for a subscriber.
        let reliable = world.transport.open_channel("_reliable", true, None);
        let lossy = world.transport.open_channel("_lossy", false, Some(0));
        assert_eq!(world.transport.send(reliable, b"early"), Err(SendError::WouldBlock));
        world.introduce(&setup);
        world.until("both open", |world| {
            opened(world, "_reliable").is_some()
                && opened(world, "_lossy").is_some()
                && client_opened(world, "_reliable").is_some()
                && client_opened(world, "_lossy").is_some()
        });
        assert_eq!(opened(&world, "_reliable"), Some((reliable, true, None, false)));
        assert_eq!(opened(&world, "_lossy"), Some((lossy, false, Some(0), false)));
        let theirs = client_opened(&world, "_lossy").unwrap();
        let config = world.rtc.channel(theirs).unwrap().config().cloned().unwrap();
        assert!(!config.ordered);
        assert_eq!(config.reliability, Reliability::MaxRetransmits { retransmits: 0 });

        let large = vec![7; 64_000];
        world.transport.send(reliable, &large).unwrap();
        world.transport.send(lossy, b"lossy").unwrap();
        world.transport.send(reliable, b"").unwrap();
        world.until("delivered", |world| {
            world.client_events.iter().filter(|event| matches!(event, Event::ChannelData(_))).count() == 3
        });
        let got = |data: &[u8]| {
            world.client_events.iter().any(|event| matches!(event, Event::ChannelData(d) if d.data == data))
        };
        assert!(got(&large) && got(b"lossy") && got(b""));
        world.rtc.channel(theirs).unwrap().write(true, b"back").unwrap();
        world.until("came back", |world| {
            world.events.iter().any(|event| {
                matches!(event, TransportEvent::ChannelData { id, label, binary: true, data }
                    if *id == lossy && &**label == "_lossy" && &data[..] == b"back")
            })
        });
    }
}

#[test]
fn channels_that_the_client_opens_carry_messages_both_ways() {
    for client_is_active in [true, false] {
        let mut world = World::connected(&Setup { client_is_active });
        let theirs = world.rtc.direct_api().create_data_channel(ChannelConfig {
            label: "_lossy".into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 1 },
            ..ChannelConfig::default()
        });
        world.until("open", |world| {
            opened(world, "_lossy").is_some() && client_opened(world, "_lossy").is_some()
        });
        let (ours, ordered, max_retransmits, by_peer) = opened(&world, "_lossy").unwrap();
        assert_eq!((ordered, max_retransmits, by_peer), (false, Some(1), true));
        world.rtc.channel(theirs).unwrap().write(false, "text".as_bytes()).unwrap();
        world.transport.send(ours, b"reply").unwrap();
        world.until("exchanged", |world| {
            world.events.iter().any(|event| {
                matches!(event, TransportEvent::ChannelData { binary: false, data, .. } if &data[..] == b"text")
            }) && world
                .client_events
                .iter()
                .any(|event| matches!(event, Event::ChannelData(data) if data.data == b"reply" && data.binary))
        });
        world.rtc.direct_api().close_data_channel(theirs);
        world.until("closed", |world| world.events.contains(&TransportEvent::ChannelClosed { id: ours }));
        assert_eq!(world.transport.send(ours, b"late"), Err(SendError::Closed));
    }
}

#[test]
fn both_sides_open_many_channels_without_sharing_a_stream() {
    let mut world = World::connected(&Setup::default());
    for n in 0..40 {
        world.transport.open_channel(&format!("s{n}"), true, None);
        world
            .rtc
            .direct_api()
            .create_data_channel(ChannelConfig { label: format!("c{n}"), ..ChannelConfig::default() });
    }
    world.until("all open", |world| {
        (0..40).all(|n| {
            opened(world, &format!("c{n}")).is_some_and(|(.., by_peer)| by_peer)
                && opened(world, &format!("s{n}")).is_some_and(|(.., by_peer)| !by_peer)
        })
    });
}

#[test]
fn a_slow_client_blocks_the_sender_and_a_large_message_is_an_error() {
    let mut world = World::new(&Setup::default());
    let channel = world.transport.open_channel("_reliable", true, None);
    world.introduce(&Setup::default());
    world.until("open", |world| opened(world, "_reliable").is_some());
    let len = 65_536;
    assert_eq!(world.transport.send(channel, &vec![0; len]), Err(SendError::TooLarge { len, limit: 65_535 }));
    let mut sent = 0;
    while world.transport.send(channel, &[1; 60_000]).is_ok() {
        sent += 1;
        assert!(sent < 100, "the buffer is bounded");
    }
    assert_eq!(world.transport.send(channel, &[1; 60_000]), Err(SendError::WouldBlock));
    assert!(sent >= 16);
    world.until("all delivered", |world| {
        let got = world.client_events.iter().filter(|event| matches!(event, Event::ChannelData(_))).count();
        got == sent
    });
    world.transport.send(channel, b"room again").unwrap();
    world.run(Duration::from_millis(100));
}
