//! The room's tracks at this node's worker: the key of each track, the node where it is published, and the
//! layers that are wanted of it.

use std::collections::BTreeMap;

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
    /// Layers that are wanted of it: of a remote track here, of a local one on any node.
    pub wanted: LayerSet,
}

/// All tracks of the room.
///
/// A track is known by its sid and its publisher together. The sid alone is only what a media node says: a hostile one could
/// give it the sid of another node's track.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    /// By sid and publisher.
    entries: BTreeMap<(String, String), TrackEntry>,
    id_of: FxHashMap<TrackKey, (String, String)>,
}

impl Tracks {
    pub(super) fn insert(&mut self, entry: TrackEntry) {
        let (key, id) = (entry.key, (entry.sid.clone(), entry.publisher.clone()));
        if let Some(replaced) = self.entries.insert(id.clone(), entry) {
            self.id_of.remove(&replaced.key);
        }
        self.id_of.insert(key, id);
    }

    /// The track of a publisher with this sid.
    pub(super) fn get(&self, publisher: &str, sid: &str) -> Option<&TrackEntry> {
        self.entries.get(&(sid.to_owned(), publisher.to_owned()))
    }

    /// The track with this sid that is published on the node.
    pub(super) fn published_on(&self, node: &str, sid: &str) -> Option<&TrackEntry> {
        let from = self.entries.range((sid.to_owned(), String::new())..);
        let mut same = from.take_while(|((known, _), _)| known == sid).map(|(_, entry)| entry);
        same.find(|entry| entry.node == node)
    }

    pub(super) fn by_key(&self, key: TrackKey) -> Option<&TrackEntry> {
        self.entries.get(self.id_of.get(&key)?)
    }

    pub(super) fn by_key_mut(&mut self, key: TrackKey) -> Option<&mut TrackEntry> {
        self.entries.get_mut(self.id_of.get(&key)?)
    }

    pub(super) fn remove(&mut self, key: TrackKey) -> Option<TrackEntry> {
        self.entries.remove(&self.id_of.remove(&key)?)
    }

    pub(super) fn of_publisher<'a>(&'a self, publisher: &'a str) -> impl Iterator<Item = &'a TrackEntry> {
        self.entries.values().filter(move |entry| entry.publisher == publisher)
    }

    pub(super) fn of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a TrackEntry> {
        self.entries.values().filter(move |entry| entry.node == node)
    }
}
