//! One peer connection of a participant: its transport, the paths to the client, and the state of its
//! side.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use systir_forwarding::SubscriptionId;
use systir_rtp::twcc::TwccRecorder;
use systir_transport::Transport;

use super::data::Channels;
use super::ingress::Ingress;
use super::pending::PendingDowntracks;
use super::quality::QualityMeter;
use super::round_trip::RoundTrip;
use super::send_control::SendControl;
use super::send_queue::{Datagrams, Route};
use systir_media_control::{ParticipantKey, RoomNumber, Side};

/// Paths kept per connection: address pairs on which checks arrived.
const MAX_PATHS: usize = 16;

/// State of the side of a connection.
#[derive(Debug)]
pub(super) enum Role {
    /// The client sends media.
    Publisher {
        /// The m-lines and streams that the client sends.
        ingress: Box<Ingress>,
        /// Arrival times, for transport-wide feedback.
        twcc: Box<TwccRecorder>,
    },
    /// The server sends media.
    Subscriber {
        /// The downtracks of the client.
        downtracks: Vec<SubscriptionId>,
        /// The downtracks by the SSRC of their media.
        by_ssrc: FxHashMap<u32, SubscriptionId>,
        /// Those that have queued packets.
        pending: PendingDowntracks,
        /// None before the first downtrack of video.
        control: Option<Box<SendControl>>,
        /// Which packet before the newest one the last probe sent again.
        probed: u64,
        /// The data channels that we opened.
        channels: Channels,
    },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) room: RoomNumber,
    pub(super) participant: ParticipantKey,
    pub(super) transport: Transport,
    pub(super) ufrag: String,
    pub(super) role: Role,
    /// ICE and DTLS are up.
    pub(super) connected: bool,
    /// The room was notified that the connection closed, or closed it itself.
    pub(super) closed: bool,
    /// The route of media to the client.
    pub(super) route: Option<Route>,
    /// Media written in this iteration of the loop and not yet submitted.
    pub(super) waiting: Option<Datagrams>,
    /// When its timer is due; other entries in the worker's timer queue are outdated.
    pub(super) timer_at: Option<Instant>,
    /// The round-trip time to the client, from its reports on what we send.
    pub(super) round_trip: RoundTrip,
    /// The quality of what passes on it.
    pub(super) quality: QualityMeter,
    /// When the next periodic RTCP reports are due; other entries in the worker's queue are outdated.
    pub(super) next_report: Instant,
    /// When its congestion control is looked at next, if it has one.
    pub(super) next_control: Option<Instant>,
    /// Is it in the worker's list of readers for whom messages wait?
    pub(super) is_reader_listed: bool,
    /// Is it in its room's list of connections whose data messages are not read?
    pub(super) is_data_paused: bool,
    /// Paths, each with our advertised address.
    paths: SmallVec<[(Route, SocketAddr); 4]>,
}

impl Connection {
    pub(super) fn new(
        room: RoomNumber,
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
            timer_at: None,
            round_trip: RoundTrip::default(),
            quality: QualityMeter::new(now),
            next_report: now,
            next_control: None,
            is_reader_listed: false,
            is_data_paused: false,
            paths: SmallVec::new(),
        }
    }

    pub(super) fn side(&self) -> Side {
        match self.role {
            Role::Publisher { .. } => Side::Publisher,
            Role::Subscriber { .. } => Side::Subscriber,
        }
    }

    /// Records the path of a check, with our advertised address `own`. Nothing but responses to checks is
    /// sent on it unless the transport selects it. The newest path is the last.
    pub(super) fn record_path(&mut self, path: Route, own: SocketAddr) {
        if let Some(at) = self.paths.iter().position(|(known, to)| known.to == path.to && *to == own) {
            self.paths.remove(at);
        } else if self.paths.len() == MAX_PATHS {
            // An unauthenticated path is evicted first: other senders must not evict the client's paths.
            let (transport, route) = (&self.transport, self.route);
            let unauthenticated =
                self.paths.iter().position(|(path, _)| !transport.is_authenticated(path.to));
            let unused = || self.paths.iter().position(|(path, _)| Some(*path) != route);
            self.paths.remove(unauthenticated.or_else(unused).unwrap_or(0));
        }
        self.paths.push((path, own));
        self.update_route();
    }

    /// The path of the newest check from an address.
    pub(super) fn path(&self, to: SocketAddr) -> Option<Route> {
        self.paths.iter().rev().find(|(path, _)| path.to == to).map(|(path, _)| *path)
    }

    /// The path of the checks between the client's address `to` and our advertised address `own`.
    pub(super) fn path_between(&self, to: SocketAddr, own: SocketAddr) -> Option<Route> {
        self.paths.iter().find(|(path, from)| path.to == to && *from == own).map(|(path, _)| *path)
    }

    /// The paths that the transport has authenticated.
    pub(super) fn authenticated_paths(&self) -> impl Iterator<Item = Route> {
        self.paths.iter().map(|(path, _)| *path).filter(|path| self.transport.is_authenticated(path.to))
    }

    /// Sets the route to the path that the transport has selected.
    pub(super) fn update_route(&mut self) {
        let Some(to) = self.transport.remote_addr() else {
            self.route = None;
            return;
        };
        let chosen = self.transport.local_addr().and_then(|own| self.path_between(to, own));
        self.route = chosen.or_else(|| self.path(to));
    }

    pub(super) fn pending(&mut self) -> Option<&mut PendingDowntracks> {
        match &mut self.role {
            Role::Subscriber { pending, .. } => Some(pending),
            Role::Publisher { .. } => None,
        }
    }

    pub(super) fn send_control(&mut self) -> Option<&mut SendControl> {
        match &mut self.role {
            Role::Subscriber { control, .. } => control.as_deref_mut(),
            Role::Publisher { .. } => None,
        }
    }

    pub(super) fn ingress(&mut self) -> Option<&mut Ingress> {
        match &mut self.role {
            Role::Publisher { ingress, .. } => Some(ingress),
            Role::Subscriber { .. } => None,
        }
    }
}

/// Our advertised address that a client sent to. Behind a 1:1 NAT the destination address is not advertised:
/// then it is the first advertised address of the client's family.
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
    fn behind_a_nat_the_advertised_address_of_the_family_is_used() {
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
