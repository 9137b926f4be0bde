//! The roles that a grant lists nodes in.

use std::fmt;

use systir_assignment::MediaRole;

/// A role of a node in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantRole {
    /// It is the home.
    Home,
    /// It is a spill node.
    Spill,
    /// It is a gateway.
    Gateway,
}

impl From<MediaRole> for GrantRole {
    fn from(role: MediaRole) -> Self {
        match role {
            MediaRole::Home => Self::Home,
            MediaRole::Spill => Self::Spill,
        }
    }
}

impl fmt::Display for GrantRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Home => "home",
            Self::Spill => "spill node",
            Self::Gateway => "gateway",
        })
    }
}
