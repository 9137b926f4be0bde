//! ICE-lite (RFC 8445 section 2.5): answers checks, remembers where they come from, and sends to
//! the address that the controlling peer nominates. The codec is `is`'s; its agent is not used
//! here, because it keeps every address that it ever saw and holds on to the nominated pair of the
//! highest priority even after the peer moved to another one.

use std::{
    cmp::Reverse,
    net::SocketAddr,
    time::{Duration, Instant},
};

use is::stun::StunMessage;

use super::{IceCredentials, MAX_PATHS, Outbox, hmac_sha1};

/// A peer that nominates aggressively (Firefox) sets USE-CANDIDATE on every check, so a lower
/// priority alone moves nothing; one that moved (Chrome) no longer nominates the old address.
const NOMINATION_HOLDS: Duration = Duration::from_secs(1);

/// Room for a binding response; ours is under 100 bytes.
const RESPONSE: usize = 256;

struct Path {
    addr: SocketAddr,
    /// Our address that the peer's checks came to.
    to: SocketAddr,
    /// The peer's word on its candidate; between equal ones our own order decides.
    priority: (u32, Reverse<usize>),
    nominated_at: Option<Instant>,
    heard: Instant,
}

/// The agent.
pub(crate) struct Lite {
    local: IceCredentials,
    /// Credentials before our side restarted: checks under way still carry them.
    previous: Option<IceCredentials>,
    remote: Option<IceCredentials>,
    /// Our addresses, best first.
    candidates: Vec<SocketAddr>,
    paths: Vec<Path>,
    /// The peer's address and ours.
    selected: Option<(SocketAddr, SocketAddr)>,
    /// The peer restarted and has not nominated since: its next nomination wins.
    restarted: bool,
}

impl Lite {
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

    /// New remote credentials after the first are the peer's ICE restart: the old path carries
    /// media until a new one is nominated (RFC 8445 section 9).
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

    /// Our password that authenticates this check, if one does.
    fn password(&self, message: &StunMessage<'_>) -> Option<&str> {
        let (ufrag, _) = message.split_username()?;
        [Some(&self.local), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|local| local.ufrag == ufrag && message.verify(local.pwd.as_bytes(), hmac_sha1))
            .map(|local| local.pwd.as_str())
    }

    pub(crate) fn knows(&self, datagram: &[u8]) -> bool {
        StunMessage::parse(datagram)
            .is_ok_and(|message| message.is_binding_request() && self.password(&message).is_some())
    }

    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut Outbox,
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
        // We are always controlled: a peer that believes the same must change its mind
        // (RFC 8445 section 7.3.1.1).
        let conflict = message.ice_controlled().is_some();
        let reply = if conflict {
            StunMessage::binding_role_conflict_reply(message.trans_id())
        } else {
            StunMessage::binding_reply(message.trans_id(), from)
        };
        let mut bytes = vec![0; RESPONSE];
        let Ok(len) = reply.to_bytes(Some(password.as_bytes()), &mut bytes, hmac_sha1) else { return false };
        bytes.truncate(len);
        out.push_back((from, bytes));
        if !conflict {
            self.heard(now, (from, to), message.prio().unwrap_or(0), message.use_candidate());
        }
        true
    }

    fn heard(&mut self, now: Instant, pair: (SocketAddr, SocketAddr), priority: u32, nominates: bool) {
        let nominated_at = nominates.then_some(now);
        let (addr, to) = pair;
        let rank = self.candidates.iter().position(|own| *own == to).unwrap_or(usize::MAX);
        let priority = (priority, Reverse(rank));
        let path = Path { addr, to, priority, nominated_at, heard: now };
        match self.paths.iter_mut().find(|path| path.pair() == pair) {
            // A check without USE-CANDIDATE after one with it: the peer moved elsewhere.
            Some(known) => *known = path,
            None => {
                if self.paths.len() >= MAX_PATHS {
                    self.forget_one();
                }
                self.paths.push(path);
            }
        }
        if nominates && self.may_move(now, pair, priority) {
            self.selected = Some(pair);
            self.restarted = false;
        }
    }

    fn may_move(&self, now: Instant, to: (SocketAddr, SocketAddr), priority: (u32, Reverse<usize>)) -> bool {
        if self.restarted || self.selected == Some(to) {
            return true;
        }
        let Some(current) = self.paths.iter().find(|path| Some(path.pair()) == self.selected) else {
            return true;
        };
        match current.nominated_at {
            Some(at) => priority >= current.priority || now.saturating_duration_since(at) > NOMINATION_HOLDS,
            None => true,
        }
    }

    /// The path that was silent longest gives way, never the one in use.
    fn forget_one(&mut self) {
        let selected = self.selected;
        let oldest = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, path)| Some(path.pair()) != selected)
            .min_by_key(|(_, path)| path.heard)
            .map(|(at, _)| at);
        if let Some(at) = oldest {
            self.paths.swap_remove(at);
        }
    }

    pub(crate) fn is_authenticated(&self, from: SocketAddr) -> bool {
        self.paths.iter().any(|path| path.addr == from)
    }

    /// The peer's address and ours: nominated, else those of the check that was heard last.
    pub(crate) fn pair(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.selected.or_else(|| self.paths.iter().max_by_key(|path| path.heard).map(Path::pair))
    }

    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        self.pair().map(|(remote, _)| remote)
    }
}

impl Path {
    fn pair(&self) -> (SocketAddr, SocketAddr) {
        (self.addr, self.to)
    }
}

#[cfg(test)]
mod tests {
    use is::stun::TransId;

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

    fn home() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], 7882))
    }

    fn other() -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], 7882))
    }

    #[test]
    fn one_address_of_the_peer_reaches_two_of_ours_and_the_nominated_one_is_answered_from() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        let mut hear = |to: SocketAddr, nominates: bool| {
            assert!(lite.handle(now, addr(1), to, &check(&ours, "them", 5, nominates), &mut out));
            lite.pair()
        };
        assert_eq!(hear(other(), true), Some((addr(1), other())));
        assert_eq!(hear(home(), false), Some((addr(1), other())), "a check alone moves nothing");
        assert_eq!(hear(home(), true), Some((addr(1), home())), "the better of two that are nominated");
        assert_eq!(hear(other(), true), Some((addr(1), home())), "which stays");
    }

    fn agent() -> (Lite, IceCredentials) {
        let ours = credentials("ours");
        let mut lite = Lite::new(ours.clone(), vec![home(), other()]);
        lite.set_remote(credentials("them"));
        (lite, ours)
    }

    #[test]
    fn an_unknown_address_that_authenticates_becomes_the_remote_address() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        assert!(lite.handle(now, addr(1), home(), &check(&ours, "them", 5, false), &mut out));
        assert_eq!(lite.remote_addr(), Some(addr(1)));
        let (to, reply) = out.pop_front().unwrap();
        assert_eq!(to, addr(1));
        let reply = StunMessage::parse(&reply).unwrap();
        assert!(reply.is_successful_binding_response());
        assert_eq!(reply.mapped_address(), Some(addr(1)));
        assert!(reply.verify(ours.pwd.as_bytes(), hmac_sha1));
    }

    #[test]
    fn wrong_password_or_ufrag_is_not_answered() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        let forged = IceCredentials { pwd: "another-password-of-22".into(), ..ours.clone() };
        assert!(!lite.handle(now, addr(1), home(), &check(&forged, "them", 5, true), &mut out));
        assert!(!lite.handle(now, addr(1), home(), &check(&ours, "stranger", 5, true), &mut out));
        assert!(!lite.handle(now, addr(1), home(), &check(&credentials("other"), "them", 5, true), &mut out));
        assert!(out.is_empty());
        assert!(!lite.is_authenticated(addr(1)));
    }

    #[test]
    fn aggressive_nomination_settles_on_the_highest_priority() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        for (port, priority) in [(1, 10), (2, 30), (3, 20)] {
            assert!(lite.handle(now, addr(port), home(), &check(&ours, "them", priority, true), &mut out));
        }
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn a_peer_that_moved_to_a_worse_network_is_followed() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        lite.handle(now, addr(1), home(), &check(&ours, "them", 30, true), &mut out);
        lite.handle(now, addr(1), home(), &check(&ours, "them", 30, false), &mut out);
        lite.handle(now, addr(2), home(), &check(&ours, "them", 10, true), &mut out);
        assert_eq!(lite.remote_addr(), Some(addr(2)));
        // And when the better network went without a word.
        lite.handle(now, addr(1), home(), &check(&ours, "them", 30, true), &mut out);
        let later = now + Duration::from_secs(2);
        lite.handle(later, addr(2), home(), &check(&ours, "them", 10, true), &mut out);
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn many_addresses_do_not_grow_the_table() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        lite.handle(now, addr(1), home(), &check(&ours, "them", 30, true), &mut out);
        for port in 2..500 {
            lite.handle(now, addr(port), home(), &check(&ours, "them", 30, false), &mut out);
        }
        assert_eq!(lite.paths.len(), MAX_PATHS);
        assert_eq!(lite.remote_addr(), Some(addr(1)));
    }

    #[test]
    fn a_restart_keeps_the_old_path_until_the_next_nomination() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        lite.handle(now, addr(1), home(), &check(&ours, "them", 30, true), &mut out);
        lite.set_remote(credentials("again"));
        assert_eq!(lite.remote_addr(), Some(addr(1)));
        assert!(!lite.handle(now, addr(1), home(), &check(&ours, "them", 30, true), &mut out));
        assert!(lite.handle(now, addr(2), home(), &check(&ours, "again", 10, true), &mut out));
        assert_eq!(lite.remote_addr(), Some(addr(2)));
    }

    #[test]
    fn a_controlled_peer_is_told_of_the_role_conflict() {
        let (mut lite, ours) = agent();
        let (mut out, now) = (Outbox::new(), Instant::now());
        let message = StunMessage::binding_request("ours:them", TransId::new(), false, 7, 1, false);
        let mut bytes = vec![0; 512];
        let len = message.to_bytes(Some(ours.pwd.as_bytes()), &mut bytes, hmac_sha1).unwrap();
        assert!(lite.handle(now, addr(1), home(), &bytes[..len], &mut out));
        let (_, reply) = out.pop_front().unwrap();
        assert_eq!(StunMessage::parse(&reply).unwrap().error_code().map(|(code, _)| code), Some(487));
        assert_eq!(lite.remote_addr(), None);
    }
}
