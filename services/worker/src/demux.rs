//! Maps datagrams to connections: by source address, which is mapped only after an authenticated STUN check.
//! From an unknown address only a binding request with a local ufrag is accepted.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use systir_transport::{Protocol, classify};

/// Source addresses that are mapped to one connection: a laptop with IPv4, IPv6, a VPN and relays checks from many, and answers
/// of checks are recognised by them. The one without checks for the longest time is removed first, never the one that media
/// is sent to.
const MAX_ADDRESSES: usize = 16;

/// The protocol of a datagram; none also when it is too short for that protocol's header.
pub(super) fn protocol_of(datagram: &[u8]) -> Option<Protocol> {
    let class = classify(datagram)?;
    let header = match class {
        Protocol::Stun => 20,
        Protocol::Rtp => 12,
        Protocol::Dtls | Protocol::Rtcp => 2,
    };
    (datagram.len() >= header).then_some(class)
}

/// The local ufrag in a STUN binding request's USERNAME, `local:remote` (RFC 8445 section 7.2.2).
/// It is not authenticated.
pub(crate) fn binding_request_ufrag(datagram: &[u8]) -> Option<&str> {
    const BINDING_REQUEST: [u8; 2] = [0, 1];
    const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
    const USERNAME: u16 = 6;
    if datagram.get(..2)? != BINDING_REQUEST || datagram.get(4..8)? != MAGIC_COOKIE {
        return None;
    }
    let mut rest = datagram.get(20..)?;
    loop {
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let len = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        let value = rest.get(4..4 + len)?;
        if kind == USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(local, _)| local);
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
}

/// Connections by source address and by local ufrag. A connection is identified by its slab key.
#[derive(Debug, Default)]
pub(super) struct Demux {
    by_address: FxHashMap<SocketAddr, usize>,
    by_ufrag: FxHashMap<String, usize>,
    /// The addresses of each connection, that of the newest check last.
    addresses: FxHashMap<usize, SmallVec<[SocketAddr; MAX_ADDRESSES]>>,
}

impl Demux {
    /// The connection for which the last authenticated check from this address arrived.
    pub(super) fn connection_by_address(&self, from: SocketAddr) -> Option<usize> {
        self.by_address.get(&from).copied()
    }

    /// The connection with this local ufrag.
    pub(super) fn connection_by_ufrag(&self, ufrag: &str) -> Option<usize> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Adds a connection. False when another one has this ufrag.
    pub(super) fn insert(&mut self, connection: usize, ufrag: String) -> bool {
        if self.by_ufrag.contains_key(&ufrag) {
            return false;
        }
        self.by_ufrag.insert(ufrag, connection);
        self.addresses.insert(connection, SmallVec::new());
        true
    }

    /// Maps an address to a connection, after an authenticated check. `in_use` is the address that the
    /// connection's media is sent to.
    pub(super) fn map_address(&mut self, from: SocketAddr, connection: usize, in_use: Option<SocketAddr>) {
        if let Some(previous) = self.by_address.insert(from, connection)
            && previous != connection
            && let Some(addresses) = self.addresses.get_mut(&previous)
        {
            addresses.retain(|address| *address != from);
        }
        let Some(addresses) = self.addresses.get_mut(&connection) else { return };
        if let Some(known) = addresses.iter().position(|address| *address == from) {
            addresses.remove(known);
        } else if addresses.len() == MAX_ADDRESSES {
            let unused = addresses.iter().position(|address| Some(*address) != in_use);
            let removed = addresses.remove(unused.unwrap_or(0));
            self.by_address.remove(&removed);
        }
        addresses.push(from);
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, connection: usize, ufrag: &str) {
        if self.connection_by_ufrag(ufrag) == Some(connection) {
            self.by_ufrag.remove(ufrag);
        }
        for address in self.addresses.remove(&connection).unwrap_or_default() {
            self.by_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding_request(username: &str) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend_from_slice(&0x2112_A442_u32.to_be_bytes());
        bytes.extend_from_slice(&[7; 12]);
        bytes.extend_from_slice(&[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        bytes.extend_from_slice(&[0, 6, 0, username.len() as u8]);
        bytes.extend_from_slice(username.as_bytes());
        bytes
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn binding_request_holds_the_local_ufrag() {
        assert_eq!(binding_request_ufrag(&binding_request("ours:theirs")), Some("ours"));
        assert_eq!(binding_request_ufrag(&binding_request("nocolon")), None);
        let mut response = binding_request("ours:theirs");
        response[0] = 1;
        assert_eq!(binding_request_ufrag(&response), None);
    }

    #[test]
    fn first_bytes_name_the_protocol() {
        assert_eq!(protocol_of(&binding_request("a:b")), Some(Protocol::Stun));
        assert_eq!(protocol_of(&[22, 254, 253]), Some(Protocol::Dtls));
        assert_eq!(protocol_of(&[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Protocol::Rtp));
        assert_eq!(protocol_of(&[0x80, 200, 0, 1]), Some(Protocol::Rtcp));
        assert_eq!(protocol_of(&[0x80, 96]), None);
        assert_eq!(protocol_of(&[]), None);
    }

    #[test]
    fn address_maps_to_the_connection_that_authenticated_last() {
        let mut demux = Demux::default();
        assert!(demux.insert(1, "one".into()));
        assert!(demux.insert(2, "two".into()));
        assert!(!demux.insert(3, "two".into()), "a ufrag is unique");
        demux.map_address(address(1), 1, None);
        demux.map_address(address(1), 2, None);
        assert_eq!(demux.connection_by_address(address(1)), Some(2));
        demux.remove(1, "one");
        assert_eq!(
            demux.connection_by_address(address(1)),
            Some(2),
            "removing the former connection keeps the mapping"
        );
        demux.remove(2, "two");
        assert_eq!(demux.connection_by_address(address(1)), None);
        assert_eq!(demux.connection_by_ufrag("two"), None);
    }

    #[test]
    fn number_of_addresses_of_a_connection_is_bounded() {
        let mut demux = Demux::default();
        demux.insert(1, "one".into());
        for port in 1..=100 {
            demux.map_address(address(port), 1, None);
        }
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES);
        assert_eq!(demux.connection_by_address(address(100)), Some(1));
        assert_eq!(demux.connection_by_address(address(1)), None);
    }

    #[test]
    fn address_in_use_stays_however_many_others_are_learnt() {
        let mut demux = Demux::default();
        demux.insert(1, "one".into());
        for port in 1..=100 {
            demux.map_address(address(port), 1, Some(address(1)));
            assert_eq!(demux.connection_by_address(address(1)), Some(1), "after {port} addresses");
        }
        assert_eq!(demux.by_address.len(), MAX_ADDRESSES);
    }

    #[test]
    fn address_without_checks_for_the_longest_time_is_removed_first() {
        let mut demux = Demux::default();
        demux.insert(1, "one".into());
        let full = MAX_ADDRESSES as u16;
        for port in (1..=full).chain([1, full + 1]) {
            demux.map_address(address(port), 1, None);
        }
        assert_eq!(demux.connection_by_address(address(1)), Some(1), "its last check is newer");
        assert_eq!(demux.connection_by_address(address(2)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_are_classified_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = protocol_of(&bytes);
            let _ = binding_request_ufrag(&bytes);
        }
    }
}
