//! A client's offer on its publisher connection.

use super::SdpError;
use super::description::{Description, MAX_OFFER_BYTES};
use super::section::{Section, SectionKind};
use systir_media_control::Remote;

/// A client's offer.
#[derive(Debug, Clone)]
pub struct Offer {
    pub(super) description: Description,
    pub(super) remote: Remote,
}

impl Offer {
    /// Parses an offer.
    ///
    /// # Errors
    /// When it is not SDP, is too long, or lacks a required attribute.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let description = Description::parse(text, MAX_OFFER_BYTES)?;
        let remote = description
            .remote
            .clone()
            .ok_or(SdpError::Lacks("ice-ufrag, ice-pwd and sha-256 fingerprint"))?;
        Ok(Self { description, remote })
    }

    /// The client's transport.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The m-lines, in order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.description.sections
    }

    /// The m-lines on which the client sends audio or video, in order.
    pub fn sending_sections(&self) -> impl Iterator<Item = &Section> {
        self.sections().iter().filter(|section| self.sends(section))
    }

    /// Does the client send audio or video on this m-line, and is the m-line usable?
    #[must_use]
    pub fn sends(&self, section: &Section) -> bool {
        matches!(section.kind, SectionKind::Media(_)) && section.direction.sends() && self.usable(section)
    }

    /// Is the m-line supported, and in the bundle? One outside the bundle would need its own transport.
    pub(super) fn usable(&self, section: &Section) -> bool {
        let bundle = &self.description.bundle;
        let first = self.sections().iter().find(|one| !one.rejected);
        !section.rejected
            && section.kind != SectionKind::Other
            && (bundle.contains(&section.mid)
                || (bundle.is_empty() && first.is_some_and(|first| first.mid == section.mid)))
    }
}
