//! Profiles: one page of TOML for an institution's usual policy, compiled to a bundle. The Cedar text of the bundle is what is
//! signed, proved and shown; a profile has no meaning of its own. What a profile cannot say is written in Cedar. The crate
//! reads no files and is for `systirctl`; nodes do not know profiles.
//!
//! - [`Profile::parse`] reads a profile, or tells line and what to write.
//! - [`Profile::bundle`] compiles it: each rule has an id and a sentence.
//! - [`Hours`] of local time, compiled to UTC: nodes know no time zones.
//! - [`SCHEMA`] is the JSON schema of the file, for editors.
//!
//! ```
//! let profile = systir_policy_profile::Profile::parse(
//!     "institution = 'ku.dk'
//!      operators = ['nordunet']
//!      hosts = ['nordunet']
//!      guarantees = ['machines only in Nordic']
//!      [home]
//!      countries = ['DK']
//!      [gateway]
//!      zones = ['Nordic']
//!      [[spill]]
//!      tier = 1
//!      zones = ['Nordic']
//!      [join]",
//! )?;
//! let lifetime = systir_documents::Lifetime { issued: 1_800_000_000, renew_by: 1_810_000_000, not_after: 1_815_000_000 };
//! assert!(profile.cedar(lifetime).contains("@id(\"ku-dk-spill-1\")"));
//! # Ok::<(), systir_policy_profile::ProfileError>(())
//! ```

mod cedar;
mod check;
mod error;
mod guarantees;
mod hours;
mod place;
mod profile;
mod rules;
mod text;
mod zones;

#[cfg(test)]
mod hours_tests;
#[cfg(test)]
mod tests;

pub use error::ProfileError;
pub use guarantees::GUARANTEE_FORMS;
pub use hours::Hours;
pub use profile::Profile;

/// The JSON schema of a profile, for editors.
pub const SCHEMA: &str = include_str!("../profile.schema.json");
