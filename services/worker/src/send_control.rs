//! Congestion control of one subscriber's connection: the pace of its video, its retransmissions and its probes.

use std::time::{Duration, Instant};

use systir_allocation::Allocator;
use systir_congestion::{BitrateLimits, CongestionControl, Pacer, Probe, ProbeId, SentKind};
use systir_forwarding::SubscriptionId;
use systir_rtp::twcc::Feedback;
use tracing::trace;

/// Bits per second. At the start most subscribers get the middle layer of a camera; a probe follows at once.
const LIMITS: BitrateLimits =
    BitrateLimits { min: 30_000, start: 1_000_000, max: 50_000_000 };
/// Retransmissions may take this part of the estimate.
const RETRANSMISSION_PART: u64 = 5;
/// And at least this, bits per second.
const MIN_RETRANSMISSION_RATE: u64 = 50_000;
/// Retransmissions that may leave at once.
const RETRANSMISSION_BURST: Duration = Duration::from_millis(500);

/// A probe that is being sent.
#[derive(Debug)]
struct ActiveProbe {
    id: ProbeId,
    pacer: Pacer,
    bytes: usize,
    packets: usize,
}

/// Congestion control of a connection whose client gives transport-wide feedback, or may.
#[derive(Debug)]
pub(super) struct SendControl {
    congestion: CongestionControl,
    pacer: Pacer,
    retransmissions: Pacer,
    probe: Option<ActiveProbe>,
    /// Is the packet that is being written one of the probe?
    is_probing: bool,
    /// Divides the estimate among the downtracks.
    pub(super) allocator: Allocator<SubscriptionId>,
    /// When the estimate is divided next.
    pub(super) next_allocation: Instant,
    /// Bytes of audio since the last allocation, with all headers.
    pub(super) audio_bytes: usize,
    /// When the connection is to be looked at again; other entries in the worker's queue are outdated.
    pub(super) wake_at: Option<Instant>,
}

impl SendControl {
    pub(super) fn new(now: Instant) -> Self {
        let congestion = CongestionControl::new(now, LIMITS);
        Self {
            pacer: Pacer::new(now, congestion.pacing_rate()),
            congestion,
            retransmissions: Pacer::with_burst(
                now,
                LIMITS.start / RETRANSMISSION_PART,
                RETRANSMISSION_BURST,
            ),
            probe: None,
            is_probing: false,
            allocator: Allocator::new(),
            next_allocation: now,
            audio_bytes: 0,
            wake_at: None,
        }
    }

    /// What video and data may use, bits per second.
    pub(super) fn estimate(&self) -> u64 {
        self.congestion.estimate()
    }

    /// May the next packet of video leave?
    pub(super) fn may_send(&self, now: Instant) -> bool {
        self.pacer.may_send(now)
    }

    /// May a retransmission leave? Those that may not are requested again.
    pub(super) fn may_retransmit(&self, now: Instant) -> bool {
        self.is_probing || self.retransmissions.may_send(now)
    }

    /// A packet of video is written. `bytes`: with all headers. Returns its transport-wide sequence number.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, retransmission: bool) -> u16 {
        let kind = match &mut self.probe {
            Some(probe) if self.is_probing => {
                probe.bytes = probe.bytes.saturating_sub(bytes);
                probe.packets = probe.packets.saturating_sub(1);
                probe.pacer.sent(now, bytes);
                // Media does not wait behind a probe.
                return self.congestion.sent(now, bytes, SentKind::Probe(probe.id));
            }
            _ if retransmission => {
                self.retransmissions.sent(now, bytes);
                SentKind::Retransmission
            }
            _ => SentKind::Media,
        };
        self.pacer.sent(now, bytes);
        self.congestion.sent(now, bytes, kind)
    }

    /// Begins a packet of the probe, if one is due. [`SendControl::end_probe_packet`] ends it.
    pub(super) fn begin_probe_packet(&mut self, now: Instant) -> bool {
        if self.probe.as_ref().is_none_or(|probe| probe.bytes == 0 && probe.packets == 0) {
            self.probe = self.congestion.poll_probe(now).inspect(|probe| trace!(?probe, "a probe begins")).map(|Probe { id, rate, bytes, packets }| ActiveProbe {
                id,
                pacer: Pacer::with_burst(now, rate, Duration::ZERO),
                bytes,
                packets,
            });
        }
        self.is_probing = self.probe.as_ref().is_some_and(|probe| probe.pacer.may_send(now));
        self.is_probing
    }

    /// The packet of the probe was written, or cannot be: then the probe is given up.
    pub(super) fn end_probe_packet(&mut self, is_written: bool) {
        self.is_probing = false;
        if !is_written {
            self.probe = None;
        }
    }

    /// The client reports which packets arrived, and when.
    pub(super) fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        self.congestion.feedback(now, feedback);
        self.update_pace(now);
    }

    /// A block of a receiver report, about as many packets as it covers.
    pub(super) fn receiver_report(&mut self, now: Instant, fraction_lost: u8, packets: u32) {
        self.congestion.receiver_report(now, fraction_lost, packets);
    }

    /// The client's own estimate, bits per second.
    pub(super) fn remb(&mut self, now: Instant, bitrate: u64) {
        self.congestion.remb(now, bitrate);
    }

    pub(super) fn round_trip(&mut self, now: Instant, sample: Duration) {
        self.congestion.round_trip(now, sample);
    }

    /// What could be used, and what is allocated, bits per second.
    pub(super) fn set_demand(&mut self, now: Instant, wanted: u64, allocated: u64) {
        self.congestion.set_demand(now, wanted, allocated);
        self.update_pace(now);
    }

    /// Does what is due. Called at each tick.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.congestion.poll_timeout().is_some_and(|due| due <= now) {
            self.congestion.handle_timeout(now);
            self.update_pace(now);
        }
    }

    /// When the next packet may leave, if one waits. `has_video`: video is queued.
    pub(super) fn next_wake(&self, now: Instant, has_video: bool) -> Option<Instant> {
        let video = has_video.then(|| self.pacer.next(now));
        let probe = self.probe.as_ref().map(|probe| probe.pacer.next(now));
        [video, probe].into_iter().flatten().min()
    }

    fn update_pace(&mut self, now: Instant) {
        let estimate = self.congestion.estimate();
        self.pacer.set_rate(now, self.congestion.pacing_rate());
        self.retransmissions.set_rate(now, (estimate / RETRANSMISSION_PART).max(MIN_RETRANSMISSION_RATE));
    }
}
