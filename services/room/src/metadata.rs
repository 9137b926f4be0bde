//! The room's metadata: a register that only the home node writes, fenced by the assignment's epoch.

use bytes::Bytes;

use crate::NodeName;
use crate::error::{LocalError, MergeError};
use crate::limits::MAX_BODY;
use crate::update::{Change, Update};
use crate::version::MetadataVersion;

#[derive(Debug)]
pub(crate) struct MetadataRegister {
    me: NodeName,
    incarnation: u64,
    home: Option<(NodeName, u64)>,
    value: Option<(MetadataVersion, Bytes)>,
}

impl MetadataRegister {
    pub(crate) fn new(me: NodeName, incarnation: u64) -> Self {
        Self { me, incarnation, home: None, value: None }
    }

    pub(crate) fn home(&self) -> Option<(&str, u64)> {
        self.home.as_ref().map(|(node, epoch)| (&**node, *epoch))
    }

    pub(crate) fn version(&self) -> Option<MetadataVersion> {
        self.value.as_ref().map(|(version, _)| *version)
    }

    pub(crate) fn value(&self) -> Option<&Bytes> {
        self.value.as_ref().map(|(_, value)| value)
    }

    /// Sets the home node. An older epoch is ignored. Returns an update when this node becomes home: it
    /// writes the value again in its epoch.
    pub(crate) fn set_home(&mut self, home: &str, epoch: u64) -> Option<Update> {
        if self.home.as_ref().is_some_and(|(_, known)| *known >= epoch) {
            return None;
        }
        self.home = Some((home.to_owned(), epoch));
        let value = self.value().cloned().filter(|_| home == self.me)?;
        self.write(value).ok()
    }

    pub(crate) fn write(&mut self, value: Bytes) -> Result<Update, LocalError> {
        let Some((home, epoch)) = self.home().filter(|(home, _)| *home == self.me) else {
            return Err(LocalError::NotHome);
        };
        if value.len() > MAX_BODY {
            return Err(MergeError::TooLarge { bytes: value.len() }.into());
        }
        let home = home.to_owned();
        let first = MetadataVersion { epoch, incarnation: self.incarnation, counter: 0 };
        let version = match self.version() {
            Some(known) if (known.epoch, known.incarnation) == (epoch, self.incarnation) => {
                MetadataVersion { counter: known.counter.saturating_add(1), ..first }
            }
            _ => first,
        };
        self.value = Some((version, value.clone()));
        Ok(Update::Metadata { home, version, value })
    }

    /// The last write, to be sent again; none when this node is not home.
    pub(crate) fn restate(&self) -> Option<Update> {
        let (home, epoch) = self.home().filter(|(home, _)| *home == self.me)?;
        let (version, value) = self.value.as_ref().filter(|(version, _)| version.epoch == epoch)?;
        let (home, value) = (home.to_owned(), value.clone());
        Some(Update::Metadata { home, version: *version, value })
    }

    pub(crate) fn apply(
        &mut self,
        from: &str,
        author: &str,
        version: MetadataVersion,
        value: Bytes,
    ) -> Result<Option<Change>, MergeError> {
        let from = from.to_owned();
        let epoch = version.epoch;
        let Some((home, known)) = self.home() else { return Err(MergeError::UnknownEpoch { from, epoch }) };
        if epoch < known {
            return Err(MergeError::OldEpoch { from, epoch, known });
        }
        if epoch > known {
            return Err(MergeError::UnknownEpoch { from, epoch });
        }
        if home != from || author != from {
            return Err(MergeError::NotHome { from, epoch });
        }
        if value.len() > MAX_BODY {
            return Err(MergeError::TooLarge { bytes: value.len() });
        }
        if self.version().is_some_and(|known| !version.is_newer_than(&known)) {
            return Ok(None);
        }
        let differs = self.value() != Some(&value);
        self.value = Some((version, value.clone()));
        Ok(differs.then_some(Change::Metadata(value)))
    }
}
