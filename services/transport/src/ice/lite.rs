//! ICE-lite (RFC 8445 section 2.5): answers checks, records the address pairs they arrive on, and
//! selects the pair that the controlling peer nominates. The STUN codec is that of the crate `is`. Its
//! lite agent is not used: it keeps every address it ever saw, and stays on the nominated pair of the
//! highest priority even after the peer moved to another one.
//!
//! Unlike a lite agent of the RFC it also sends triggered checks, as a full agent does (section 7.3.1.4). A check proves that
//! its sender knows our password, not that it is at the address that it names: nothing but responses and triggered checks is
//! sent to an address that has not answered one. And LiveKit's clients that use pion nominate a pair that has succeeded when a
//! check arrives on it, and otherwise only at the next tick of 200 ms. On the pair that media is sent on the peer must go on
//! answering checks (RFC 7675).

use std::{
    cmp::Reverse,
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
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

/// A pair is asked again this long after its last answer, while media is sent on it.
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);
/// How long an answer holds (RFC 7675 section 5.1).
const CONSENT_LIFETIME: Duration = Duration::from_secs(30);
/// Our checks on a pair without an answer. Later ones are sent at most one a second.
const MAX_UNANSWERED: u8 = 8;
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(1);

/// Checks to addresses that have not answered, of all pairs together: 64 at once, then one per interval. A peer with many real
/// addresses needs fewer.
const BUDGET_INTERVAL: Duration = Duration::from_millis(100);
const BUDGET: Duration = Duration::from_millis(6_400);
/// Our first check on a pair is sent once more after this time: Firefox checks a pair that has succeeded only seconds later.
const REPEAT_AFTER: Duration = Duration::from_millis(150);
/// Clients check a pair in use at least this often, also when one check is lost: browsers every 2.5 s or, for consent, up to
/// every 6 s (RFC 7675 section 5.1).
const CHECK_INTERVAL: Duration = Duration::from_secs(13);

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
    ours: OwnChecks,
}

/// Our checks on a pair.
#[derive(Default)]
struct OwnChecks {
    /// The transaction that has no answer yet. Until then each check repeats it: an answer to an earlier one counts.
    transaction: Option<TransId>,
    sent_at: Option<Instant>,
    /// Sent since the last answer.
    unanswered: u8,
    answered_at: Option<Instant>,
}

impl OwnChecks {
    /// Whether another check may be sent.
    fn may_send(&self, now: Instant) -> bool {
        self.unanswered < MAX_UNANSWERED || is_older(self.sent_at, now, UNANSWERED_INTERVAL)
    }

    /// The transaction of the next check. None when there is no randomness.
    fn send(&mut self, now: Instant) -> Option<TransId> {
        self.sent_at = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.transaction = self.transaction.or_else(new_transaction);
        self.transaction
    }

    fn answered(&mut self, now: Instant) {
        *self = Self { answered_at: Some(now), ..Self::default() };
    }

    /// Whether the peer has answered from its address.
    fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }
}

/// A transaction id that nobody can guess: the peer knows its own password, so an answer proves its address by the id alone. Those
/// that the library makes can be predicted.
fn new_transaction() -> Option<TransId> {
    let mut message = [0; 20];
    let (header, id) = message.split_at_mut(8);
    // An indication without attributes.
    header.copy_from_slice(&[0x00, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    rand::fill(id).ok()?;
    StunMessage::parse(&message).ok().map(|message| message.trans_id())
}

fn is_older(at: Option<Instant>, now: Instant, than: Duration) -> bool {
    at.is_none_or(|at| now.saturating_duration_since(at) >= than)
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
    /// The nominated pair, which the peer answered on: its address and ours.
    selected: Option<(SocketAddr, SocketAddr)>,
    /// The peer restarted and has not nominated since: its next nomination is selected.
    restarted: bool,
    /// When checks to addresses that have not answered are paid for.
    paid_at: Option<Instant>,
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
            paid_at: None,
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

    /// Answers a binding request and records its path, or takes the answer to a check of ours. False when it is not
    /// authenticated or is not for this peer: then nothing is sent or changed.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut TransmitQueue,
    ) -> bool {
        let Ok(message) = StunMessage::parse(datagram) else { return false };
        if message.is_successful_binding_response() {
            return self.answer_received(now, (from, to), &message);
        }
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
            self.triggered_check(now, (from, to), out);
        }
        true
    }

    /// The peer's answer proves that it is at this address, if it is to our check on this pair.
    fn answer_received(
        &mut self,
        now: Instant,
        pair: (SocketAddr, SocketAddr),
        message: &StunMessage<'_>,
    ) -> bool {
        let Some(remote) = &self.remote else { return false };
        let Some(path) = self.paths.iter_mut().find(|path| path.pair() == pair) else { return false };
        if path.ours.transaction != Some(message.trans_id())
            || !message.verify(remote.pwd.as_bytes(), hmac_sha1)
        {
            return false;
        }
        path.ours.answered(now);
        let (nominated_at, priority) = (path.nominated_at, path.priority);
        if let Some(at) = nominated_at {
            self.nominated(at, pair, priority);
        }
        true
    }

    /// A check on the pair that a check of the peer arrived on: until the peer has answered on it, and until it has nominated a
    /// pair. One for each check of the peer at most.
    fn triggered_check(&mut self, now: Instant, pair: (SocketAddr, SocketAddr), out: &mut TransmitQueue) {
        let is_settled = self.selected.is_some() && !self.restarted;
        if let Some(path) = self.paths.iter().position(|path| path.pair() == pair)
            && !self.paths.get(path).is_some_and(|path| is_settled && path.ours.is_answered())
        {
            self.send_check(now, path, out);
        }
    }

    fn send_check(&mut self, now: Instant, path: usize, out: &mut TransmitQueue) {
        let (Some(path), Some(remote)) = (self.paths.get_mut(path), &self.remote) else { return };
        if !path.ours.may_send(now) {
            return;
        }
        if !path.ours.is_answered() {
            let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + BUDGET_INTERVAL;
            if paid_at.saturating_duration_since(now) > BUDGET {
                // It counts as sent, so that a timer does not ask for it again at once.
                path.ours.unanswered = MAX_UNANSWERED;
                return;
            }
            self.paid_at = Some(paid_at);
        }
        let Some(transaction) = path.ours.send(now) else { return };
        let username = format!("{}:{}", remote.ufrag, self.local.ufrag);
        let check =
            StunMessage::binding_request(&username, transaction, false, TIE_BREAKER, CHECK_PRIORITY, false);
        let mut bytes = vec![0; CHECK_BYTES + username.len()];
        if let Ok(len) = check.to_bytes(Some(remote.pwd.as_bytes()), &mut bytes, hmac_sha1) {
            bytes.truncate(len);
            out.push_back(Transmit { to: path.remote, from: Some(path.local), datagram: bytes });
        }
    }

    /// The peer begins DTLS from this address: asks it again, if it has not answered yet.
    pub(crate) fn dtls_received(&mut self, now: Instant, from: SocketAddr, out: &mut TransmitQueue) {
        let is_due = |path: &Path| {
            path.remote == from && !path.ours.is_answered() && is_older(path.ours.sent_at, now, REPEAT_AFTER)
        };
        if self.pair().is_none()
            && let Some(path) = self.paths.iter().position(is_due)
        {
            self.send_check(now, path, out);
        }
    }

    /// When [`IceLite::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.paths.iter().filter_map(|path| self.repeats_at(path)).min()
    }

    /// Sends the checks again that may have been lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut TransmitQueue) {
        while let Some(path) =
            self.paths.iter().position(|path| self.repeats_at(path).is_some_and(|at| at <= now))
        {
            self.send_check(now, path, out);
        }
    }

    /// When the check on this pair is sent again by itself: once, while nothing can be sent to the peer, or the pair is to
    /// replace the one in use.
    fn repeats_at(&self, path: &Path) -> Option<Instant> {
        let is_needed = self.pair().is_none() || path.nominated_at.is_some();
        let sent_at = path.ours.sent_at.filter(|_| is_needed && path.ours.unanswered == 1)?;
        (!path.ours.is_answered()).then_some(sent_at + REPEAT_AFTER)
    }

    /// Asks the peer for consent to what is sent to it, and sends nothing more where it has not answered for 30 s
    /// (RFC 7675). To be called every few seconds while media may be sent.
    pub(crate) fn renew_consent(&mut self, now: Instant, out: &mut TransmitQueue) {
        for path in &mut self.paths {
            if path.ours.is_answered() && is_older(path.ours.answered_at, now, CONSENT_LIFETIME) {
                path.ours.answered_at = None;
            }
        }
        let is_answered = |pair| self.paths.iter().any(|path| path.pair() == pair && path.ours.is_answered());
        self.selected = self.selected.filter(|pair| is_answered(*pair));
        let in_use = self.pair();
        let due = self.paths.iter().position(|path| {
            Some(path.pair()) == in_use && is_older(path.ours.answered_at, now, CONSENT_INTERVAL)
        });
        if let Some(path) = due {
            self.send_check(now, path, out);
        }
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
        let answered = match self.paths.iter_mut().find(|path| path.pair() == pair) {
            // Also withdraws a nomination: a check without USE-CANDIDATE means that the peer moved. Not one that waits for
            // an answer: the peer may check its new pair in this way only to keep it alive.
            Some(known) => {
                let ours = std::mem::take(&mut known.ours);
                let answered = ours.is_answered();
                let nominated_at = if nominates || answered { nominated_at } else { known.nominated_at };
                *known = Path { remote, local, priority, nominated_at, last_check: now, ours };
                answered
            }
            None => {
                if self.paths.len() >= MAX_PATHS {
                    self.evict_path();
                }
                let ours = OwnChecks::default();
                self.paths.push(Path { remote, local, priority, nominated_at, last_check: now, ours });
                false
            }
        };
        // A nomination of a pair without an answer waits for it.
        if nominates && answered {
            self.nominated(now, pair, priority);
        }
    }

    /// The peer nominated a pair at that time, and has answered on it.
    fn nominated(&mut self, at: Instant, pair: (SocketAddr, SocketAddr), priority: (u32, Reverse<usize>)) {
        if self.may_select(at, pair, priority) {
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

    /// Removes the path whose last check is oldest, never the one in use.
    fn evict_path(&mut self) {
        let selected = self.pair();
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

    /// Does the peer use this address now? It has answered a check of ours from there, and checked it recently itself.
    pub(crate) fn is_used(&self, now: Instant, from: SocketAddr) -> bool {
        let paths = self.paths.iter().filter(|path| path.remote == from && path.ours.is_answered());
        paths.map(|path| path.last_check).any(|at| !is_older(Some(at), now, CHECK_INTERVAL))
    }

    /// The peer's address and ours: the nominated pair, else that of the newest check. Always one that the peer answered on.
    pub(crate) fn pair(&self) -> Option<(SocketAddr, SocketAddr)> {
        let answered = || self.paths.iter().filter(|path| path.ours.is_answered());
        self.selected.or_else(|| answered().max_by_key(|path| path.last_check).map(Path::pair))
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
mod tests;
