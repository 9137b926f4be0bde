//! ICE-lite (RFC 8445 section 2.5): answers checks, records the address pairs they arrive on, and
//! selects the pair that the controlling peer nominates. The STUN codec is that of the crate `is`. Its
//! lite agent is not used: it keeps every address it ever saw, and stays on the nominated pair of the
//! highest priority even after the peer moved to another one.
//!
//! Unlike a lite agent of the RFC it also sends triggered checks, as a full agent does (section 7.3.1.4),
//! until the peer nominates a pair: LiveKit's clients that use pion nominate a pair that has succeeded when
//! a check arrives on it, and otherwise only at the next tick of 200 ms.

use std::{
    cmp::Reverse,
    net::SocketAddr,
    time::{Duration, Instant},
};

use is::stun::{StunMessage, TransId};

use super::{IceCredentials, MAX_PATHS, Transmit, TransmitQueue, hmac_sha1};

/// A nomination of a lower priority is ignored for this long after the last nomination of the selected
/// pair. A peer that nominates aggressively (Firefox) sets USE-CANDIDATE on the checks of all pairs; one
/// that moved to another pair (Chrome) no longer sets it on those of the old pair.
const NOMINATION_LIFETIME: Duration = Duration::from_secs(1);

/// Buffer for a binding response; ours are under 100 bytes.
const MAX_RESPONSE: usize = 256;

/// Bytes of our check besides the username.
const CHECK_BYTES: usize = 128;

/// PRIORITY of our checks: that of a peer reflexive candidate (RFC 8445 section 7.1.1).
const CHECK_PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

/// We never become the controlling agent. The peer takes that role when its tie-breaker is not smaller
/// (section 7.3.1.1).
const TIE_BREAKER: u64 = 0;

/// An address pair on which an authenticated check arrived.
struct Path {
    /// The peer's address.
    remote: SocketAddr,
    /// Our address that the check arrived at.
    local: SocketAddr,
    /// PRIORITY of the peer's check; between equal ones the order of our candidates decides.
    priority: (u32, Reverse<usize>),
    nominated_at: Option<Instant>,
    last_check: Instant,
}

/// The agent.
pub(crate) struct IceLite {
    local: IceCredentials,
    /// Our credentials before the last restart of our side; checks under way still carry them.
    previous: Option<IceCredentials>,
    remote: Option<IceCredentials>,
    /// Our addresses, best first.
    candidates: Vec<SocketAddr>,
    paths: Vec<Path>,
    /// The nominated pair: the peer's address and ours.
    selected: Option<(SocketAddr, SocketAddr)>,
    /// The peer restarted and has not nominated since: its next nomination is selected.
    restarted: bool,
}

impl IceLite {
    pub(crate) fn new(local: IceCredentials, candidates: Vec<SocketAddr>) -> Self {
        Self {
            local,
            previous: None,
            remote: None,
            candidates,
            paths: Vec::new(),
            selected: None,
            restarted: false,
        }
    }

    /// Other credentials than before are the peer's ICE restart: the old path carries media until a
    /// new one is nominated (RFC 8445 section 9).
    pub(crate) fn set_remote(&mut self, remote: IceCredentials) {
        if self.remote.as_ref().is_some_and(|known| *known != remote) {
            let keep = self.pair();
            self.paths.retain(|path| Some(path.pair()) == keep);
            self.selected = keep;
            self.restarted = true;
        }
        self.remote = Some(remote);
    }

    pub(crate) fn set_local(&mut self, local: IceCredentials) {
        if self.local != local {
            self.previous = Some(std::mem::replace(&mut self.local, local));
        }
    }

    /// Our password that the message integrity of this check was made with.
    fn password(&self, message: &StunMessage<'_>) -> Option<&str> {
        let (ufrag, _) = message.split_username()?;
        [Some(&self.local), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|local| local.ufrag == ufrag && message.verify(local.pwd.as_bytes(), hmac_sha1))
            .map(|local| local.pwd.as_str())
    }

    /// Whether this is a binding request with valid message integrity.
    pub(crate) fn is_valid_check(&self, datagram: &[u8]) -> bool {
        StunMessage::parse(datagram)
            .is_ok_and(|message| message.is_binding_request() && self.password(&message).is_some())
    }

    /// Answers a binding request and records its path. False when it is not authenticated or is not for
    /// this peer: then nothing is sent or changed.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut TransmitQueue,
    ) -> bool {
        let Ok(message) = StunMessage::parse(datagram) else { return false };
        if !message.is_binding_request() {
            return false;
        }
        let (Some((_, theirs)), Some(remote)) = (message.split_username(), &self.remote) else {
            return false;
        };
        if theirs != remote.ufrag {
            return false;
        }
        let Some(password) = self.password(&message) else { return false };
        // We are always controlled: a peer that is controlled too must switch its role
        // (RFC 8445 section 7.3.1.1).
        let conflict = message.ice_controlled().is_some();
        let reply = if conflict {
            StunMessage::binding_role_conflict_reply(message.trans_id())
        } else {
            StunMessage::binding_reply(message.trans_id(), from)
        };
        let mut bytes = vec![0; MAX_RESPONSE];
        let Ok(len) = reply.to_bytes(Some(password.as_bytes()), &mut bytes, hmac_sha1) else { return false };
        bytes.truncate(len);
        // From the address that the check arrived at (RFC 8445 section 7.3.1.3), also when another path is selected.
        out.push_back(Transmit { to: from, from: Some(to), datagram: bytes });
        if !conflict {
            self.check_received(now, (from, to), message.prio().unwrap_or(0), message.use_candidate());
            // After the response: for the peer the pair has then succeeded.
            if let Some(check) = self.triggered_check(&message) {
                out.push_back(Transmit { to: from, from: Some(to), datagram: check });
            }
        }
        true
    }

    /// A check on the pair that this check of the peer arrived on; none once the peer has nominated a pair.
    /// One for each check of the peer: it is not sent again by itself, and its response is not needed.
    fn triggered_check(&self, message: &StunMessage<'_>) -> Option<Vec<u8>> {
        if self.selected.is_some() && !self.restarted {
            return None;
        }
        let ((ours, theirs), remote) = (message.split_username()?, self.remote.as_ref()?);
        let username = format!("{theirs}:{ours}");
        let check = StunMessage::binding_request(
            &username,
            TransId::new(),
            false,
            TIE_BREAKER,
            CHECK_PRIORITY,
            false,
        );
        let mut bytes = vec![0; CHECK_BYTES + username.len()];
        let len = check.to_bytes(Some(remote.pwd.as_bytes()), &mut bytes, hmac_sha1).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    fn check_received(
        &mut self,
        now: Instant,
        pair: (SocketAddr, SocketAddr),
        priority: u32,
        nominates: bool,
    ) {
        let nominated_at = nominates.then_some(now);
        let (remote, local) = pair;
        let rank = self.candidates.iter().position(|own| *own == local).unwrap_or(usize::MAX);
        let priority = (priority, Reverse(rank));
        let path = Path { remote, local, priority, nominated_at, last_check: now };
        match self.paths.iter_mut().find(|path| path.pair() == pair) {
            // Also withdraws a nomination: a check without USE-CANDIDATE means that the peer moved.
            Some(known) => *known = path,
            None => {
                if self.paths.len() >= MAX_PATHS {
                    self.evict_path();
                }
                self.paths.push(path);
            }
        }
        if nominates && self.may_select(now, pair, priority) {
            self.selected = Some(pair);
            self.restarted = false;
        }
    }

    /// Whether a nomination of `pair` replaces the selected pair.
    fn may_select(
        &self,
        now: Instant,
        pair: (SocketAddr, SocketAddr),
        priority: (u32, Reverse<usize>),
    ) -> bool {
        if self.restarted || self.selected == Some(pair) {
            return true;
        }
        let Some(current) = self.paths.iter().find(|path| Some(path.pair()) == self.selected) else {
            return true;
        };
        match current.nominated_at {
            Some(at) => {
                priority >= current.priority || now.saturating_duration_since(at) > NOMINATION_LIFETIME
            }
            None => true,
        }
    }

    /// Removes the path whose last check is oldest, never the selected one.
    fn evict_path(&mut self) {
        let selected = self.selected;
        let oldest = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, path)| Some(path.pair()) != selected)
            .min_by_key(|(_, path)| path.last_check)
            .map(|(at, _)| at);
        if let Some(at) = oldest {
            self.paths.swap_remove(at);
        }
    }

    /// Whether an authenticated check arrived from this address.
    pub(crate) fn is_authenticated(&self, from: SocketAddr) -> bool {
        self.paths.iter().any(|path| path.remote == from)
    }

    /// The peer's address and ours: the nominated pair, else the pair of the newest check.
    pub(crate) fn pair(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.selected.or_else(|| self.paths.iter().max_by_key(|path| path.last_check).map(Path::pair))
    }

    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        self.pair().map(|(remote, _)| remote)
    }
}

impl Path {
    fn pair(&self) -> (SocketAddr, SocketAddr) {
        (self.remote, self.local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials { ufrag: name.into(), pwd: format!("{name}-password-of-22-chars") }
    }

    fn check(ours: &IceCredentials, theirs: &str, priority: u32, nominates: bool) -> Vec<u8> {
        let username = format!("{}:{theirs}", ours.ufrag);
        let message = StunMessage::binding_request(&username, TransId::new(), true, 7, priority, nominates);
        let mut bytes = vec![0; 512];
        let len = message.to_bytes(Some(ours.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 9], port))
    }

    /// Our preferred candidate.
    fn first() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], 7882))
    }

    /// Our second candidate.
    fn second() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], 7882))
    }

    #[test]
    fn nominated_pair_selects_our_address_too() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        let mut check_arrives = |to: SocketAddr, nominates: bool| {
            assert!(lite.handle(now, addr(1), to, &check(&ours, "them", 5, nominates), &mut out));
            lite.pair()
        };
        assert_eq!(check_arrives(second(), true), Some((addr(1), second())));
        assert_eq!(check_arrives(first(), false), Some((addr(1), second())), "a check without nomination");
        assert_eq!(
            check_arrives(first(), true),
            Some((addr(1), first())),
            "the preferred of two nominated pairs"
        );
        assert_eq!(
            check_arrives(second(), true),
            Some((addr(1), first())),
            "the preferred one stays selected"
        );
    }

    fn agent() -> (IceLite, IceCredentials) {
        let ours = credentials("ours");
        let mut lite = IceLite::new(ours.clone(), vec![first(), second()]);
        lite.set_remote(credentials("them"));
        (lite, ours)
    }

    #[test]
    fn unknown_address_that_authenticates_becomes_the_remote_address() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        assert!(lite.handle(now, addr(1), first(), &check(&ours, "them", 5, false), &mut out));
        assert_eq!(lite.remote_addr(), Some(addr(1)));
        let Transmit { to, from, datagram } = out.pop_front().unwrap();
        assert_eq!((to, from), (addr(1), Some(first())));
        let reply = StunMessage::parse(&datagram).unwrap();
        assert!(reply.is_successful_binding_response());
        assert_eq!(reply.mapped_address(), Some(addr(1)));
        assert!(reply.verify(ours.pwd.as_bytes(), hmac_sha1));
    }

    #[test]
    fn each_check_triggers_one_of_ours_until_the_peer_nominates() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        let mut sent = |theirs: &str, nominates: bool| {
            assert!(lite.handle(now, addr(1), first(), &check(&ours, theirs, 5, nominates), &mut out));
            if nominates && theirs == "them" {
                lite.set_remote(credentials("restarted"));
            }
            out.drain(..).collect::<Vec<_>>()
        };
        let datagrams = sent("them", false);
        assert_eq!(datagrams.len(), 2, "the response and our check");
        assert!(StunMessage::parse(&datagrams[0].datagram).unwrap().is_successful_binding_response());
        let triggered = StunMessage::parse(&datagrams[1].datagram).unwrap();
        assert_eq!((datagrams[1].to, datagrams[1].from), (addr(1), Some(first())));
        assert!(triggered.is_binding_request());
        assert_eq!(triggered.split_username(), Some(("them", "ours")));
        assert!(triggered.verify(credentials("them").pwd.as_bytes(), hmac_sha1));
        assert!(triggered.ice_controlled().is_some() && !triggered.use_candidate());
        assert_eq!(sent("them", false).len(), 2, "the peer checks again");
        assert_eq!(sent("them", true).len(), 1, "the peer nominates");
        assert_eq!(sent("restarted", false).len(), 2, "the peer restarted");
        assert_eq!(sent("restarted", true).len(), 1);
        assert_eq!(sent("restarted", false).len(), 1, "a keepalive");
    }

    #[test]
    fn check_with_wrong_password_or_ufrag_is_not_answered() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        let forged = IceCredentials { pwd: "another-password-of-22".into(), ..ours.clone() };
        assert!(!lite.handle(now, addr(1), first(), &check(&forged, "them", 5, true), &mut out));
        assert!(!lite.handle(now, addr(1), first(), &check(&ours, "unknown", 5, true), &mut out));
        assert!(!lite.handle(
            now,
            addr(1),
            first(),
            &check(&credentials("other"), "them", 5, true),
            &mut out
        ));
        assert!(out.is_empty());
        assert!(!lite.is_authenticated(addr(1)));
    }

    #[test]
    fn aggressive_nomination_selects_the_highest_priority() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        for (port, priority) in [(1, 10), (2, 30), (3, 20)] {
            assert!(lite.handle(now, addr(port), first(), &check(&ours, "them", priority, true), &mut out));
        }
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn peer_that_moves_to_a_lower_priority_is_followed() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out);
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, false), &mut out);
        lite.handle(now, addr(2), first(), &check(&ours, "them", 10, true), &mut out);
        assert_eq!(lite.remote_addr(), Some(addr(2)));
        // The same when the checks on the preferred path stop.
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out);
        let later = now + Duration::from_secs(2);
        lite.handle(later, addr(2), first(), &check(&ours, "them", 10, true), &mut out);
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn number_of_paths_is_bounded() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out);
        for port in 2..500 {
            lite.handle(now, addr(port), first(), &check(&ours, "them", 30, false), &mut out);
        }
        assert_eq!(lite.paths.len(), MAX_PATHS);
        assert_eq!(lite.remote_addr(), Some(addr(1)));
    }

    #[test]
    fn ice_restart_keeps_the_old_path_until_the_next_nomination() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out);
        lite.set_remote(credentials("restarted"));
        assert_eq!(lite.remote_addr(), Some(addr(1)));
        assert!(!lite.handle(now, addr(1), first(), &check(&ours, "them", 30, true), &mut out));
        assert!(lite.handle(now, addr(2), first(), &check(&ours, "restarted", 10, true), &mut out));
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn controlled_peer_gets_a_role_conflict_error() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (TransmitQueue::new(), Instant::now());
        let message = StunMessage::binding_request("ours:them", TransId::new(), false, 7, 1, false);
        let mut bytes = vec![0; 512];
        let len = message.to_bytes(Some(ours.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
        assert!(lite.handle(now, addr(1), first(), &bytes[..len], &mut out));
        let reply = out.pop_front().unwrap().datagram;
        assert_eq!(StunMessage::parse(&reply).unwrap().error_code().map(|(code, _)| code), Some(487));
        assert_eq!(lite.remote_addr(), None);
    }
}
