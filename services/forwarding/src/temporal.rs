//! The temporal layers that one subscriber receives. Dropping the higher ones lowers frame rate and bit rate at once
//! and needs no key frame: no frame of a lower one depends on them (RFC 7741 section 4.2).

use crate::codec::vp8::Descriptor;

/// The highest temporal layer.
pub(crate) const HIGHEST: u8 = 3;

/// Which temporal layers are sent.
#[derive(Debug)]
pub(crate) struct TemporalFilter {
    /// The highest layer that may be sent.
    target: u8,
    /// The same, from the next key frame on.
    next_target: u8,
    /// The highest layer that is sent.
    current: u8,
    /// RTP timestamps of the newest frame that was sent and of the newest one that was dropped: all packets of a frame
    /// have the same fate.
    sent: Option<u32>,
    dropped: Option<u32>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Send,
    Drop {
        /// Is it the first packet of its frame that is dropped?
        new_frame: bool,
    },
}

impl Default for TemporalFilter {
    fn default() -> Self {
        Self { target: HIGHEST, next_target: HIGHEST, current: HIGHEST, sent: None, dropped: None }
    }
}

impl TemporalFilter {
    /// Sets the highest layer, now and from the next key frame that starts a layer on. A lower one applies to the next
    /// frame, a higher one where it may start.
    pub(crate) fn set_target(&mut self, target: u8, next: u8) {
        self.target = target.min(HIGHEST);
        self.next_target = next.min(HIGHEST);
        self.current = self.current.min(self.target);
    }

    /// A key frame is sent: all layers may start.
    pub(crate) fn restart(&mut self) {
        self.target = self.next_target;
        (self.current, self.sent, self.dropped) = (self.target, None, None);
    }

    /// Decides on a packet. `late`: a later one arrived before it.
    pub(crate) fn decide(&mut self, descriptor: Option<&Descriptor>, timestamp: u32, late: bool) -> Fate {
        let Some((layer, descriptor)) = descriptor.and_then(|one| Some((one.temporal_layer()?, one))) else {
            return Fate::Send;
        };
        if self.dropped == Some(timestamp) {
            return Fate::Drop { new_frame: false };
        }
        let may_start =
            layer <= self.target && descriptor.is_layer_sync() && descriptor.begins_frame() && !late;
        if layer > self.current && may_start {
            self.current = layer;
        }
        if layer <= self.current || self.sent == Some(timestamp) {
            if !late {
                self.sent = Some(timestamp);
            }
            return Fate::Send;
        }
        if !late {
            self.dropped = Some(timestamp);
        }
        Fate::Drop { new_frame: !late }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of a frame; `first`: it begins the frame.
    fn descriptor(layer: u8, sync: bool, first: bool) -> Descriptor {
        let tid = layer << 6 | u8::from(sync) << 5;
        Descriptor::parse(&[if first { 0x90 } else { 0x80 }, 0x20, tid, 0]).unwrap()
    }

    fn decide(filter: &mut TemporalFilter, layer: u8, sync: bool, first: bool, timestamp: u32) -> bool {
        filter.decide(Some(&descriptor(layer, sync, first)), timestamp, false) == Fate::Send
    }

    #[test]
    fn a_lower_target_applies_to_the_next_frame() {
        let mut filter = TemporalFilter::default();
        assert!(decide(&mut filter, 2, false, true, 1));
        filter.set_target(0, 0);
        assert!(decide(&mut filter, 2, false, false, 1), "the rest of the frame");
        assert!(decide(&mut filter, 0, false, true, 2));
        let dropped = filter.decide(Some(&descriptor(2, true, true)), 3, false);
        assert_eq!(dropped, Fate::Drop { new_frame: true });
        let rest = filter.decide(Some(&descriptor(2, true, false)), 3, false);
        assert_eq!(rest, Fate::Drop { new_frame: false });
    }

    #[test]
    fn a_higher_layer_starts_at_a_frame_that_needs_only_the_lowest() {
        let mut filter = TemporalFilter::default();
        filter.set_target(0, 0);
        filter.set_target(2, 2);
        assert!(!decide(&mut filter, 2, false, true, 1));
        assert!(!decide(&mut filter, 1, true, false, 2), "its first packet is lost");
        assert!(decide(&mut filter, 1, true, true, 3));
        assert!(!decide(&mut filter, 2, false, true, 4));
        assert!(decide(&mut filter, 2, true, true, 5));
        filter.set_target(0, 1);
        filter.restart();
        assert!(decide(&mut filter, 1, false, true, 6));
        assert!(!decide(&mut filter, 2, true, true, 7));
    }

    #[test]
    fn packets_without_temporal_layers_are_sent() {
        let mut filter = TemporalFilter::default();
        filter.set_target(0, 0);
        assert_eq!(filter.decide(None, 1, false), Fate::Send);
        assert_eq!(filter.decide(Descriptor::parse(&[0x10, 1]).as_ref(), 1, false), Fate::Send);
    }
}
