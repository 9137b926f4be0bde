//! Congestion control of one subscriber's connection: the pace of its video, its retransmissions and its probes.

use std::time::{Duration, Instant};

use systir_allocation::{Allocator, Outcome};
use systir_congestion::{BitrateLimits, CongestionControl, Pacer, ProbeId, SentKind};
use systir_forwarding::SubscriptionId;
use systir_rtp::twcc::Feedback;
use tracing::trace;

use super::estimates::EstimateRange;
use super::sent_rate::SentRate;

/// Bits per second. At the start most subscribers get what they ask for; a probe follows at once.
const LIMITS: BitrateLimits = BitrateLimits { min: 30_000, start: 2_000_000, max: 50_000_000 };
/// At the beginning a probe looks for this much, bits per second, whatever is wanted: rates are not known yet.
const FIRST_DEMAND: u64 = 4_000_000;
/// How long that is.
const BEGINNING: Duration = Duration::from_secs(3);
/// Video that has waited for so long leaves faster: the cache does not keep it for much longer, and its rate is lowered
/// meanwhile.
const MAX_WAIT: Duration = Duration::from_millis(400);
/// How much faster.
const CATCH_UP: u32 = 3;
/// An estimate that fell by more than this is divided at once, but not more often than this.
const FALL_PERCENT: u64 = 5;
const FALL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the estimate is divided.
const DIVISION_INTERVAL: Duration = Duration::from_millis(200);
/// What a filler's pacer lets through at once: timers are late by up to a millisecond or two.
const FILLER_BURST: Duration = Duration::from_millis(2);
/// A trial of which less than this part was sent shows nothing.
const TRIAL_PART: u64 = 3;
/// Retransmissions may take this part of the estimate.
const RETRANSMISSION_PART: u64 = 5;
/// And at least this, bits per second.
const MIN_RETRANSMISSION_RATE: u64 = 50_000;
/// Retransmissions that may leave at once.
const RETRANSMISSION_BURST: Duration = Duration::from_millis(500);
/// Data messages may take what video leaves of the estimate, at least half of it, and at least this, bits per second: a
/// reader that takes less is ended.
const MIN_DATA_RATE: u64 = 200_000;
/// Data that may leave at once.
const DATA_BURST: Duration = Duration::from_millis(40);

/// A probe that is being sent.
#[derive(Debug)]
struct ActiveProbe {
    id: ProbeId,
    /// May its packets be of full size?
    takes_long_packets: bool,
    pacer: Pacer,
    bytes: usize,
    packets: usize,
}

/// A packet that is sent only to fill the path: a repeated one, or padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filler {
    Probe,
    Trial,
}

/// Congestion control of a connection, by transport-wide feedback or by what else the client reports.
#[derive(Debug)]
pub(super) struct SendControl {
    congestion: CongestionControl,
    pacer: Pacer,
    retransmissions: Pacer,
    data: Pacer,
    data_rate: SentRate,
    audio_rate: SentRate,
    /// The part of the estimate that data messages take from video, bits per second.
    data_part: u64,
    /// Does the transport perhaps have data that may not leave yet?
    holds_data: bool,
    /// When anything was wanted for the first time.
    wanted_since: Option<Instant>,
    /// Has the video that is next waited for too long?
    is_late: bool,
    probe: Option<ActiveProbe>,
    /// Spreads the packets that are sent in the place of a higher layer while the path is tried.
    trial: Option<Pacer>,
    /// The rate of the trial, bits per second, and the bytes that were sent since the last division.
    trial_rate: u64,
    trial_sent: u64,
    /// Is less allocated than is wanted, or is that not known yet?
    is_held_back: bool,
    /// Did the path carry less than was sent, since something is held back?
    is_slow: bool,
    /// Bits per second that are allocated.
    allocated: u64,
    /// What the packet that is being written is for.
    filler: Option<Filler>,
    /// Was the filler written since it began?
    is_filler_written: bool,
    /// Divides the estimate among the downtracks.
    pub(super) allocator: Allocator<SubscriptionId>,
    /// When the estimate is divided next.
    next_division: Instant,
    /// When it was divided, and what it was.
    divided: Option<(Instant, u64)>,
    /// With which it is counted.
    pub(super) range: EstimateRange,
    /// When the connection is to be looked at again; other entries in the worker's queue are outdated.
    pub(super) wake_at: Option<Instant>,
}

impl SendControl {
    /// `is_numbered`: the client gives transport-wide feedback, or may.
    pub(super) fn new(now: Instant, is_numbered: bool) -> Self {
        let congestion = if is_numbered {
            CongestionControl::new(now, LIMITS)
        } else {
            CongestionControl::without_feedback(now, LIMITS)
        };
        Self {
            pacer: Pacer::new(now, congestion.pacing_rate()),
            congestion,
            retransmissions: Pacer::with_burst(now, LIMITS.start / RETRANSMISSION_PART, RETRANSMISSION_BURST),
            data: Pacer::with_burst(now, LIMITS.start, DATA_BURST),
            data_rate: SentRate::new(now),
            audio_rate: SentRate::new(now),
            data_part: 0,
            holds_data: false,
            wanted_since: None,
            is_late: false,
            probe: None,
            trial: None,
            trial_rate: 0,
            trial_sent: 0,
            is_held_back: true,
            is_slow: false,
            allocated: 0,
            filler: None,
            is_filler_written: false,
            allocator: Allocator::new(),
            next_division: now,
            divided: None,
            range: EstimateRange::default(),
            wake_at: None,
        }
    }

    /// What the path carries beside audio, bits per second.
    fn estimate(&self) -> u64 {
        self.congestion.estimate()
    }

    /// What video may use, bits per second.
    pub(super) fn budget(&self) -> u64 {
        self.estimate().saturating_sub(self.data_part)
    }

    /// Is it time to divide the estimate? If so, the caller does, and this answers no until the next time.
    pub(super) fn begin_division(&mut self, now: Instant) -> bool {
        let estimate = self.budget();
        let fell = self.divided.is_some_and(|(at, before)| {
            estimate < before / 100 * (100 - FALL_PERCENT)
                && now.saturating_duration_since(at) >= FALL_INTERVAL
        });
        if now < self.next_division && !fell {
            return false;
        }
        let before = self.divided.map_or(now, |(at, _)| at);
        let asked = u128::from(self.trial_rate) * now.saturating_duration_since(before).as_millis() / 8000;
        if u128::from(std::mem::take(&mut self.trial_sent) * TRIAL_PART) < asked {
            self.allocator.restart_trial(now);
        }
        self.next_division = now + DIVISION_INTERVAL;
        self.divided = Some((now, estimate));
        true
    }

    /// Has the estimate divided as soon as possible.
    pub(super) fn divide_soon(&mut self, now: Instant) {
        self.next_division = now;
    }

    /// May the next packet of video leave?
    pub(super) fn may_send(&self, now: Instant) -> bool {
        self.pacer.may_send(now)
    }

    /// What could leave has left. `since`: when the video arrived that is next, if any still waits.
    pub(super) fn set_waits(&mut self, now: Instant, since: Option<Instant>) {
        let is_late = since.is_some_and(|since| now.saturating_duration_since(since) >= MAX_WAIT);
        if std::mem::replace(&mut self.is_late, is_late) != is_late {
            self.update_pace(now);
        }
    }

    /// May a retransmission leave? Those that may not are requested again.
    ///
    /// While the path carries less than is wanted, none of a layer that is not sent any more may: it would delay what the
    /// subscriber lacks of the one that is sent.
    pub(super) fn may_retransmit(&self, now: Instant, is_superseded: bool) -> bool {
        if self.filler.is_some() {
            return true;
        }
        !(is_superseded && self.is_held_back) && self.retransmissions.may_send(now)
    }

    /// A packet of video is written. `bytes`: with all headers. Returns its transport-wide sequence number.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize, retransmission: bool) -> u16 {
        // Media does not wait behind a filler.
        match (self.filler, &mut self.probe, &mut self.trial) {
            (Some(Filler::Probe), Some(probe), _) => {
                probe.bytes = probe.bytes.saturating_sub(bytes);
                probe.packets = probe.packets.saturating_sub(1);
                probe.pacer.sent(now, bytes);
                self.is_filler_written = true;
                return self.congestion.sent(now, bytes, SentKind::Probe(probe.id));
            }
            (Some(Filler::Trial), _, Some(pacer)) => {
                pacer.sent(now, bytes);
                self.trial_sent += bytes as u64;
                self.is_filler_written = true;
                return self.congestion.sent(now, bytes, SentKind::Filler);
            }
            _ => {}
        }
        let kind = if retransmission {
            self.retransmissions.sent(now, bytes);
            SentKind::Retransmission
        } else {
            SentKind::Media
        };
        self.pacer.sent(now, bytes);
        self.congestion.sent(now, bytes, kind)
    }

    /// A packet of video without a transport-wide sequence number is written.
    pub(super) fn sent_unnumbered(&mut self, now: Instant, bytes: usize, retransmission: bool) {
        if retransmission {
            self.retransmissions.sent(now, bytes);
        }
        self.pacer.sent(now, bytes);
        self.congestion.sent_unnumbered(now);
    }

    /// A packet of audio is written. `bytes`: with all headers.
    pub(super) fn sent_audio(&mut self, now: Instant, bytes: usize) {
        self.audio_rate.add(now, bytes);
    }

    /// May a packet of data channels leave? If not, [`SendControl::next_wake`] says when.
    pub(super) fn may_send_data(&mut self, now: Instant) -> bool {
        self.holds_data = !self.data.may_send(now);
        !self.holds_data
    }

    /// A packet of data channels leaves. `bytes`: with all headers.
    pub(super) fn sent_data(&mut self, now: Instant, bytes: usize) {
        self.data.sent(now, bytes);
        self.data_rate.add(now, bytes);
    }

    /// May data that was held leave now?
    pub(super) fn resumes_data(&self, now: Instant) -> bool {
        self.holds_data && self.data.may_send(now)
    }

    /// The connection is not over TCP any more.
    pub(super) fn clear_backlog(&mut self) {
        self.congestion.clear_backlog();
    }

    /// What waits for a connection over TCP, and how much has left since it began, in bytes.
    pub(super) fn backlog(&mut self, now: Instant, unsent: usize, left: u64) {
        self.congestion.backlog(now, unsent, left);
        self.update_pace(now);
    }

    /// Begins a filler, if one is due: of a probe, or of a trial while no video waits. [`SendControl::end_filler`] ends
    /// it.
    pub(super) fn begin_filler(&mut self, now: Instant, has_video: bool) -> bool {
        if self.probe.as_ref().is_none_or(|probe| probe.bytes == 0 && probe.packets == 0) {
            self.probe =
                self.congestion.poll_probe(now).inspect(|probe| trace!(?probe, "a probe begins")).map(
                    |probe| ActiveProbe {
                        id: probe.id,
                        takes_long_packets: probe.takes_long_packets(),
                        pacer: Pacer::with_burst(now, probe.rate, FILLER_BURST),
                        bytes: probe.bytes,
                        packets: probe.packets,
                    },
                );
        }
        let is_due = |pacer: &Pacer| pacer.may_send(now);
        self.filler = if self.probe.as_ref().is_some_and(|probe| is_due(&probe.pacer)) {
            Some(Filler::Probe)
        } else if !has_video && self.trial.as_ref().is_some_and(is_due) {
            Some(Filler::Trial)
        } else {
            None
        };
        self.is_filler_written = false;
        self.filler.is_some()
    }

    /// May the filler that began be a packet of full size, else padding?
    pub(super) fn takes_long_filler(&self) -> bool {
        let probe = self.probe.as_ref().filter(|_| self.filler == Some(Filler::Probe));
        probe.is_none_or(|probe| probe.takes_long_packets)
    }

    /// Ends a filler. If none was written, its probe or trial is given up. Returns whether one was.
    pub(super) fn end_filler(&mut self) -> bool {
        match self.filler.take() {
            _ if self.is_filler_written => {}
            Some(Filler::Probe) => self.probe = None,
            Some(Filler::Trial) => self.trial = None,
            None => {}
        }
        self.is_filler_written
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
        self.update_pace(now);
    }

    pub(super) fn round_trip(&mut self, sample: Duration) {
        self.congestion.round_trip(sample);
    }

    /// What could be used, and what is allocated, bits per second, with the padding that is to show whether the path
    /// carries more.
    pub(super) fn set_outcome(&mut self, now: Instant, outcome: Outcome) {
        let Outcome { wanted, allocated, trial } = outcome;
        self.is_held_back = allocated < wanted;
        self.is_slow &= self.is_held_back;
        self.allocated = allocated;
        let trial = if self.congestion.takes_fillers() { trial } else { 0 };
        self.trial_rate = trial;
        match &mut self.trial {
            _ if trial == 0 => self.trial = None,
            Some(pacer) => pacer.set_rate(now, trial),
            None => self.trial = Some(Pacer::with_burst(now, trial, FILLER_BURST)),
        }
        let begins =
            wanted > 0 && now.saturating_duration_since(*self.wanted_since.get_or_insert(now)) < BEGINNING;
        let wanted = if begins { wanted.max(FIRST_DEMAND) } else { wanted };
        self.congestion.set_demand(now, wanted, allocated, trial);
        self.update_pace(now);
    }

    /// Does what is due. Called at each tick.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.congestion.set_audio(self.audio_rate.get(now));
        if self.congestion.poll_timeout().is_some_and(|due| due <= now) {
            self.congestion.handle_timeout(now);
        }
        self.update_pace(now);
    }

    /// When the next packet may leave, if one waits. `has_video`: video is queued.
    pub(super) fn next_wake(&self, now: Instant, has_video: bool) -> Option<Instant> {
        let video = has_video.then(|| self.pacer.next(now));
        let probe = self.probe.as_ref().map(|probe| probe.pacer.next(now));
        let trial = self.trial.as_ref().filter(|_| !has_video).map(|pacer| pacer.next(now));
        let data = self.holds_data.then(|| self.data.next(now));
        [video, probe, trial, data].into_iter().flatten().min()
    }

    fn update_pace(&mut self, now: Instant) {
        let estimate = self.congestion.estimate();
        self.is_slow |= self.is_held_back && self.congestion.is_slow();
        // Data is other traffic to the estimator, which tells only afterwards that both together were too much.
        let taken = if self.is_slow { self.data_rate.get(now).min(estimate / 2) } else { 0 };
        self.data_part = taken;
        let faster = if self.is_late { CATCH_UP } else { 1 };
        let pace = u128::from(self.congestion.pacing_rate()) * u128::from(estimate - taken);
        let pace = u64::try_from(pace / u128::from(estimate.max(1))).unwrap_or(u64::MAX);
        self.pacer.set_rate(now, pace.saturating_mul(faster.into()));
        self.pacer.set_burst(self.congestion.pacing_burst() / faster);
        self.retransmissions.set_rate(now, (estimate / RETRANSMISSION_PART).max(MIN_RETRANSMISSION_RATE));
        let data = match (self.is_held_back, self.is_slow) {
            // A path that carries all video has room for data: SCTP finds out how much.
            (false, _) => LIMITS.max,
            (true, false) => estimate,
            (true, true) => estimate.saturating_sub(self.allocated).max(estimate / 2),
        };
        self.data.set_rate(now, data.max(MIN_DATA_RATE));
    }
}

#[cfg(test)]
mod tests;
