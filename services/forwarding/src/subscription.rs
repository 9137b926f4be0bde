//! One local subscriber of one track.

use std::time::Instant;

use crate::batch::Priority;
use crate::codec::PayloadInfo;
use crate::codec::vp8::MAX_LEN;
use crate::rewrite::{Rewriter, Shift};
use crate::select::eligible;
use crate::source::LayerState;
use crate::throttle::ResendThrottle;
use crate::{Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{LayerSet, Packet};

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) track: TrackId,
    /// Asked for; none: paused.
    pub(crate) target: Option<u8>,
    /// Chosen among what the source offers.
    pub(crate) selected: Option<u8>,
    /// Being sent.
    pub(crate) current: Option<u8>,
    pub(crate) rewriter: Rewriter,
    pub(crate) resend_throttle: ResendThrottle,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    pub(crate) retransmitted_packets: u64,
    pub(crate) retransmitted_octets: u64,
    pub(crate) switches: u64,
}

impl Subscription {
    pub(crate) fn new(track: TrackId, random: u64) -> Self {
        // RFC 3711 section 3.3.1: a first number in the lower half keeps both ends' rollover counters
        // together when the first packets are lost.
        let first_seq = (random as u16) & 0x7FFF;
        Self {
            track,
            target: None,
            selected: None,
            current: None,
            rewriter: Rewriter::new(first_seq, (random >> 32) as u32),
            resend_throttle: ResendThrottle::default(),
            packets: 0,
            octets: 0,
            retransmitted_packets: 0,
            retransmitted_octets: 0,
            switches: 0,
        }
    }

    /// Does it wait for this layer to begin?
    pub(crate) fn waits_for(&self, layer: u8) -> bool {
        self.selected == Some(layer) && self.current != Some(layer)
    }

    /// The layers that it wants: what it asks for, what was chosen instead and what it still gets.
    /// When nothing that it may get arrives and what it asks for is known not to come: any of them.
    pub(crate) fn wanted(&self, declared: LayerSet, state_of: impl Fn(u8) -> LayerState) -> LayerSet {
        let Some(target) = self.target else { return LayerSet::NONE };
        let eligible = eligible(target, declared);
        let Some(highest) = eligible.iter().last() else { return LayerSet::NONE };
        let none_live = || eligible.iter().all(|layer| state_of(layer.0) != LayerState::Live);
        if state_of(highest.0) == LayerState::Ended && none_live() {
            return eligible.union(self.current.map_or(LayerSet::NONE, single));
        }
        let others = [self.selected, self.current].into_iter().flatten();
        others.fold(single(highest.0), |set, layer| set.union(single(layer)))
    }

    /// Sends one packet under the number and the shift that [`Rewriter`] gave.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        packet: &Packet<'_>,
        info: &PayloadInfo,
        (out, shift): (u64, Shift),
        (priority, retransmission): (Priority, bool),
        egress: &mut impl Egress,
    ) {
        let mut head = [0; MAX_LEN];
        let descriptor = info.vp8.filter(|descriptor| !descriptor.is_plain());
        let (head, payload) = match &descriptor {
            Some(descriptor) => {
                let len = shift.write(descriptor, &mut head);
                (
                    head.get(..len).unwrap_or_default(),
                    packet.payload.get(descriptor.len()..).unwrap_or_default(),
                )
            }
            None => (&head[..0], packet.payload),
        };
        let timestamp = packet.timestamp.wrapping_add(shift.timestamp);
        let octets = (head.len() + payload.len()) as u64;
        if retransmission {
            self.retransmitted_packets += 1;
            self.retransmitted_octets += octets;
        } else {
            self.packets += 1;
            self.octets += octets;
            self.rewriter.sent(now, out, timestamp, descriptor.as_ref(), &shift);
        }
        egress.forward(
            id,
            &Forward {
                codec: packet.codec,
                seq: out as u16,
                timestamp,
                marker: packet.marker,
                ext: packet.ext,
                head,
                payload,
                retransmission,
                priority,
            },
        );
    }
}

fn single(layer: u8) -> LayerSet {
    LayerSet::NONE.with(systir_rtp::packet::Layer(layer))
}
