//! Parses a description: its m-lines and the transport that they share (BUNDLE, RFC 8843).

use std::collections::BTreeSet;

use sdp_types::{Attribute, Session};

use super::SdpError;
use super::section::{Direction, Section};
use systir_media_control::{IceCredentials, Remote};

/// Longest offer that is read, bytes. The first offer of a native SDK has 14 KB. Browsers do not reuse
/// m-lines, so each new screen share adds up to 7 KB.
pub const MAX_OFFER_BYTES: usize = 512 * 1024;

/// Most m-lines that are read.
pub const MAX_SECTIONS: usize = 512;

/// A parsed description.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub(super) sections: Vec<Section>,
    /// Mids of the first BUNDLE group.
    pub(super) bundle: BTreeSet<String>,
    pub(super) mixed_extensions: bool,
    /// The transport of the first m-line in use; `None` when it is incomplete.
    pub(super) remote: Option<Remote>,
    pub(super) setup: Setup,
}

/// `a=setup` (RFC 4145).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
}

impl Description {
    pub(super) fn parse(text: &str, limit: usize) -> Result<Self, SdpError> {
        if text.len() > limit {
            return Err(SdpError::TooLong { bytes: text.len(), limit });
        }
        let session =
            Session::parse(text.as_bytes()).map_err(|error| SdpError::Grammar(error.to_string()))?;
        if session.medias.len() > MAX_SECTIONS {
            return Err(SdpError::TooManySections { sections: session.medias.len() });
        }
        let direction = Direction::of(&session.attributes);
        let sections: Vec<Section> = session
            .medias
            .iter()
            .enumerate()
            .map(|(index, media)| Section::read(media, index, direction))
            .collect();
        let mut mids: Vec<&str> = sections.iter().map(|section| section.mid.as_str()).collect();
        mids.sort_unstable();
        if mids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(SdpError::DuplicateMid);
        }
        if sections.iter().any(|section| !is_token(&section.mid)) {
            return Err(SdpError::Lacks("mid"));
        }

        let bundle: BTreeSet<String> = session
            .attributes
            .iter()
            .filter(|one| one.attribute == "group")
            .filter_map(|one| one.value.as_deref()?.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_ascii_whitespace().take(MAX_SECTIONS).map(str::to_owned).collect())
            .next()
            .unwrap_or_default();

        // The first m-line in use determines the transport of the bundle.
        let in_use = sections.iter().position(|section| !section.rejected);
        let media = in_use.and_then(|index| session.medias.get(index));
        let find = |name: &str| -> Option<&str> {
            let value = |list: &'_ [Attribute]| -> Option<usize> {
                list.iter().position(|one| one.attribute == name && one.value.is_some())
            };
            let own = media.and_then(|media| media.attributes.get(value(&media.attributes)?));
            own.or_else(|| session.attributes.get(value(&session.attributes)?))?.value.as_deref()
        };
        let setup = match find("setup") {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            _ => Setup::ActPass,
        };
        let fingerprints = media.into_iter().flat_map(|media| &media.attributes).chain(&session.attributes);
        let fingerprint = fingerprints
            .filter(|one| one.attribute == "fingerprint")
            .find_map(|one| fingerprint(one.value.as_deref()?));
        let remote = match (find("ice-ufrag"), find("ice-pwd"), fingerprint) {
            (Some(ufrag), Some(pwd), Some(fingerprint)) if is_ice(ufrag, 4) && is_ice(pwd, 22) => {
                Some(Remote {
                    ice: IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() },
                    fingerprint,
                    client_is_active: setup != Setup::Passive,
                })
            }
            _ => None,
        };
        let mixed_extensions = session.attributes.iter().any(|one| one.attribute == "extmap-allow-mixed");
        Ok(Self { sections, bundle, mixed_extensions, remote, setup })
    }
}

/// Is this a safe mid? Checked because mids are repeated in our descriptions.
fn is_token(mid: &str) -> bool {
    !mid.is_empty() && mid.len() <= 64 && mid.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// Are these ice-chars (RFC 8839 section 5.4), at least `min` and at most 256 of them?
fn is_ice(text: &str, min: usize) -> bool {
    (min..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// Parses `sha-256 AA:BB:...`.
fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let (hash, bytes) = value.trim().split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut digest = [0; 32];
    let mut pairs = bytes.trim().split(':');
    for byte in &mut digest {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(digest)
}
