//! A track: its layers as they arrive, its subscriptions and its feeds.

use crate::SubscriptionId;
use crate::batch::Priority;
use crate::loudness::Loudness;
use crate::source::{ArrivalTime, LayerSource};
use crate::throttle::ResendThrottle;
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

/// One layer that is fed to a downstream.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) layer: u8,
    pub(crate) peer: u32,
    pub(crate) flow: u32,
    pub(crate) resend_throttle: ResendThrottle,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) group: u32,
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    pub(crate) layers: LayerSet,
    pub(crate) muted: bool,
    /// By layer; none for undeclared layers.
    pub(crate) sources: [Option<Box<LayerSource>>; Layer::MAX],
    pub(crate) arrival: ArrivalTime,
    pub(crate) subs: Vec<SubscriptionId>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) loudness: Loudness,
    /// Is the track in the core's list of those that are not silent?
    pub(crate) heard_listed: bool,
    /// What [`crate::Core::poll_wanted`] last returned.
    pub(crate) reported_wanted: LayerSet,
    /// Is the track queued for [`crate::Core::poll_wanted`]?
    pub(crate) wanted_check_queued: bool,
}

impl Track {
    pub(crate) fn new(group: u32, kind: Kind, codec: Codec, layers: LayerSet) -> Self {
        let source = |layer: u8| {
            layers.contains(Layer(layer)).then(|| Box::new(LayerSource::new(kind, codec.clock_rate())))
        };
        Self {
            group,
            kind,
            codec,
            layers,
            muted: false,
            sources: [source(0), source(1), source(2)],
            arrival: ArrivalTime::default(),
            subs: Vec::new(),
            feeds: Vec::new(),
            loudness: Loudness::default(),
            heard_listed: false,
            reported_wanted: LayerSet::NONE,
            wanted_check_queued: false,
        }
    }

    pub(crate) fn source(&self, layer: u8) -> Option<&LayerSource> {
        self.sources.get(usize::from(layer))?.as_deref()
    }

    pub(crate) fn source_mut(&mut self, layer: u8) -> Option<&mut LayerSource> {
        self.sources.get_mut(usize::from(layer))?.as_deref_mut()
    }

    pub(crate) fn priority(&self, layer: u8) -> Priority {
        match self.kind {
            Kind::Audio => Priority::Audio,
            Kind::Video if self.layers.iter().next() == Some(Layer(layer)) => Priority::Base,
            Kind::Video => Priority::Rest,
        }
    }

    /// Has the track more than one layer?
    pub(crate) fn has_choice(&self) -> bool {
        self.layers.iter().count() > 1
    }
}
