//! Limits on what anyone can make a node do: how many connections they hold, and how often they try something.
//!
//! - [`AddressLimiter`]: places for connections whose peer has proven nothing yet, in total and for each source address.
//! - [`AttemptLimiter`]: attempts of one key, such as an address or an identity, over time.
//!
//! Both are bounded in memory, whoever sends what.
//!
//! ```
//! use systir_limits::AddressLimiter;
//!
//! let limiter = AddressLimiter::new(3, 2);
//! let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
//! let held = [limiter.try_acquire(one), limiter.try_acquire(one)];
//! assert!(limiter.try_acquire(one).is_err());
//! assert!(limiter.try_acquire(other).is_ok());
//! drop(held);
//! assert_eq!(limiter.taken(), 0);
//! ```

// Tests may read the clock.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod address;
mod attempts;

pub use address::{AddressLimiter, AddressPlace, NoPlace, network_of};
pub use attempts::AttemptLimiter;
