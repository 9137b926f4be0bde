//! A full agent, always starting controlled: `is`'s, kept within bounds.

use std::{net::SocketAddr, time::Instant};

use is::{
    Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol, Sha1HmacProvider,
    stun::{StunMessage, StunPacket},
};

use super::{IceCredentials, MAX_PATHS, Outbox, hmac_sha1};

#[derive(Debug)]
struct AwsLc;

impl Sha1HmacProvider for AwsLc {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        hmac_sha1(key, payloads)
    }
}

/// The agent.
pub(crate) struct Full {
    agent: IceAgent,
    candidates: Vec<SocketAddr>,
    local: IceCredentials,
    heard: Vec<SocketAddr>,
    nominated: Option<SocketAddr>,
    timeout: Option<Instant>,
}

fn creds(credentials: &IceCredentials) -> IceCreds {
    IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() }
}

impl Full {
    pub(crate) fn new(local: IceCredentials, candidates: &[SocketAddr]) -> Self {
        let mut agent = IceAgent::with_hmac(creds(&local), &AwsLc);
        agent.set_controlling(false);
        let mut usable = Vec::new();
        for addr in candidates {
            match Candidate::host(*addr, Protocol::Udp) {
                Ok(candidate) => {
                    agent.add_local_candidate(candidate);
                    usable.push(*addr);
                }
                Err(error) => tracing::warn!(%addr, %error, "address left out of ICE"),
            }
        }
        Self { agent, candidates: usable, local, heard: Vec::new(), nominated: None, timeout: None }
    }

    pub(crate) fn set_remote(&mut self, now: Instant, remote: IceCredentials) {
        let restart = self.agent.remote_credentials().is_some_and(|known| *known != creds(&remote));
        if restart {
            self.restart();
        }
        self.agent.set_remote_credentials(creds(&remote));
        self.agent.handle_timeout(now);
        self.drain(None);
    }

    pub(crate) fn set_local(&mut self, local: IceCredentials) {
        if self.local != local {
            self.local = local;
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.agent.ice_restart(creds(&self.local), true);
        let keep = self.remote_addr();
        self.heard.retain(|addr| Some(*addr) == keep);
    }

    pub(crate) fn knows(&self, datagram: &[u8]) -> bool {
        StunMessage::parse(datagram)
            .is_ok_and(|message| message.is_binding_request() && self.agent.accepts_message(&message))
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
        let known = self.heard.contains(&from);
        if !known && self.heard.len() >= MAX_PATHS {
            return false;
        }
        // Behind 1:1 NAT the packet arrives at an address that is not the advertised one.
        let destination = if self.candidates.contains(&to) {
            to
        } else {
            match self.candidates.iter().find(|addr| addr.is_ipv4() == to.is_ipv4()) {
                Some(addr) => *addr,
                None => return false,
            }
        };
        let packet = StunPacket { proto: Protocol::Udp, source: from, destination, message };
        let authentic = self.agent.handle_packet(now, packet);
        if authentic && !known {
            self.heard.push(from);
        }
        self.agent.handle_timeout(now);
        self.drain(Some(out));
        authentic
    }

    fn drain(&mut self, out: Option<&mut Outbox>) {
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend { destination, .. } = event {
                self.nominated = Some(destination);
            }
        }
        if let Some(out) = out {
            while let Some(transmit) = self.agent.poll_transmit() {
                out.push_back((transmit.destination, transmit.contents.to_vec()));
            }
        }
        self.timeout = self.agent.poll_timeout();
    }

    pub(crate) fn is_authenticated(&self, from: SocketAddr) -> bool {
        self.heard.contains(&from)
    }

    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        self.nominated.or_else(|| self.heard.last().copied())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.timeout.is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
            self.drain(Some(out));
        }
    }
}
