//! A track: its layers as they arrive, and who gets them.

use crate::SubscriptionId;
use crate::batch::Priority;
use crate::source::Source;
use crate::speaker::Loudness;
use crate::throttle::Throttle;
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// A downstream of one layer.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) layer: u8,
    pub(crate) peer: u32,
    pub(crate) flow: u32,
    pub(crate) resent: Throttle,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) group: u32,
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    pub(crate) layers: LayerSet,
    pub(crate) muted: bool,
    /// By layer; none for layers that were not declared.
    pub(crate) sources: [Option<Box<Source>>; Layer::MAX],
    pub(crate) subs: Vec<SubscriptionId>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) loudness: Loudness,
    /// What [`crate::Core::poll_wanted`] said last.
    pub(crate) told: LayerSet,
    /// Is the track in the list of those to look at for it?
    pub(crate) touched: bool,
}

impl Track {
    pub(crate) fn new(group: u32, kind: Kind, codec: Codec, layers: LayerSet) -> Self {
        let source = |layer: u8| {
            layers.contains(Layer(layer)).then(|| Box::new(Source::new(kind, codec.clock_rate())))
        };
        Self {
            group,
            kind,
            codec,
            layers,
            muted: false,
            sources: [source(0), source(1), source(2)],
            subs: Vec::new(),
            feeds: Vec::new(),
            loudness: Loudness::default(),
            told: LayerSet::NONE,
            touched: false,
        }
    }

    pub(crate) fn source(&self, layer: u8) -> Option<&Source> {
        self.sources.get(usize::from(layer))?.as_deref()
    }

    pub(crate) fn source_mut(&mut self, layer: u8) -> Option<&mut Source> {
        self.sources.get_mut(usize::from(layer))?.as_deref_mut()
    }

    pub(crate) fn priority(&self, layer: u8) -> Priority {
        match self.kind {
            Kind::Audio => Priority::Audio,
            Kind::Video if self.layers.iter().next() == Some(Layer(layer)) => Priority::Base,
            Kind::Video => Priority::Rest,
        }
    }

    /// Is there more than one layer to choose from?
    pub(crate) fn has_choice(&self) -> bool {
        self.layers.iter().count() > 1
    }
}
