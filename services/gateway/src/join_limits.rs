//! Limits how often joins are tried, each of which costs the nodes of the cluster a decision, and perhaps a seat for a moment;
//! and how often tokens that are not valid are tried, at any route.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use systir_limits::{AttemptLimiter, network_of};
use systir_reason::{Reason, Refusal};

/// Attempts of one address without a valid token: at once, and then one per interval. A campus may share an address, and
/// all its guests may ask for a token within minutes.
const ADDRESS: (u32, Duration) = (4_000, Duration::from_millis(20));
/// Attempts of one token's identity. A client that is refused asks twice: to join, and for the reason.
const IDENTITY: (u32, Duration) = (60, Duration::from_secs(1));
/// Attempts with tokens of one institution. Guests have their own, since anybody gets a token as a guest.
const INSTITUTION: (u32, Duration) = (10_000, Duration::from_millis(5));
const GUESTS: (u32, Duration) = (5_000, Duration::from_millis(20));

/// Addresses, identities and institutions that are remembered, at most.
const ADDRESSES: usize = 8_192;
const IDENTITIES: usize = 16_384;
const INSTITUTIONS: usize = 1_024;

/// The limits of one gateway.
#[derive(Debug)]
pub struct JoinLimits {
    /// None where all clients have the address of a proxy.
    addresses: Option<AttemptLimiter<IpAddr>>,
    identities: AttemptLimiter<(String, String)>,
    institutions: AttemptLimiter<String>,
    guests: AttemptLimiter<String>,
}

impl JoinLimits {
    /// The limits of a gateway. Behind a proxy, which must limit addresses itself, they are not limited here.
    #[must_use]
    pub fn new(behind_proxy: bool) -> Self {
        let addresses = || AttemptLimiter::new(ADDRESS.0, ADDRESS.1, ADDRESSES);
        Self {
            addresses: (!behind_proxy).then(addresses),
            identities: AttemptLimiter::new(IDENTITY.0, IDENTITY.1, IDENTITIES),
            institutions: AttemptLimiter::new(INSTITUTION.0, INSTITUTION.1, INSTITUTIONS),
            guests: AttemptLimiter::new(GUESTS.0, GUESTS.1, INSTITUTIONS),
        }
    }

    /// An attempt from this address without a valid token, at any route, or to get one as a guest. A valid token is never
    /// asked for here: it has limits of its own, and others behind its address must not take its attempts.
    ///
    /// # Errors
    /// [`Reason::TooManyAttempts`].
    pub fn address(&self, from: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        let (Some(addresses), Some(from)) = (&self.addresses, from) else { return Ok(()) };
        within(addresses.take(network_of(from), now), "your network")
    }

    /// The result of checking a token from this address. One that is not valid is an attempt.
    ///
    /// # Errors
    /// Why the token is not valid, or [`Reason::TooManyAttempts`].
    pub fn checked<T, E: Into<Refusal>>(
        &self,
        from: Option<IpAddr>,
        now: Instant,
        result: Result<T, E>,
    ) -> Result<T, Refusal> {
        if result.is_err() {
            self.address(from, now)?;
        }
        result.map_err(Into::into)
    }

    /// An attempt with a valid token. `identity` is the one in the token: a suffix that the client adds makes no other one.
    pub(crate) fn token(
        &self,
        institution: &str,
        identity: &str,
        guest: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        let of_identity = self.identities.take((institution.to_owned(), identity.to_owned()), now);
        within(of_identity, "you")?;
        if guest {
            within(self.guests.take(institution.to_owned(), now), "guests of the institution")
        } else {
            within(self.institutions.take(institution.to_owned(), now), "your institution")
        }
    }
}

fn within(taken: bool, who: &str) -> Result<(), Refusal> {
    if taken {
        return Ok(());
    }
    let sentence = format!("There were too many attempts from {who}. Please try again in a minute.");
    Err(Refusal::new(Reason::TooManyAttempts, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_leaves_the_attempts_of_others() {
        let (limits, now) = (JoinLimits::new(false), Instant::now());
        let made = (0..1_000).filter(|_| limits.token("ku.dk", "eve", false, now).is_ok()).count();
        assert_eq!(made, IDENTITY.0 as usize);
        limits.token("ku.dk", "anna", false, now).unwrap();
        limits.token("uio.no", "eve", false, now).unwrap();
        limits.token("ku.dk", "eve", false, now + Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn one_institution_leaves_the_attempts_of_others() {
        let (limits, now) = (JoinLimits::new(false), Instant::now());
        let made = (0..50_000)
            .filter(|number| limits.token("ku.dk", &number.to_string(), false, now).is_ok())
            .count();
        assert_eq!(made, INSTITUTION.0 as usize);
        limits.token("uio.no", "anna", false, now).unwrap();
    }

    #[test]
    fn guests_leave_the_attempts_of_members() {
        let (limits, now) = (JoinLimits::new(false), Instant::now());
        let made = (0..50_000)
            .filter(|number| limits.token("ku.dk", &number.to_string(), true, now).is_ok())
            .count();
        assert_eq!(made, GUESTS.0 as usize);
        limits.token("ku.dk", "anna", false, now).unwrap();
    }

    #[test]
    fn one_address_leaves_the_attempts_of_others_unless_a_proxy_hides_addresses() {
        let (eve, anna) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let (limits, now) = (JoinLimits::new(false), Instant::now());
        let made = (0..50_000).filter(|_| limits.address(Some(eve), now).is_ok()).count();
        assert_eq!(made, ADDRESS.0 as usize);
        limits.address(Some(anna), now).unwrap();
        let behind_proxy = JoinLimits::new(true);
        assert!((0..50_000).all(|_| behind_proxy.address(Some(eve), now).is_ok()));
    }
}
