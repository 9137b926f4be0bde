//! The room's tracks as this node's worker knows them: a key for each, where it is published, and
//! which layers of a remote one are wanted here.

use rustc_hash::FxHashMap;
use systir_media_control::{TrackKey, TrackSpec};
use systir_rtp::packet::{Layer, LayerSet};

/// One track.
#[derive(Debug, Clone)]
pub(super) struct TrackEntry {
    /// Its key on this node.
    pub key: TrackKey,
    /// `TR_` id.
    pub sid: String,
    /// Its publisher's `PA_` id.
    pub publisher: String,
    /// Name of the node where it is published.
    pub node: String,
    /// What it is.
    pub spec: TrackSpec,
    /// Flow of each layer, chosen by this node when the track comes over a link.
    pub flows: Option<[u32; Layer::MAX]>,
    /// Layers that subscribers here want of a remote track.
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
