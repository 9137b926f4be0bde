//! One peer connection of a participant: its transport, where it is reached, and what belongs to
//! its side.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use smallvec::SmallVec;
use systir_forwarding::SubscriptionId;
use systir_rtp::twcc::TwccRecorder;
use systir_transport::Transport;

use super::data::Channels;
use super::ingress::Ingress;
use super::outgoing::{Datagrams, Route};
use systir_media_control::{ParticipantKey, RoomKey, Side};

/// Paths remembered per connection: address pairs that checks came over.
const MAX_PATHS: usize = 4;

/// What only one side has.
#[derive(Debug)]
pub(super) enum Role {
    /// The client sends media.
    Publisher {
        /// Its sections and streams.
        ingress: Box<Ingress>,
        /// Arrival times for transport-wide feedback.
        twcc: Box<TwccRecorder>,
    },
    /// The server sends media.
    Subscriber {
        /// What it receives.
        downtracks: Vec<SubscriptionId>,
        /// The channels that we opened.
        channels: Channels,
    },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) room: RoomKey,
    pub(super) participant: ParticipantKey,
    pub(super) transport: Transport,
    pub(super) ufrag: String,
    pub(super) role: Role,
    /// ICE and DTLS are up and have not ended.
    pub(super) connected: bool,
    /// The room was told that it ended.
    pub(super) closed: bool,
    /// Where media goes.
    pub(super) route: Option<Route>,
    /// Media on its way out in this turn.
    pub(super) waiting: Option<Datagrams>,
    /// The entry in the worker's timer queue that counts.
    pub(super) scheduled: Option<Instant>,
    /// When the next periodic RTCP reports are due.
    pub(super) next_report: Instant,
    /// With our advertised address that each leads to.
    paths: SmallVec<[(Route, SocketAddr); MAX_PATHS]>,
}

impl Connection {
    pub(super) fn new(
        room: RoomKey,
        participant: ParticipantKey,
        ufrag: String,
        transport: Transport,
        role: Role,
        now: Instant,
    ) -> Self {
        Self {
            room,
            participant,
            transport,
            ufrag,
            role,
            connected: false,
            closed: false,
            route: None,
            waiting: None,
            scheduled: None,
            next_report: now,
            paths: SmallVec::new(),
        }
    }

    pub(super) fn side(&self) -> Side {
        match self.role {
            Role::Publisher { .. } => Side::Publisher,
            Role::Subscriber { .. } => Side::Subscriber,
        }
    }

    /// A check came over this path to one of our advertised addresses. Nothing is sent there unless
    /// the transport says so. The newest path is the last one.
    pub(super) fn seen(&mut self, path: Route, own: SocketAddr) {
        if let Some(at) = self.paths.iter().position(|(known, to)| known.to == path.to && *to == own) {
            self.paths.remove(at);
        } else if self.paths.len() == MAX_PATHS {
            // An unproved path gives way first, so that strangers cannot push out the client's own.
            let (transport, route) = (&self.transport, self.route);
            let unproved = self.paths.iter().position(|(path, _)| !transport.is_authenticated(path.to));
            let unused = || self.paths.iter().position(|(path, _)| Some(*path) != route);
            self.paths.remove(unproved.or_else(unused).unwrap_or(0));
        }
        self.paths.push((path, own));
        self.reroute();
    }

    /// The path that the newest check from an address came over.
    pub(super) fn path(&self, to: SocketAddr) -> Option<Route> {
        self.paths.iter().rev().find(|(path, _)| path.to == to).map(|(path, _)| *path)
    }

    /// Paths seen so far that the transport has authenticated.
    pub(super) fn authenticated(&self) -> impl Iterator<Item = Route> {
        self.paths.iter().map(|(path, _)| *path).filter(|path| self.transport.is_authenticated(path.to))
    }

    /// Follows the transport's choice of the client's address and of ours.
    pub(super) fn reroute(&mut self) {
        let Some(to) = self.transport.remote_addr() else {
            self.route = None;
            return;
        };
        let own = self.transport.local_addr();
        let chosen = self.paths.iter().find(|(path, from)| path.to == to && Some(*from) == own);
        self.route = chosen.map(|(path, _)| *path).or_else(|| self.path(to));
    }

    pub(super) fn ingress(&mut self) -> Option<&mut Ingress> {
        match &mut self.role {
            Role::Publisher { ingress, .. } => Some(ingress),
            Role::Subscriber { .. } => None,
        }
    }
}

/// Which of our advertised addresses a client sent to: behind a 1:1 NAT the socket's own address is
/// none of them.
pub(super) fn advertised_for(
    advertised: &[SocketAddr],
    from: SocketAddr,
    destination: Option<IpAddr>,
) -> Option<SocketAddr> {
    let exact = advertised.iter().find(|own| destination == Some(own.ip()));
    exact.or_else(|| advertised.iter().find(|own| own.is_ipv4() == from.is_ipv4())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_nat_the_advertised_address_of_the_family_counts() {
        let own: Vec<SocketAddr> = ["198.51.100.1:7882", "[2001:db8::1]:7882", "203.0.113.9:7882"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let from = |text: &str| text.parse::<SocketAddr>().unwrap();
        let to = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(advertised_for(&own, from("192.0.2.5:1"), to("10.0.0.4")), Some(own[0]));
        assert_eq!(advertised_for(&own, from("192.0.2.5:1"), to("203.0.113.9")), Some(own[2]));
        assert_eq!(advertised_for(&own, from("[2001:db8::5]:1"), None), Some(own[1]));
        assert_eq!(advertised_for(&own[..1], from("[2001:db8::5]:1"), None), None);
    }
}
