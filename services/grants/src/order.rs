//! What orders a grant, and the time.

use std::time::Instant;

use systir_documents::{Grant, GrantTerms};

/// What orders a grant among those of its room, and its life.
pub(crate) struct GrantOrder<'a> {
    pub(crate) institution: &'a str,
    pub(crate) room: String,
    pub(crate) sid: String,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
    pub(crate) home: &'a str,
    pub(crate) successor_of: Option<String>,
    pub(crate) life_ms: u64,
}

impl GrantOrder<'_> {
    /// The grant with these terms.
    pub(crate) fn grant(self, terms: GrantTerms, now: GrantTime) -> Grant {
        let Self { institution, room, sid, epoch, serial, home, successor_of, life_ms } = self;
        Grant {
            institution: institution.to_owned(),
            room,
            sid,
            epoch,
            serial,
            home: home.to_owned(),
            successor_of,
            terms,
            issued_ms: now.unix_ms,
            not_after_ms: now.unix_ms.saturating_add(life_ms),
        }
    }
}

/// The time of a call, because a core has no clock.
#[derive(Debug, Clone, Copy)]
pub struct GrantTime {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall clock time, Unix milliseconds.
    pub unix_ms: u64,
}
