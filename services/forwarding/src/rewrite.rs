//! Rewriting for one subscriber: maps sequence numbers, timestamps and VP8 picture numbers of the layers that
//! it receives to one continuous stream.
//!
//! The mapping is a list of *segments*. A segment starts at a sequence number of a layer and shifts all
//! numbers of that layer by constants. So a late packet and a retransmission get the numbers that they would
//! have had in order.

use std::collections::VecDeque;
use std::time::Instant;

use crate::codec::PayloadInfo;
use crate::codec::vp8::{Descriptor, MAX_LEN};
use crate::rtp_clock::{RtpClock, ticks};

/// Most closed segments that are kept.
const MAX_CLOSED: usize = 32;
/// Timestamps aligned by sender reports may differ this many seconds from those aligned by arrival times.
const MAX_REPORT_OFFSET_S: u32 = 2;

/// What a segment adds to the numbers of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shift {
    pub(crate) timestamp: u32,
    picture_id: u16,
    tl0: u8,
    key_index: u8,
}

impl Shift {
    /// Writes the VP8 descriptor with the subscriber's numbers.
    pub(crate) fn write(&self, descriptor: &Descriptor, out: &mut [u8; MAX_LEN]) -> usize {
        let [picture_id, tl0, key_index] = self.vp8(descriptor);
        descriptor.write(picture_id, tl0 as u8, key_index as u8, out)
    }

    fn vp8(&self, descriptor: &Descriptor) -> [u16; 3] {
        [
            descriptor.picture_id.unwrap_or(0).wrapping_add(self.picture_id) & 0x7FFF,
            u16::from(descriptor.tl0.unwrap_or(0).wrapping_add(self.tl0)),
            u16::from(descriptor.key_index().unwrap_or(0).wrapping_add(self.key_index) & 0x1F),
        ]
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    layer: u8,
    /// First sequence number of the layer in this segment, extended.
    start: u64,
    /// The subscriber's sequence number for it, extended.
    out: u64,
    shift: Shift,
}

/// The RTP clock of one layer and its shift to the subscriber's clock, without the small steps that keep
/// timestamps increasing: those must not add up over many switches.
#[derive(Debug, Clone, Copy)]
struct TimestampAnchor {
    layer: u8,
    epoch: u32,
    shift: u32,
}

/// The packet at which a layer starts for the subscriber, and the layer's clock.
pub(crate) struct LayerStart<'a> {
    pub(crate) layer: u8,
    pub(crate) seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) info: &'a PayloadInfo,
    pub(crate) clock: RtpClock,
    /// Shortest step between two timestamps, ticks.
    pub(crate) step: u32,
    /// Clock rate, Hz.
    pub(crate) rate: u32,
}

#[derive(Debug)]
pub(crate) struct Rewriter {
    open: Option<Segment>,
    closed: VecDeque<Segment>,
    /// Highest sequence number that was queued, extended.
    last: u64,
    /// The next number to use: after `last`, or after numbers reserved for packets that are still missing
    /// before skipped padding.
    next: u64,
    anchor: Option<TimestampAnchor>,
    last_timestamp: u32,
    last_at: Option<Instant>,
    last_vp8: Option<[u16; 3]>,
    first_timestamp: u32,
}

impl Rewriter {
    pub(crate) fn new(first_seq: u16, first_timestamp: u32) -> Self {
        Self {
            open: None,
            closed: VecDeque::new(),
            // One cycle up, so that lower numbers exist for late packets.
            last: 0xFFFF + u64::from(first_seq),
            next: 0x1_0000 + u64::from(first_seq),
            anchor: None,
            last_timestamp: 0,
            last_at: None,
            last_vp8: None,
            first_timestamp,
        }
    }

    /// The layer that the anchor's clock belongs to.
    pub(crate) fn anchor_layer(&self) -> Option<u8> {
        self.anchor.map(|anchor| anchor.layer)
    }

    /// Shift of timestamps in the open segment.
    pub(crate) fn timestamp_shift(&self) -> u32 {
        self.open.map_or(0, |segment| segment.shift.timestamp)
    }

    /// Starts a layer, or starts it again: the numbers continue from the last ones that were sent. `anchored`
    /// is the clock of the layer that [`Rewriter::anchor_layer`] names.
    pub(crate) fn start_layer(&mut self, now: Instant, new: &LayerStart<'_>, anchored: Option<RtpClock>) {
        let timestamp = self.align(now, new, anchored);
        let mut shift = self.open.map_or(Shift::default(), |segment| segment.shift);
        shift.timestamp = timestamp;
        if let (Some(descriptor), Some([picture_id, tl0, key_index])) = (new.info.vp8, self.last_vp8) {
            shift.picture_id = picture_id.wrapping_add(1).wrapping_sub(descriptor.picture_id.unwrap_or(0));
            shift.tl0 = (tl0 as u8).wrapping_add(1).wrapping_sub(descriptor.tl0.unwrap_or(0));
            shift.key_index =
                (key_index as u8).wrapping_add(1).wrapping_sub(descriptor.key_index().unwrap_or(0));
        }
        // Reserved numbers are given up: a packet that still came for one could repeat a picture id of the
        // layer that starts now.
        self.next = self.last + 1;
        self.push(Segment { layer: new.layer, start: new.seq, out: self.next, shift });
    }

    /// Leaves out a packet: padding, or of a dropped temporal layer. `new_frame`: a frame is left out that begins
    /// here, and its picture id with it. True: the packet's number is removed from the sequence, or is reserved and
    /// may still be given up. False: a later packet was queued, so padding must be sent to use its number.
    pub(crate) fn skip(&mut self, layer: u8, seq: u64, new_frame: bool) -> bool {
        let Some((out, _)) = self.map(layer, seq) else { return true };
        if out < self.next {
            return out > self.last;
        }
        let Some(open) = &mut self.open else { return true };
        let mut shift = open.shift;
        shift.picture_id = shift.picture_id.wrapping_sub(new_frame.into());
        if seq == open.start {
            open.start += 1;
            open.shift = shift;
        } else {
            let segment = Segment { start: seq + 1, out, shift, ..*open };
            self.push(segment);
        }
        self.next = out;
        true
    }

    fn push(&mut self, segment: Segment) {
        if let Some(open) = self.open.replace(segment) {
            if self.closed.capacity() == 0 {
                self.closed.reserve_exact(MAX_CLOSED);
            }
            if self.closed.len() >= MAX_CLOSED {
                self.closed.pop_front();
            }
            self.closed.push_back(open);
        }
    }

    /// The subscriber's extended sequence number and the shift for a packet; none when it belongs to no
    /// segment.
    pub(crate) fn map(&self, layer: u8, seq: u64) -> Option<(u64, Shift)> {
        let open = self.open.as_ref()?;
        if open.layer == layer && seq >= open.start {
            return Some((open.out + (seq - open.start), open.shift));
        }
        let mut end = open.out;
        for segment in self.closed.iter().rev() {
            if segment.layer == layer && seq >= segment.start {
                let out = segment.out + (seq - segment.start);
                if out < end {
                    return Some((out, segment.shift));
                }
            }
            end = end.min(segment.out);
        }
        None
    }

    /// Was a later packet queued already? Then a layer cannot start here.
    pub(crate) fn has_passed(&self, layer: u8, seq: u64) -> bool {
        self.map(layer, seq).is_some_and(|(out, _)| out <= self.last)
    }

    /// Layer, extended sequence number and shift of the sent packet with the subscriber's number `seq`.
    pub(crate) fn unmap(&self, seq: u16) -> Option<(u8, u64, Shift)> {
        let out = self.last.checked_sub(u64::from((self.last as u16).wrapping_sub(seq)))?;
        let segment = self.open.iter().chain(self.closed.iter().rev()).find(|segment| out >= segment.out)?;
        Some((segment.layer, segment.start + (out - segment.out), segment.shift))
    }

    /// Notes that a packet is queued.
    pub(crate) fn queued(
        &mut self,
        now: Instant,
        out: u64,
        timestamp: u32,
        vp8: Option<&Descriptor>,
        by: &Shift,
    ) {
        if out <= self.last {
            return;
        }
        self.last = out;
        self.next = self.next.max(out + 1);
        self.last_timestamp = timestamp;
        self.last_at = Some(now);
        if let Some(descriptor) = vp8 {
            self.last_vp8 = Some(by.vp8(descriptor));
        }
    }

    /// The shift of timestamps for a layer that starts. The same clock keeps its shift. Another clock is
    /// aligned by the sender reports of both layers, or without those by the elapsed time. Timestamps always
    /// increase.
    fn align(&mut self, now: Instant, new: &LayerStart<'_>, anchored: Option<RtpClock>) -> u32 {
        let elapsed = self.last_at.map(|last| ticks(now.saturating_duration_since(last), new.rate));
        let by_arrival = self.last_timestamp.wrapping_add(elapsed.unwrap_or(0).max(new.step));
        let by_reports = || {
            let anchor =
                self.anchor.filter(|anchor| anchored.is_some_and(|old| old.epoch == anchor.epoch))?;
            let (old, report) = (anchored?.report?, new.clock.report?);
            // Time between the two reports on the publisher's NTP clock, in ticks.
            let apart = (i128::from(report.ntp.wrapping_sub(old.ntp) as i64) * i128::from(new.rate)) >> 32;
            let in_old_clock = old
                .timestamp
                .wrapping_add(apart as u32)
                .wrapping_add(new.timestamp.wrapping_sub(report.timestamp));
            let aligned = in_old_clock.wrapping_add(anchor.shift);
            let off = (aligned.wrapping_sub(by_arrival) as i32).unsigned_abs();
            (off <= new.rate * MAX_REPORT_OFFSET_S).then_some(aligned)
        };
        let aligned = match self.anchor {
            None => self.first_timestamp,
            Some(anchor) if anchor.layer == new.layer && anchor.epoch == new.clock.epoch => {
                new.timestamp.wrapping_add(anchor.shift)
            }
            Some(_) => by_reports().unwrap_or(by_arrival),
        };
        let shift = aligned.wrapping_sub(new.timestamp);
        self.anchor = Some(TimestampAnchor { layer: new.layer, epoch: new.clock.epoch, shift });
        let behind = self.last_at.is_some() && (aligned.wrapping_sub(self.last_timestamp) as i32) <= 0;
        if behind { self.last_timestamp.wrapping_add(1).wrapping_sub(new.timestamp) } else { shift }
    }
}
