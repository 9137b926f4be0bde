//! Data channels against str0m, an independent implementation.

#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use str0m::{
    Event,
    channel::{ChannelConfig, Reliability},
};
use systir_transport::{ChannelId, SendError, TransportEvent};

fn opened(pair: &Pair, name: &str) -> Option<(ChannelId, bool, Option<u16>, bool)> {
    pair.events.iter().find_map(|event| match event {
        TransportEvent::ChannelOpen { id, label, ordered, max_retransmits, by_peer } if &**label == name => {
            Some((*id, *ordered, *max_retransmits, *by_peer))
        }
        _ => None,
    })
}

fn client_opened(pair: &Pair, name: &str) -> Option<str0m::channel::ChannelId> {
    pair.client_events.iter().find_map(|event| match event {
        Event::ChannelOpen(id, label) if label == name => Some(*id),
        _ => None,
    })
}

#[test]
fn channels_opened_by_the_server_carry_messages_both_ways() {
    for client_is_active in [true, false] {
        let setup = Setup { client_is_active };
        let mut pair = Pair::new(&setup);
        // Opened before the transport is connected, as a worker does for a subscriber.
        let reliable = pair.transport.open_channel("_reliable", true, None);
        let lossy = pair.transport.open_channel("_lossy", false, Some(0));
        assert_eq!(pair.transport.send(reliable, b"early"), Err(SendError::WouldBlock));
        pair.describe_client(&setup);
        pair.run_until("both open", |pair| {
            opened(pair, "_reliable").is_some()
                && opened(pair, "_lossy").is_some()
                && client_opened(pair, "_reliable").is_some()
                && client_opened(pair, "_lossy").is_some()
        });
        assert_eq!(opened(&pair, "_reliable"), Some((reliable, true, None, false)));
        assert_eq!(opened(&pair, "_lossy"), Some((lossy, false, Some(0), false)));
        let theirs = client_opened(&pair, "_lossy").unwrap();
        let config = pair.rtc.channel(theirs).unwrap().config().cloned().unwrap();
        assert!(!config.ordered);
        assert_eq!(config.reliability, Reliability::MaxRetransmits { retransmits: 0 });

        let large = vec![7; 64_000];
        pair.transport.send(reliable, &large).unwrap();
        pair.transport.send(lossy, b"lossy").unwrap();
        pair.transport.send(reliable, b"").unwrap();
        pair.run_until("delivered", |pair| {
            pair.client_events.iter().filter(|event| matches!(event, Event::ChannelData(_))).count() == 3
        });
        let got = |data: &[u8]| {
            pair.client_events.iter().any(|event| matches!(event, Event::ChannelData(d) if d.data == data))
        };
        assert!(got(&large) && got(b"lossy") && got(b""));
        pair.rtc.channel(theirs).unwrap().write(true, b"back").unwrap();
        pair.run_until("the reply", |pair| {
            pair.events.iter().any(|event| {
                matches!(event, TransportEvent::ChannelData { id, label, binary: true, data }
                    if *id == lossy && &**label == "_lossy" && &data[..] == b"back")
            })
        });
    }
}

#[test]
fn channels_opened_by_the_client_carry_messages_both_ways() {
    for client_is_active in [true, false] {
        let mut pair = Pair::connected(&Setup { client_is_active });
        let theirs = pair.rtc.direct_api().create_data_channel(ChannelConfig {
            label: "_lossy".into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 1 },
            ..ChannelConfig::default()
        });
        pair.run_until("open", |pair| {
            opened(pair, "_lossy").is_some() && client_opened(pair, "_lossy").is_some()
        });
        let (ours, ordered, max_retransmits, by_peer) = opened(&pair, "_lossy").unwrap();
        assert_eq!((ordered, max_retransmits, by_peer), (false, Some(1), true));
        pair.rtc.channel(theirs).unwrap().write(false, "text".as_bytes()).unwrap();
        pair.transport.send(ours, b"reply").unwrap();
        pair.run_until("exchanged", |pair| {
            pair.events.iter().any(|event| {
                matches!(event, TransportEvent::ChannelData { binary: false, data, .. } if &data[..] == b"text")
            }) && pair
                .client_events
                .iter()
                .any(|event| matches!(event, Event::ChannelData(data) if data.data == b"reply" && data.binary))
        });
        pair.rtc.direct_api().close_data_channel(theirs);
        pair.run_until("closed", |pair| pair.events.contains(&TransportEvent::ChannelClosed { id: ours }));
        assert_eq!(pair.transport.send(ours, b"late"), Err(SendError::Closed));
    }
}

#[test]
fn both_sides_open_many_channels_without_sharing_a_stream() {
    let mut pair = Pair::connected(&Setup::default());
    for n in 0..40 {
        pair.transport.open_channel(&format!("s{n}"), true, None);
        pair.rtc
            .direct_api()
            .create_data_channel(ChannelConfig { label: format!("c{n}"), ..ChannelConfig::default() });
    }
    pair.run_until("all open", |pair| {
        (0..40).all(|n| {
            opened(pair, &format!("c{n}")).is_some_and(|(.., by_peer)| by_peer)
                && opened(pair, &format!("s{n}")).is_some_and(|(.., by_peer)| !by_peer)
        })
    });
}

#[test]
fn sending_blocks_on_a_slow_client_and_refuses_a_large_message() {
    let mut pair = Pair::new(&Setup::default());
    let channel = pair.transport.open_channel("_reliable", true, None);
    pair.describe_client(&Setup::default());
    pair.run_until("open", |pair| opened(pair, "_reliable").is_some());
    let len = 65_536;
    assert_eq!(pair.transport.send(channel, &vec![0; len]), Err(SendError::TooLarge { len, limit: 65_535 }));
    let mut sent = 0;
    while pair.transport.send(channel, &[1; 60_000]).is_ok() {
        sent += 1;
        assert!(sent < 100, "the buffer is bounded");
    }
    assert_eq!(pair.transport.send(channel, &[1; 60_000]), Err(SendError::WouldBlock));
    assert!(sent >= 16);
    pair.run_until("all delivered", |pair| {
        let got = pair.client_events.iter().filter(|event| matches!(event, Event::ChannelData(_))).count();
        got == sent
    });
    pair.transport.send(channel, b"after draining").unwrap();
    pair.run(Duration::from_millis(100));
}

#[test]
fn held_data_waits_and_is_sent_when_it_is_held_no_longer() {
    let mut pair = Pair::connected(&Setup::default());
    let ours = pair.transport.open_channel("_reliable", true, None);
    pair.run_until("open", |pair| opened(pair, "_reliable").is_some());
    pair.transport.hold_data(true);
    pair.transport.send(ours, b"later").unwrap();
    pair.run(Duration::from_secs(2));
    let arrived = |pair: &Pair| {
        pair.client_events
            .iter()
            .any(|event| matches!(event, Event::ChannelData(data) if data.data == b"later"))
    };
    assert!(!arrived(&pair));
    assert!(pair.transport.is_connected());
    pair.transport.hold_data(false);
    pair.run_until("the message", |pair| arrived(pair));
}
