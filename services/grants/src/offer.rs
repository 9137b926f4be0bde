//! Does a grant of another node replace the one that this node holds?

use systir_assignment::MAX_MISSED_EPOCHS;
use systir_documents::{Grant, SignedGrant};

use crate::held::HeldGrant;
use crate::order::GrantTime;
use crate::refusal::GrantRefusal;

/// What this node knows of a room's home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeReach {
    /// Its link is up, or it has just answered.
    Up,
    /// It has not answered for as long as the loss of a link takes to be detected.
    Gone,
    /// It was not asked.
    Unknown,
}

/// What decides about a grant beside the grant itself.
pub struct Circumstances<'a> {
    /// The time.
    pub now: GrantTime,
    /// Does this node's policy approve the node as home of the room?
    pub approves_home: &'a dyn Fn(&str) -> bool,
    /// Can this node reach the node?
    pub reach: &'a dyn Fn(&str) -> HomeReach,
    /// Is this node home, and does it lead the room: has it participants, or do at least half of the nodes that carry the
    /// room follow it?
    pub leads: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Circumstances<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circumstances").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What became of an offered grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It is held now.
    Accepted,
    /// It is held already.
    Known,
    /// It does not count.
    Refused(GrantRefusal),
    /// It counts only if this home cannot be reached: find out, and offer it again.
    AskHome(String),
    /// Another node took over from this node, which was out of reach for it but leads the room: this node must sign an
    /// epoch after that one.
    Contested {
        /// The other node's epoch.
        epoch: u64,
    },
}

/// Decides about `offered`, which its home signed and which `from` sent over its own connection (none: from the
/// registry).
pub(crate) fn judge(
    me: &str,
    held: Option<&HeldGrant>,
    offered: SignedGrant,
    from: Option<&str>,
    circumstances: &Circumstances<'_>,
) -> Result<HeldGrant, Offered> {
    let Circumstances { now, approves_home, reach, .. } = circumstances;
    let grant = offered.grant();
    if !approves_home(&grant.home) {
        return Err(Offered::Refused(GrantRefusal::HomeDenied(grant.home.clone())));
    }
    let Some(held) = held else { return Ok(HeldGrant::received(offered, from, *now)) };
    let known = held.grant();
    if !approves_home(&known.home) {
        // The grants of a home that lost its role order nothing. What follows on them does.
        return if known.terms.homes.contains(&grant.home) && grant.sid == known.sid {
            Ok(HeldGrant::received(offered, from, *now))
        } else {
            Err(not_a_successor(known))
        };
    }
    if known.home == grant.home && known.sid == grant.sid {
        return of_same_home(held, offered, from, *now);
    }
    if known.home == grant.home && known.home != me {
        // The same home, but another room of this name: it ended and was created anew, or it is the older one.
        return if from == Some(known.home.as_str()) {
            Ok(HeldGrant::received(offered, from, *now))
        } else {
            Err(Offered::AskHome(known.home.clone()))
        };
    }
    if grant.epoch < known.epoch {
        return Err(older(known));
    }
    if known.home == me {
        return as_home(held, offered, from, circumstances);
    }
    let follows = grant.epoch == known.epoch + 1
        && known.terms.homes.contains(&grant.home)
        && grant.successor_of.as_deref() == Some(known.home.as_str());
    // Takeovers that this node missed, or another home that was made when this one could not be found.
    let missed = grant.epoch > known.epoch + 1 && grant.epoch - known.epoch <= MAX_MISSED_EPOCHS;
    let rival = grant.epoch == known.epoch && known.terms.homes.contains(&grant.home);
    let returned = held.unreached.contains(&grant.home) && grant.epoch > known.epoch;
    // The old home's own word, over its own connection, needs no second signature.
    let handed_over = from == Some(known.home.as_str()) && known.terms.homes.contains(&grant.home);
    if returned || handed_over {
        return Ok(HeldGrant::received(offered, from, *now));
    }
    if !(follows || missed || rival) {
        return Err(not_a_successor(known));
    }
    match reach(&known.home) {
        HomeReach::Up => Err(Offered::Refused(GrantRefusal::HomeAlive { home: known.home.clone() })),
        HomeReach::Unknown => Err(Offered::AskHome(known.home.clone())),
        HomeReach::Gone => {
            let mut unreached = held.unreached.clone();
            unreached.insert(known.home.clone());
            Ok(HeldGrant { unreached, ..HeldGrant::received(offered, from, *now) })
        }
    }
}

/// Decides about a grant of another home, as the home of the one that is held.
fn as_home(
    held: &HeldGrant,
    offered: SignedGrant,
    from: Option<&str>,
    circumstances: &Circumstances<'_>,
) -> Result<HeldGrant, Offered> {
    let (known, grant) = (held.grant(), offered.grant());
    let newer = grant.epoch > known.epoch;
    // No takeover is so far ahead; a claim that is would drive this node's epoch to the last one.
    let too_far = grant.epoch - known.epoch > MAX_MISSED_EPOCHS;
    // A room has one home in its first epoch: nobody took over.
    let first = grant.epoch == 1 && known.epoch == 1 && grant.sid == known.sid;
    if too_far || first {
        return Err(not_a_successor(known));
    }
    // A home before this one, which is back and leads the room.
    let predecessor_is_back = newer && held.unreached.contains(&grant.home);
    let follows = if predecessor_is_back {
        true
    } else if (circumstances.leads)() {
        return Err(Offered::Contested { epoch: grant.epoch });
    } else {
        // Of two nodes that took over from one home at once, the lower one stays.
        newer || rank(grant) < rank(known)
    };
    if follows { Ok(HeldGrant::received(offered, from, circumstances.now)) } else { Err(older(known)) }
}

/// Decides about another grant of the home that is held: only its own order counts.
fn of_same_home(
    held: &HeldGrant,
    offered: SignedGrant,
    from: Option<&str>,
    now: GrantTime,
) -> Result<HeldGrant, Offered> {
    let (known, grant) = (held.grant(), offered.grant());
    match (grant.epoch, grant.serial).cmp(&(known.epoch, known.serial)) {
        std::cmp::Ordering::Greater => {
            let unreached = held.unreached.clone();
            Ok(HeldGrant { unreached, ..HeldGrant::received(offered, from, now) })
        }
        std::cmp::Ordering::Less => Err(older(known)),
        // It has not counted yet, so that this extends nothing.
        std::cmp::Ordering::Equal
            if offered.hash() == held.signed.hash() && held.early && from == Some(known.home.as_str()) =>
        {
            let unreached = held.unreached.clone();
            Ok(HeldGrant { unreached, ..HeldGrant::received(offered, from, now) })
        }
        std::cmp::Ordering::Equal if offered.hash() == held.signed.hash() => Err(Offered::Known),
        std::cmp::Ordering::Equal => Err(Offered::Refused(GrantRefusal::Conflict(known.home.clone()))),
    }
}

/// Which of two homes of one epoch stays: the lower one. It does not change when the grant is renewed.
fn rank(grant: &Grant) -> (&str, &str) {
    (&grant.sid, &grant.home)
}

fn older(known: &Grant) -> Offered {
    Offered::Refused(GrantRefusal::Older { epoch: known.epoch, home: known.home.clone() })
}

fn not_a_successor(known: &Grant) -> Offered {
    Offered::Refused(GrantRefusal::NotASuccessor { epoch: known.epoch, home: known.home.clone() })
}
