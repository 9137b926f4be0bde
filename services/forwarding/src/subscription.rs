//! One local subscriber of one track.

use std::time::Instant;

use crate::batch::Priority;
use crate::codec::PayloadInfo;
use crate::codec::vp8::MAX_LEN;
use crate::pending::PendingPackets;
use crate::rewrite::{Rewriter, Shift};
use crate::select::eligible;
use crate::source::LayerState;
use crate::temporal::TemporalFilter;
use crate::throttle::ResendThrottle;
use crate::track::Track;
use crate::{Egress, Forward, SubscriptionId, TrackId};
use systir_rtp::packet::{LayerSet, Packet};

/// Layer, packet, what was read of it, and its number and shift.
type SentPacket<'a> = (u8, Packet<'a>, &'a PayloadInfo, (u64, Shift));

/// How a packet is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) layer: u8,
    pub(crate) priority: Priority,
    pub(crate) retransmission: bool,
    /// Bytes.
    pub(crate) padding: u8,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) track: TrackId,
    /// The requested layer; none while paused.
    pub(crate) target: Option<u8>,
    /// The layer selected from those that arrive.
    pub(crate) selected: Option<u8>,
    /// The layer that is sent.
    pub(crate) current: Option<u8>,
    pub(crate) temporal: TemporalFilter,
    pub(crate) rewriter: Rewriter,
    /// What is not sent yet.
    pub(crate) pending: PendingPackets,
    /// The newest number that was sent, extended.
    pub(crate) newest_sent: u64,
    pub(crate) resend_throttle: ResendThrottle,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    pub(crate) retransmitted_packets: u64,
    pub(crate) retransmitted_octets: u64,
    pub(crate) expired: u64,
    /// Of those, the ones that the core has not counted yet.
    pub(crate) newly_expired: u64,
    /// Did the decoder need one of them?
    pub(crate) lacks_packets: bool,
    pub(crate) switches: u64,
}

impl Subscription {
    pub(crate) fn new(track: TrackId, random: u64) -> Self {
        // A first number in the lower half keeps the SRTP rollover counters of both ends equal when the first
        // packets are lost (RFC 3711 section 3.3.1).
        let first_seq = (random as u16) & 0x7FFF;
        Self {
            track,
            target: None,
            selected: None,
            current: None,
            temporal: TemporalFilter::default(),
            rewriter: Rewriter::new(first_seq, (random >> 32) as u32),
            pending: PendingPackets::default(),
            newest_sent: 0,
            resend_throttle: ResendThrottle::default(),
            packets: 0,
            octets: 0,
            retransmitted_packets: 0,
            retransmitted_octets: 0,
            expired: 0,
            newly_expired: 0,
            lacks_packets: false,
            switches: 0,
        }
    }

    /// Does the subscriber wait for this layer to start?
    pub(crate) fn waits_for(&self, layer: u8) -> bool {
        self.selected == Some(layer) && self.current != Some(layer)
    }

    /// The layers that the subscription needs: the target, the selected layer and the current one. When no
    /// eligible layer arrives and the target has ended: all eligible layers.
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

    /// The packet that was sent with the subscriber's number `seq`: its layer, and what [`Subscription::send`] takes. None
    /// when it is not cached any more, or its segment was closed since and the packet maps to another number.
    pub(crate) fn sent_packet<'a>(&self, track: &'a Track, seq: u16) -> Option<SentPacket<'a>> {
        let (layer, source_seq, _) = self.rewriter.unmap(seq)?;
        let (packet, info) = track.source(layer)?.cache.get(source_seq)?;
        let mapped = self.rewriter.map(layer, source_seq).filter(|(out, _)| *out as u16 == seq)?;
        Some((layer, packet, info, mapped))
    }

    /// Queues one packet, with the sequence number and the shift from [`Rewriter::map`].
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        layer: u8,
        packet: &Packet<'_>,
        info: &PayloadInfo,
        (out, shift): (u64, Shift),
        egress: &mut impl Egress,
    ) {
        let descriptor = info.vp8.filter(|descriptor| !descriptor.is_plain());
        let timestamp = packet.timestamp.wrapping_add(shift.timestamp);
        self.rewriter.queued(now, out, timestamp, descriptor.as_ref(), &shift);
        let was_empty = self.pending.is_empty();
        if !self.pending.push(layer, packet.seq) {
            self.expire(layer, true);
        }
        if was_empty {
            egress.queued(id);
        }
    }

    /// A packet will not be sent. `is_needed`: by a decoder of its layer.
    pub(crate) fn expire(&mut self, layer: u8, is_needed: bool) {
        self.expired += 1;
        self.newly_expired += 1;
        self.lacks_packets |= is_needed && self.current == Some(layer);
    }

    /// Does the subscriber lack the packet that was sent with its number `seq`, of the layer that it receives, for good?
    /// One that has not arrived here yet may still come.
    pub(crate) fn lacks(&self, track: &Track, seq: u16) -> bool {
        let Some((layer, source_seq, _)) = self.rewriter.unmap(seq) else { return false };
        let is_its_number = self.rewriter.map(layer, source_seq).is_some_and(|(out, _)| out as u16 == seq);
        let source = track.source(layer).filter(|_| is_its_number && self.current == Some(layer));
        source.is_some_and(|source| source.has_dropped(source_seq) && source.is_needed(source_seq))
    }

    /// Sends one packet with the sequence number and the shift from [`Rewriter::map`].
    pub(crate) fn send(
        &mut self,
        id: SubscriptionId,
        packet: &Packet<'_>,
        info: &PayloadInfo,
        (out, shift): (u64, Shift),
        sending: Sending,
        egress: &mut impl Egress,
    ) {
        let Sending { layer, priority, retransmission, padding } = sending;
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
        let octets = (head.len() + payload.len()) as u64;
        let counts = if retransmission {
            (&mut self.retransmitted_packets, &mut self.retransmitted_octets)
        } else {
            (&mut self.packets, &mut self.octets)
        };
        *counts.0 += 1;
        *counts.1 += octets;
        let is_superseded = self.current.is_some_and(|current| current != layer);
        egress.forward(
            id,
            &Forward {
                codec: packet.codec,
                seq: out as u16,
                timestamp: packet.timestamp.wrapping_add(shift.timestamp),
                marker: packet.marker,
                ext: packet.ext,
                head,
                payload,
                retransmission,
                is_superseded,
                priority,
                padding,
            },
        );
    }
}

fn single(layer: u8) -> LayerSet {
    LayerSet::NONE.with(systir_rtp::packet::Layer(layer))
}
