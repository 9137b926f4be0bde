//! The room's tracks at this node's worker: the key of each track, the node where it is published, and the
//! layers of a remote track that local subscribers need.

use rustc_hash::FxHashMap;
use systir_media_control::{TrackKey, TrackSpec};
use systir_rtp::packet::{Layer, LayerSet};

/// One track.
#[derive(Debug, Clone)]
pub(super) struct TrackEntry {
    /// Its key on this node.
    pub key: TrackKey,
    /// Track id, `TR_...`.
    pub sid: String,
    /// Participant id of its publisher, `PA_...`.
    pub publisher: String,
    /// Name of the node where it is published.
    pub node: String,
    /// Kind, codec and layers.
    pub spec: TrackSpec,
    /// Flow number of each layer, chosen by this node; none for a local track.
    pub flows: Option<[u32; Layer::MAX]>,
    /// Layers of a remote track that local subscribers need.
    pub wanted: LayerSet,
}

/// All tracks of the room.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    by_sid: FxHashMap<String, TrackEntry>,
    sid_of: FxHashMap<TrackKey, String>,
}

impl Tracks {
    pub(super) fn insert(&mut self, entry: TrackEntry) {
        self.sid_of.insert(entry.key, entry.sid.clone());
        self.by_sid.insert(entry.sid.clone(), entry);
    }

    pub(super) fn get(&self, sid: &str) -> Option<&TrackEntry> {
        self.by_sid.get(sid)
    }

    pub(super) fn by_key(&self, key: TrackKey) -> Option<&TrackEntry> {
        self.by_sid.get(self.sid_of.get(&key)?)
    }

    pub(super) fn by_key_mut(&mut self, key: TrackKey) -> Option<&mut TrackEntry> {
        self.by_sid.get_mut(self.sid_of.get(&key)?)
    }

    pub(super) fn remove(&mut self, sid: &str) -> Option<TrackEntry> {
        let entry = self.by_sid.remove(sid)?;
        self.sid_of.remove(&entry.key);
        Some(entry)
    }

    pub(super) fn of_publisher<'a>(&'a self, publisher: &'a str) -> impl Iterator<Item = &'a TrackEntry> {
        self.by_sid.values().filter(move |entry| entry.publisher == publisher)
    }

    pub(super) fn of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a TrackEntry> {
        self.by_sid.values().filter(move |entry| entry.node == node)
    }
}
