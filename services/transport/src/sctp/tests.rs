use proptest::prelude::*;

use super::*;

/// Sets the right checksum (RFC 9260 appendix A), so that corrupted packets are not dropped there.
fn fix_checksum(packet: &mut [u8]) {
    if packet.len() < 12 {
        return;
    }
    packet[8..12].fill(0);
    let mut crc = u32::MAX;
    for byte in packet.iter() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}

fn pair(now: Instant) -> (Sctp, Sctp) {
    let (mut client, mut server) = (Sctp::new(1200, now), Sctp::new(1200, now));
    client.start(now, true);
    server.start(now, false);
    (client, server)
}

/// Delivers packets in both directions until there are none; `corrupt` may change those of the client.
/// Returns the events of the server.
fn exchange(
    client: &mut Sctp,
    server: &mut Sctp,
    now: Instant,
    corrupt: &mut dyn FnMut(&mut Vec<u8>),
) -> VecDeque<TransportEvent> {
    let (mut events, mut ignored) = (VecDeque::new(), VecDeque::new());
    for _ in 0..200 {
        let (from_client, from_server) = (client.poll_transmit(), server.poll_transmit());
        if from_client.is_none() && from_server.is_none() {
            break;
        }
        if let Some(packet) = from_client {
            let mut packet = packet.to_vec();
            corrupt(&mut packet);
            server.handle(now, packet, &mut events);
        }
        if let Some(packet) = from_server {
            client.handle(now, packet.to_vec(), &mut ignored);
        }
    }
    events
}

#[test]
fn fixed_checksum_is_valid() {
    let now = Instant::now();
    let (mut client, mut server) = pair(now);
    client.open("x", true, None);
    let events = exchange(&mut client, &mut server, now, &mut |packet| fix_checksum(packet));
    assert!(matches!(events.front(), Some(TransportEvent::ChannelOpen { by_peer: true, .. })), "{events:?}");
}

/// The client sends `count` messages of `size` bytes as fast as it can. After every 10 ms, `step` gets the
/// numbers of the messages that the server received.
fn flood(count: u32, size: usize, mut step: impl FnMut(usize, Instant, &mut Sctp, &[u32])) {
    let mut now = Instant::now();
    let (mut client, mut server) = pair(now);
    let id = client.open("_reliable", true, None);
    exchange(&mut client, &mut server, now, &mut |_| ());
    let mut sent = 0;
    for turn in 0..6_000 {
        let mut message = vec![0; size];
        while sent < count {
            message[..4].copy_from_slice(&sent.to_be_bytes());
            if client.send(id, &message).is_err() {
                break;
            }
            sent += 1;
        }
        let mut events = exchange(&mut client, &mut server, now, &mut |_| ());
        server.handle_timeout(now, &mut events);
        client.handle_timeout(now, &mut VecDeque::new());
        let received: Vec<u32> = events
            .into_iter()
            .filter_map(|event| match event {
                TransportEvent::ChannelData { data, .. } => data.first_chunk().copied(),
                _ => None,
            })
            .map(u32::from_be_bytes)
            .collect();
        step(turn, now, &mut server, &received);
        now += std::time::Duration::from_millis(10);
    }
}

#[test]
fn flood_of_messages_is_throttled_and_none_is_lost() {
    for size in [4, 1_000, 60_000] {
        let count = if size == 60_000 { 500 } else { 12_000 };
        let (mut received, mut steps, mut last) = (Vec::new(), Vec::new(), 0);
        flood(count, size, |turn, _, _, new| {
            received.extend_from_slice(new);
            steps.push(new.len());
            if !new.is_empty() {
                last = turn;
            }
        });
        assert_eq!(received, (0..count).collect::<Vec<_>>(), "each one, in order");
        let most = steps.windows(100).map(|second| second.iter().sum::<usize>()).max();
        assert!(most.is_some_and(|most| most <= 3_000), "{most:?} messages of {size} bytes in a second");
        assert!(last < 4_000, "{size} bytes: the last arrived after {last} steps");
    }
}

/// LiveKit's Go SDK sends a chunk of a data stream when all chunks before it are acknowledged.
#[test]
fn sender_that_waits_for_each_acknowledgement_is_not_delayed() {
    let start = Instant::now();
    let (mut client, mut server) = pair(start);
    let id = client.open("_reliable", true, None);
    exchange(&mut client, &mut server, start, &mut |_| ());
    let (mut sent, mut received, mut milliseconds) = (0, 0, 0);
    while received < 70 {
        let now = start + std::time::Duration::from_millis(milliseconds);
        if client.buffered() == 0 && sent < 70 {
            client.send(id, &[7; 15_000]).unwrap();
            sent += 1;
        }
        let mut events = exchange(&mut client, &mut server, now, &mut |_| ());
        server.handle_timeout(now, &mut events);
        client.handle_timeout(now, &mut VecDeque::new());
        received += events.iter().filter(|event| matches!(event, TransportEvent::ChannelData { .. })).count();
        milliseconds += 1;
        assert!(milliseconds < 1_000, "{received} of 70 chunks after a second");
    }
}

#[test]
fn every_second_packet_is_acknowledged_at_once_and_a_single_one_after_a_millisecond() {
    let now = Instant::now();
    let (mut client, mut server) = pair(now);
    let id = client.open("_reliable", true, None);
    exchange(&mut client, &mut server, now, &mut |_| ());
    // The acknowledgements of the channel's opening.
    let settled = now + std::time::Duration::from_millis(1);
    server.handle_timeout(settled, &mut VecDeque::new());
    client.handle_timeout(settled, &mut VecDeque::new());
    exchange(&mut client, &mut server, settled, &mut |_| ());
    for packets in [1, 2, 3] {
        // The acknowledgement of the last round has arrived.
        let now = now + std::time::Duration::from_secs(packets);
        for _ in 0..packets {
            client.send(id, &[7; 1_000]).unwrap();
        }
        exchange(&mut client, &mut server, now, &mut |_| ());
        assert_eq!(client.buffered() > 0, packets % 2 == 1, "{packets} packets");
        let later = now + std::time::Duration::from_millis(1);
        assert!(packets == 2 || server.poll_timeout().is_some_and(|due| due <= later), "{packets} packets");
        server.handle_timeout(later, &mut VecDeque::new());
        exchange(&mut client, &mut server, later, &mut |_| ());
        assert_eq!(client.buffered(), 0, "{packets} packets");
    }
}

#[test]
fn messages_wait_while_reading_is_slow_and_none_is_lost() {
    let (mut received, mut bytes) = (Vec::new(), 0);
    flood(1_000, 10_000, |turn, _, server, new| {
        match turn {
            5 => server.slow_down(true),
            6..1_005 => bytes += 10_000 * new.len(),
            1_005 => server.slow_down(false),
            _ => {}
        }
        received.extend_from_slice(new);
    });
    // In ten seconds.
    assert!((100_000..900_000).contains(&bytes), "{bytes} bytes");
    assert_eq!(received, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn messages_wait_while_reading_is_paused() {
    let mut received = Vec::new();
    flood(3_000, 100, |turn, now, server, new| {
        match turn {
            5 => server.pause(now, true),
            6 | 7 => assert!(new.len() <= 64, "messages in transit: {}", new.len()),
            8..500 => assert!(new.is_empty()),
            500 => server.pause(now, false),
            _ => {}
        }
        received.extend_from_slice(new);
    });
    assert_eq!(received, (0..3_000).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn corrupted_sctp_packets_never_cause_a_panic(
        corruptions in proptest::collection::vec((0_usize..12, any::<usize>(), any::<u8>(), 0_usize..3), 1..12),
    ) {
        let mut now = Instant::now();
        let (mut client, mut server) = pair(now);
        let id = client.open("x", false, Some(0));
        let mut count = 0;
        let mut corrupt = |packet: &mut Vec<u8>| {
            for (_, at, value, how) in corruptions.iter().filter(|(nth, ..)| *nth == count) {
                if packet.len() <= 12 {
                    continue;
                }
                // After the ports, the verification tag and the checksum, which a real client sets right.
                let at = 12 + at % (packet.len() - 12);
                match how {
                    0 => packet[at] = *value,
                    1 => packet.truncate(at),
                    _ => packet.insert(at, *value),
                }
            }
            count += 1;
            fix_checksum(packet);
        };
        let mut ignored = VecDeque::new();
        for _ in 0..5 {
            exchange(&mut client, &mut server, now, &mut corrupt);
            let _ = client.send(id, &[1; 3000]);
            exchange(&mut client, &mut server, now, &mut corrupt);
            now += std::time::Duration::from_secs(4);
            client.handle_timeout(now, &mut ignored);
            server.handle_timeout(now, &mut ignored);
        }
    }

    #[test]
    fn arbitrary_chunks_with_a_valid_checksum_never_cause_a_panic(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 1..20),
        kinds in proptest::collection::vec(0_u8..20, 20),
    ) {
        let now = Instant::now();
        let (mut client, mut server) = pair(now);
        let mut tag = [0; 4];
        exchange(&mut client, &mut server, now, &mut |packet| tag.copy_from_slice(&packet[4..8]));
        let mut events = VecDeque::new();
        for (body, kind) in packets.into_iter().zip(kinds) {
            // Ports 5000, the right verification tag, and one chunk of a known type with its right length.
            let mut packet = vec![0x13, 0x88, 0x13, 0x88];
            packet.extend_from_slice(&tag);
            packet.extend_from_slice(&[0, 0, 0, 0, kind, 3]);
            packet.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
            packet.extend_from_slice(&body);
            packet.resize(packet.len().next_multiple_of(4), 0);
            fix_checksum(&mut packet);
            server.handle(now, packet, &mut events);
            while server.poll_transmit().is_some() {}
        }
    }
}
