//! Entry points for the fuzz targets; not part of the API.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use std::collections::BTreeSet;
use std::net::SocketAddr;

use is::stun::{StunMessage, TransId};

use crate::dtls::{Dtls, DtlsOutput};
use crate::ice::{IceLite, Transmit, TransmitQueue, hmac_sha1};
use crate::sctp::Sctp;
use crate::srtp::{Srtp, SrtpProfile};
use crate::{Certificate, IceCredentials, TransportEvent};

/// Where the header of an SCTP packet ends (RFC 9260 section 3.1).
const SCTP_HEADER: usize = 12;
/// Where the INIT chunk of a packet states the first TSN.
const INITIAL_TSN: std::ops::Range<usize> = 28..32;

/// Parses a DCEP message.
pub fn dcep(bytes: &[u8]) {
    let _ = crate::dcep::DcepMessage::parse(bytes);
}

#[allow(clippy::disallowed_methods, reason = "a fuzz target has no other source of time")]
fn now() -> Instant {
    Instant::now()
}

/// Passes packets to an association that waits for its peer. Each packet gets a valid checksum:
/// otherwise every packet is dropped at the checksum.
pub fn sctp(packets: impl Iterator<Item = Vec<u8>>) {
    let now = now();
    let mut sctp = Sctp::new(1200, now);
    sctp.start(now, false);
    let mut events = VecDeque::new();
    for mut packet in packets {
        set_checksum(&mut packet);
        sctp.handle(now, packet, &mut events);
        while sctp.poll_transmit().is_some() {}
        events.clear();
    }
}

/// One step of [`established_sctp`].
#[derive(Debug)]
pub enum SctpStep<'a> {
    /// The peer sends a packet with these chunks. TSNs in them count from the first one of their sender.
    Chunks(&'a [u8]),
    /// The peer's own association sends a message.
    Message(&'a [u8]),
    /// The association under test sends a message to each of its channels.
    Answer(&'a [u8]),
    /// The association under test opens a channel.
    Open(&'a str),
    /// Time passes.
    Wait(Duration),
}

/// An association that is up with one channel. Then its peer sends any chunks, with a valid header.
pub fn established_sctp<'a>(steps: impl Iterator<Item = SctpStep<'a>>) {
    let mut now = now();
    let (mut peer, mut sctp) = (Sctp::new(1200, now), Sctp::new(1200, now));
    peer.start(now, true);
    sctp.start(now, false);
    let channel = peer.open("_reliable", true, None);
    let mut header = [0; SCTP_HEADER];
    // The first TSN of the peer, and that of the association under test.
    let mut tsns = [0; 2];
    let mut open = Vec::new();
    let mut exchange = |peer: &mut Sctp, sctp: &mut Sctp, now: Instant| {
        let (mut events, mut ignored) = (VecDeque::new(), VecDeque::new());
        // Ends: each round carries a packet, and without time neither side retransmits for ever.
        for _ in 0..64 {
            let (to_sctp, to_peer) = (peer.poll_transmit(), sctp.poll_transmit());
            if to_sctp.is_none() && to_peer.is_none() {
                break;
            }
            if let Some(packet) = to_sctp {
                note_tsn(&packet, &mut tsns[0]);
                if let Some(first) = packet.first_chunk() {
                    header = *first;
                }
                sctp.handle(now, packet.to_vec(), &mut events);
            }
            if let Some(packet) = to_peer {
                note_tsn(&packet, &mut tsns[1]);
                peer.handle(now, packet.to_vec(), &mut ignored);
            }
        }
        for event in events {
            match event {
                TransportEvent::ChannelOpen { id, .. } => open.push(id),
                TransportEvent::ChannelClosed { id } => open.retain(|known| *known != id),
                _ => {}
            }
        }
        (header, tsns, open.clone())
    };
    let (_, _, first) = exchange(&mut peer, &mut sctp, now);
    assert_eq!(first.len(), 1, "the handshake is done and the peer's channel is open");
    for step in steps {
        let (header, tsns, open) = exchange(&mut peer, &mut sctp, now);
        match step {
            SctpStep::Chunks(chunks) => {
                let mut packet = header.to_vec();
                packet.extend_from_slice(chunks);
                add_to_tsns(packet.get_mut(SCTP_HEADER..).unwrap_or_default(), tsns);
                set_checksum(&mut packet);
                let mut events = VecDeque::new();
                sctp.handle(now, packet, &mut events);
                assert!(events.len() <= 4096, "{} events from one packet", events.len());
            }
            SctpStep::Message(data) => {
                let _ = peer.send(channel, data);
            }
            SctpStep::Answer(data) => {
                for id in open {
                    let _ = sctp.send(id, data);
                }
            }
            SctpStep::Open(label) => {
                sctp.open(label, true, None);
                sctp.open_pending(&mut VecDeque::new());
            }
            SctpStep::Wait(time) => {
                now += time;
                sctp.handle_timeout(now, &mut VecDeque::new());
                peer.handle_timeout(now, &mut VecDeque::new());
            }
        }
    }
    exchange(&mut peer, &mut sctp, now);
}

/// One step of [`ice`], of a peer that knows the passwords.
#[derive(Debug, Clone, Copy)]
pub enum IceStep {
    /// A check from an address, at one of ours.
    Check {
        /// The last part of the address.
        from: u8,
        /// At which of ours.
        to: u8,
        /// Its priority.
        priority: u8,
        /// Does it nominate the pair?
        nominates: bool,
    },
    /// The answer to one of the last checks of ours, from where it was sent to.
    Answer(u8),
    /// The peer restarts ICE.
    Restart(u8),
    /// Time passes.
    Wait(Duration),
}

/// An agent whose peer forges addresses: media goes only to one that has answered.
pub fn ice(steps: impl Iterator<Item = IceStep>) {
    let credentials = |name: &str, number: u8| IceCredentials {
        ufrag: format!("{name}{number}"),
        pwd: format!("{name}{number:-<22}"),
    };
    let address = |network: u8, host: u8| SocketAddr::from(([10, 0, network, host], 1));
    let (mut now, mut theirs) = (now(), credentials("them", 0));
    let ours = credentials("ours", 0);
    let mut agent = IceLite::new(ours.clone(), vec![address(1, 0), address(1, 1)]);
    agent.set_remote(theirs.clone());
    let (mut asked, mut answered) = (VecDeque::new(), BTreeSet::new());
    let written = |message: StunMessage<'_>, password: &str| {
        let mut bytes = vec![0; 512];
        let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, hmac_sha1).unwrap_or_default();
        bytes.truncate(length);
        bytes
    };
    for step in steps {
        let mut out = TransmitQueue::new();
        match step {
            IceStep::Check { from, to, priority, nominates } => {
                let username = format!("{}:{}", ours.ufrag, theirs.ufrag);
                let (id, priority) = (TransId::new(), u32::from(priority));
                let check = StunMessage::binding_request(&username, id, true, 7, priority, nominates);
                let check = written(check, &ours.pwd);
                assert!(agent.handle(now, address(0, from), address(1, to % 2), &check, &mut out));
                let sent: usize = out.iter().map(|sent| sent.datagram.len()).sum();
                assert!(sent <= 2 * check.len(), "{sent} bytes for {}", check.len());
            }
            IceStep::Answer(number) => {
                let Some((to, from, id)) = asked.get(usize::from(number)).copied() else { continue };
                let answer = written(StunMessage::binding_reply(id, to), &theirs.pwd);
                if agent.handle(now, to, from, &answer, &mut out) {
                    answered.insert(to);
                }
            }
            IceStep::Restart(number) => {
                theirs = credentials("them", number);
                agent.set_remote(theirs.clone());
            }
            IceStep::Wait(time) => {
                now += time;
                agent.renew_consent(now, &mut out);
            }
        }
        for Transmit { to, from, datagram } in out {
            if let (Ok(message), Some(from)) = (StunMessage::parse(&datagram), from)
                && message.is_binding_request()
            {
                asked.push_front((to, from, message.trans_id()));
                asked.truncate(64);
            }
        }
        assert!(
            agent.remote_addr().is_none_or(|to| answered.contains(&to)),
            "media to an address that did not answer"
        );
    }
}

/// One step of [`dtls`].
#[derive(Debug, Clone, Copy)]
pub enum DtlsStep<'a> {
    /// Any bytes arrive.
    Datagram(&'a [u8]),
    /// What the peer sent next arrives.
    Next,
    /// What the peer sent next arrives, changed.
    Changed(fn(&mut Vec<u8>, u8, usize), u8, usize),
    /// What the peer sent next arrives twice.
    Twice,
    /// What the peer sent next arrives after what it sent then.
    Later,
    /// What the peer sent next is lost.
    Lost,
    /// The peer sends data, once it is connected.
    Data(&'a [u8]),
    /// Time passes.
    Wait(Duration),
}

/// A DTLS association whose peer's datagrams are lost, changed and forged on the way. It connects only with the peer whose
/// certificate has the announced fingerprint, and passes on only what that peer sent. Returns how many messages arrived.
pub fn dtls<'a>(
    own: &Certificate,
    of_peer: &Certificate,
    announced: [u8; 32],
    active: bool,
    steps: impl Iterator<Item = DtlsStep<'a>>,
) -> usize {
    let (mut now, mut received) = (now(), 0);
    let (Ok(mut dtls), Ok(mut peer)) = (
        Dtls::new(own, announced, active, 1200, now),
        Dtls::new(of_peer, own.fingerprint(), !active, 1200, now),
    ) else {
        unreachable!("the settings are valid")
    };
    let (mut arriving, mut sent): (VecDeque<Vec<u8>>, Vec<&[u8]>) = (VecDeque::new(), Vec::new());
    for step in steps {
        let mut handled = Ok(());
        let next = match step {
            DtlsStep::Datagram(bytes) => vec![bytes.to_vec()],
            DtlsStep::Next => Vec::from_iter(arriving.pop_front()),
            DtlsStep::Twice => arriving.pop_front().map_or(Vec::new(), |next| vec![next.clone(), next]),
            DtlsStep::Changed(change, byte, place) => {
                let mut next = Vec::from_iter(arriving.pop_front());
                next.iter_mut().for_each(|datagram| change(datagram, byte, place));
                next
            }
            DtlsStep::Later | DtlsStep::Lost => {
                let next = arriving.pop_front();
                arriving.extend(next.filter(|_| matches!(step, DtlsStep::Later)));
                Vec::new()
            }
            DtlsStep::Data(data) => {
                if peer.is_connected() && peer.send(data).is_ok() {
                    sent.push(data);
                }
                Vec::new()
            }
            DtlsStep::Wait(time) => {
                now += time;
                handled = dtls.handle_timeout(now);
                let _ = peer.handle_timeout(now);
                Vec::new()
            }
        };
        for datagram in next {
            handled = handled.and_then(|()| dtls.handle(now, &datagram));
        }
        // Each flight of one is what the other waits for.
        for _ in 0..4 {
            let mut to_peer = Vec::new();
            handled = handled.and_then(|()| {
                dtls.drain(|output| match output {
                    DtlsOutput::Packet(packet) => to_peer.push(packet),
                    DtlsOutput::Connected(..) => assert_eq!(announced, of_peer.fingerprint()),
                    DtlsOutput::Data(data) => {
                        assert!(sent.contains(&data.as_slice()), "data that nobody sent");
                        received += 1;
                    }
                    DtlsOutput::Closed => {}
                })
            });
            assert!(to_peer.len() <= 64, "{} datagrams after one", to_peer.len());
            for packet in to_peer {
                let _ = peer.handle(now, &packet);
            }
            let _ = peer.drain(|output| {
                if let DtlsOutput::Packet(packet) = output {
                    arriving.push_back(packet);
                }
            });
        }
        if handled.is_err() {
            break;
        }
    }
    received
}

/// Reads the first TSN of a packet's sender from its INIT or INIT ACK.
fn note_tsn(packet: &[u8], tsn: &mut u32) {
    let Some(1 | 2) = packet.get(SCTP_HEADER) else { return };
    if let Some(bytes) = packet.get(INITIAL_TSN).and_then(|bytes| bytes.try_into().ok()) {
        *tsn = u32::from_be_bytes(bytes);
    }
}

/// Makes TSNs of chunks absolute: those of DATA and FORWARD TSN count from the peer's first one, those of SACK and of a
/// request to reset streams from the other side's.
fn add_to_tsns(mut chunks: &mut [u8], [peer, own]: [u32; 2]) {
    while let Some([kind, _, high, low]) = chunks.first_chunk().copied() {
        let places: &[(usize, u32)] = match kind {
            0 | 192 => &[(4, peer)],
            3 => &[(4, own)],
            // Request number, the last request of the other side, last TSN.
            130 => &[(8, peer), (12, own), (16, peer)],
            _ => &[],
        };
        for (at, first) in places {
            if let Some(bytes) = chunks.get_mut(*at..*at + 4)
                && let Ok(number) = <[u8; 4]>::try_from(&*bytes)
            {
                bytes.copy_from_slice(&u32::from_be_bytes(number).wrapping_add(*first).to_be_bytes());
            }
        }
        let length = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4).max(4);
        chunks = chunks.get_mut(length..).unwrap_or_default();
    }
}

fn set_checksum(packet: &mut [u8]) {
    if let Some(checksum) = packet.get_mut(8..SCTP_HEADER) {
        checksum.fill(0);
        let sum = crc32c(packet).to_le_bytes();
        if let Some(checksum) = packet.get_mut(8..SCTP_HEADER) {
            checksum.copy_from_slice(&sum);
        }
    }
}

/// CRC32c, SCTP's checksum (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| {
                if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 }
            },
        )
    })
}

/// Both ends of one SRTP session, whose keys a fuzzer need not find.
pub struct SrtpPair {
    peer: Srtp,
    own: Srtp,
}

impl std::fmt::Debug for SrtpPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpPair").finish_non_exhaustive()
    }
}

impl SrtpPair {
    /// A session with fixed keys. None: never, for a profile of this crate.
    #[must_use]
    pub fn new(profile: SrtpProfile) -> Option<Self> {
        let material: Vec<u8> = (0..88).collect();
        Some(Self { peer: Srtp::new(profile, &material, true)?, own: Srtp::new(profile, &material, false)? })
    }

    /// Opens the peer's datagram as it is: as RTP and as RTCP.
    pub fn open(&mut self, datagram: &[u8]) {
        for rtcp in [false, true] {
            let mut buffer = datagram.to_vec();
            let receiver = &mut self.own.receiver;
            let opened = if rtcp { receiver.open_rtcp(&mut buffer) } else { receiver.open_rtp(&mut buffer) };
            if let Ok(plain) = opened {
                assert!(plain.len() < datagram.len());
            }
        }
    }

    /// The peer seals a plain packet, `change` alters it on the way, and it is opened. Unchanged it is what was sealed;
    /// a changed one is refused, and the unchanged one is then accepted still.
    pub fn pass(&mut self, plain: &[u8], rtcp: bool, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sealed = plain.to_vec();
        let sender = &mut self.peer.sender;
        let made = if rtcp { sender.seal_rtcp(&mut sealed, 0) } else { sender.seal_rtp(&mut sealed, 0) };
        if made.is_err() {
            return;
        }
        let mut changed = sealed.clone();
        change(&mut changed);
        let receiver = &mut self.own.receiver;
        let mut open = |datagram: &[u8]| {
            let mut buffer = datagram.to_vec();
            let opened = if rtcp { receiver.open_rtcp(&mut buffer) } else { receiver.open_rtp(&mut buffer) };
            opened.map(|plain| plain.to_vec())
        };
        if changed != sealed {
            assert!(open(&changed).is_err(), "a changed packet is accepted");
        }
        // A sequence number far from the others is refused, and so is one stream too many.
        if let Ok(opened) = open(&sealed) {
            assert_eq!(opened, plain);
            assert!(open(&sealed).is_err(), "a packet is accepted twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_whose_datagrams_arrive_is_connected_only_with_the_announced_certificate() {
        let [own, of_peer] = [(); 2].map(|()| Certificate::generate().unwrap());
        for active in [false, true] {
            let steps =
                || std::iter::repeat_n(DtlsStep::Next, 20).chain([DtlsStep::Data(b"hello"), DtlsStep::Next]);
            assert_eq!(dtls(&own, &of_peer, of_peer.fingerprint(), active, steps()), 1);
            assert_eq!(dtls(&own, &of_peer, own.fingerprint(), active, steps()), 0);
        }
    }
}
