use std::time::{Duration, Instant};

use systir_rtp::twcc::Feedback;

use crate::arrival::ArrivalClock;
use crate::backlog::Backlog;
use crate::bottleneck_queue::BottleneckQueue;
use crate::gcc::{self, FirstProbes, Gcc, Micros};
use crate::history::{MAX_PACKETS, SendHistory};
use crate::limits::BitrateLimits;
use crate::probe::{Probe, SentKind};
use crate::probing::Probing;
use crate::reports::ReportedLoss;
use crate::silence::Silence;

/// Time before the connection began, so that arrivals before the first packet have a positive time.
const EPOCH: Micros = 20_000_000;
/// How often the estimator is processed while packets are sent.
const INTERVAL: Micros = 100_000;
/// Without packets for this long there is nothing to process.
const IDLE: Micros = 2_000_000;
/// Statuses are read at this pace, with a burst: a receiver that repeats them takes no more of the sender's time.
const STATUS: Micros = 40;
const STATUS_BURST: Micros = 8_192 * STATUS;
/// Statuses of one feedback packet that are read. A range that was really sent is no longer.
const MAX_STATUSES: usize = 2 * MAX_PACKETS;
/// Most feedback packets are about no more packets.
const USUAL_STATUSES: usize = 32;
/// Congestion so soon after a probe or a filler, beyond the round-trip time, is caused by it: its queue has to drain.
const CAUSED: Micros = 600_000;
/// After the estimate fell below what is sent, media leaves slower than it for this long: the queue of the bottleneck
/// drains, in which else the key frame of the next lower layer waits, or from which it is dropped.
const DRAIN: Micros = 400_000;
/// A layer begins with a key frame, several times as large as other frames. It comes and has left within this time.
const KEY_FRAME: Micros = 600_000;
/// After a higher layer was chosen, media leaves no faster than the estimate for this long: its key frame is asked for,
/// comes and has left. Faster, it would fill the bottleneck's queue, and a layer that fits would be taken for too much.
const BEGINNING: Micros = 900_000;
/// What media may send at once: an ordinary frame. Each burst is one system call, and one wake-up of the receiver.
const FRAME_BURST: Duration = Duration::from_millis(40);
/// And no more than this, so that it fits into the queues and token buckets of fast paths: 32 kB.
const MAX_BURST_BITS: u64 = 8 * 32_000;
/// After the path was too slow: a burst waits in the bottleneck's queue, before audio, and is mistaken for congestion.
const SHORT_BURST: Duration = Duration::from_millis(10);
/// And while the estimate is below so many hundredths of what is allocated: there a burst is mistaken too.
const ROOM_PERCENT: u64 = 130;
/// How long the path counts as too slow.
const CAREFUL: Micros = 60_000_000;
/// Time without packets after which the estimator begins anew, while all video is held back; doubled each time.
const MIN_STARVED: Micros = 500_000;
const MAX_STARVED: Micros = 4_000_000;
/// A receiver that sent reports and no transport-wide feedback for this long gives none.
const NO_FEEDBACK: Micros = 3_000_000;

/// Where the estimate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The receiver has reported nothing yet.
    Unknown,
    TransportWide,
    /// Receiver reports and REMB.
    Reports,
}

/// Estimates what one connection's path to a subscriber carries, and says when to probe for more.
///
/// Every packet with a transport-wide sequence number is recorded with [`Self::sent`], feedback is passed to
/// [`Self::feedback`]. [`Self::estimate`] is what may be allocated. After each call [`Self::poll_timeout`] and
/// [`Self::poll_probe`] may have changed.
///
/// A receiver that gives no such feedback is controlled by its receiver reports and by its own estimate (REMB), without
/// probes. Over TCP, [`Self::backlog`] limits either estimate.
#[derive(Debug)]
pub struct CongestionControl {
    began: Instant,
    latest: Micros,
    limits: BitrateLimits,
    source: Source,
    gcc: Box<Gcc>,
    history: SendHistory,
    arrivals: ArrivalClock,
    probing: Probing,
    silence: Silence,
    queue: BottleneckQueue,
    reported: ReportedLoss,
    backlog: Backlog,
    /// Bits per second of audio.
    audio: u64,
    first_sent: Option<Micros>,
    last_sent: Micros,
    /// Congestion before then is caused by a probe, a filler, or the key frame of a layer that the path carries.
    caused_until: Micros,
    /// When the statuses that were read are paid for.
    statuses_paid: Micros,
    /// The bottleneck's queue drains until then.
    drain_until: Micros,
    /// The key frame of a layer that begins has left by then.
    begins_until: Micros,
    /// The path was too slow, so bursts are short until then.
    careful_until: Micros,
    /// How long nothing may be sent until the estimator begins anew, while all video is held back.
    starved_after: Micros,
    /// The path carried this before a probe or a filler congested it, so the estimate does not fall below.
    carried: Option<u64>,
    next_process: Option<Micros>,
    /// Smoothed.
    round_trip: Option<Micros>,
    /// The number of the last feedback.
    feedback_count: Option<u8>,
}

impl CongestionControl {
    /// The control of a connection that begins at `now`. BitrateLimits that contradict each other are corrected.
    #[must_use]
    pub fn new(now: Instant, limits: BitrateLimits) -> Self {
        // Google congestion control's own lower bound.
        let min = limits.min.clamp(5_000, 1 << 40);
        let max = limits.max.clamp(min, 1 << 40);
        let limits = BitrateLimits { min, max, start: limits.start.clamp(min, max) };
        Self {
            began: now,
            latest: EPOCH,
            limits,
            source: Source::Unknown,
            gcc: Box::new(Gcc::new(EPOCH, &limits, FirstProbes::Usual)),
            history: SendHistory::default(),
            arrivals: ArrivalClock::default(),
            probing: Probing::default(),
            silence: Silence::default(),
            queue: BottleneckQueue::default(),
            reported: ReportedLoss::new(EPOCH, limits.start, limits.min, limits.max),
            backlog: Backlog::default(),
            audio: 0,
            first_sent: None,
            last_sent: 0,
            caused_until: 0,
            statuses_paid: 0,
            drain_until: 0,
            begins_until: 0,
            careful_until: 0,
            starved_after: MIN_STARVED,
            carried: None,
            next_process: None,
            round_trip: None,
            feedback_count: None,
        }
    }

    /// The control of a connection whose client did not negotiate transport-wide feedback.
    #[must_use]
    pub fn without_feedback(now: Instant, limits: BitrateLimits) -> Self {
        Self { source: Source::Reports, ..Self::new(now, limits) }
    }

    /// Records a packet at the moment it is sent and returns its transport-wide sequence number. `size`:
    /// bytes on the wire, with headers of RTP, UDP and IP.
    pub fn sent(&mut self, now: Instant, size: usize, kind: SentKind) -> u16 {
        let now = self.micros(now);
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let probe = self.probing.sent(now, size.into(), kind);
        let number = self.history.push(now, size, probe);
        self.gcc.sent(gcc::sent_packet(number, now, size, None));
        self.silence.sent(now);
        if matches!(kind, SentKind::Probe(_) | SentKind::Filler) {
            self.caused_until = self.caused_until.max(now + CAUSED + self.round_trip.unwrap_or(0));
        }
        self.note_sent(now);
        number as u16
    }

    /// A packet of media without a transport-wide sequence number is sent.
    pub fn sent_unnumbered(&mut self, now: Instant) {
        let now = self.micros(now);
        self.note_sent(now);
    }

    fn note_sent(&mut self, now: Micros) {
        self.first_sent.get_or_insert(now);
        self.last_sent = now;
        self.next_process.get_or_insert(now + INTERVAL);
    }

    /// Transport-wide feedback about packets that were sent.
    pub fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        let now = self.micros(now);
        if self.source != Source::TransportWide {
            if self.source == Source::Reports {
                self.replace_estimator(now, self.reported.estimate(self.audio), FirstProbes::Usual);
            }
            self.source = Source::TransportWide;
        }
        let mut arrivals = self.arrivals.begin(now, feedback.reference_time());
        if arrivals.is_anew {
            self.queue = BottleneckQueue::default();
        }
        let count = feedback.count();
        if self.feedback_count.replace(count).is_some_and(|before| count != before.wrapping_add(1)) {
            self.queue.report_lost();
        }
        let mut results = Vec::with_capacity(USUAL_STATUSES);
        let mut newest = None;
        self.statuses_paid = self.statuses_paid.max(now);
        let affordable = (now + STATUS_BURST).saturating_sub(self.statuses_paid) / STATUS;
        let affordable = usize::try_from(affordable).unwrap_or(MAX_STATUSES).min(MAX_STATUSES);
        for (seq, delta) in feedback.packets().take(affordable) {
            self.statuses_paid += STATUS;
            let arrival = match delta {
                None => None,
                Some(delta) => match arrivals.next(delta) {
                    None => continue,
                    arrival => arrival,
                },
            };
            let Some((number, packet)) = self.history.report(seq, arrival.is_some()) else { continue };
            if let Some(arrival) = arrival {
                newest = newest.max(Some(packet.at));
                self.queue.received(packet.at, arrival, packet.size);
            }
            let probe = packet.probe.and_then(|id| self.probing.cluster(id));
            let sent = gcc::sent_packet(number, packet.at, packet.size, probe);
            results.push(gcc::packet_result(sent, arrival));
        }
        if let Some(newest) = newest {
            if self.round_trip.is_none() {
                self.round_trip = Some(now.saturating_sub(newest));
            }
            if let Some(left) = self.silence.reported(now, self.history.in_flight()) {
                // What was sent into the blackout says nothing about the path as it is now.
                self.history.clear();
                self.queue = BottleneckQueue::default();
                self.replace_estimator(now, left, FirstProbes::Usual);
                return;
            }
        }
        if newest.is_some() && self.queue.reported(now, self.probing.sending()) {
            self.note_slow(now);
            self.carried = None;
            self.probing.hold(now);
        }
        if !results.is_empty() {
            let before = self.gcc.target();
            self.gcc.feedback(now, results);
            self.note_fall(now, before);
            self.probing.take(now, &mut self.gcc);
        }
    }

    /// The path carries less than is sent.
    fn note_slow(&mut self, now: Micros) {
        self.drain_until = now + DRAIN;
        self.careful_until = now + CAREFUL;
        self.probing.note_slow();
    }

    /// What a fall of the estimate means.
    ///
    /// Google congestion control falls below the rate that the receiver measured, whatever was sent. When a probe, a
    /// filler or the key frame of a layer that was tried caused the congestion, that would be less than what is sent
    /// without it, which the path carries.
    fn note_fall(&mut self, now: Micros, before: u64) {
        let target = self.gcc.target();
        if target >= before {
            return;
        }
        if target < self.probing.allocated() {
            self.note_slow(now);
        }
        // It falls to nine tenths of what was received, perhaps twice. Further: the path does not carry what is sent.
        let allocated = self.probing.allocated();
        let is_caused = now < self.caused_until && target >= allocated / 4 * 3;
        // Without congestion the estimate rises to one and a half times of what is sent.
        let trusted = (allocated / 2 * 3).min(before).max(self.carried.unwrap_or(0));
        self.carried = is_caused.then_some(trusted);
    }

    /// One block of a receiver report: the part of packets lost since the previous one, in units of 1/256, and the
    /// packets that the block covers. Only for receivers without transport-wide feedback, else ignored.
    pub fn receiver_report(&mut self, now: Instant, fraction_lost: u8, packets: u32) {
        let now = self.micros(now);
        if self.relies_on_reports(now) {
            let packets = u64::from(packets);
            let lost = packets * u64::from(fraction_lost) / 256;
            self.reported.report(lost, packets);
        }
    }

    /// The receiver's own estimate (REMB), in bits per second: a cap while it is fresh. Only for receivers
    /// without transport-wide feedback, else ignored.
    pub fn remb(&mut self, now: Instant, bitrate: u64) {
        let now = self.micros(now);
        if self.relies_on_reports(now) {
            self.reported.remb(now, bitrate);
        }
    }

    fn relies_on_reports(&mut self, now: Micros) -> bool {
        let silent = self.first_sent.is_some_and(|first| now.saturating_sub(first) >= NO_FEEDBACK);
        if self.source == Source::Unknown && silent {
            self.source = Source::Reports;
            self.history.clear();
            let BitrateLimits { min, max, .. } = self.limits;
            self.reported = ReportedLoss::new(now, self.gcc.target(), min, max);
            self.reported.set_useful(self.probing.useful().min(max));
        }
        self.source == Source::Reports
    }

    /// A round-trip time, from RTCP.
    pub fn round_trip(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX).min(EPOCH);
        self.round_trip = Some(self.round_trip.map_or(sample, |mean| (7 * mean + sample) / 8));
    }

    /// Bits per second of audio, which is sent beside what is allocated. Audio has no transport-wide sequence numbers,
    /// so to Google congestion control it is other traffic. The receiver's own estimate and what leaves over TCP include
    /// it.
    pub fn set_audio(&mut self, bits_per_second: u64) {
        self.audio = bits_per_second.min(self.limits.max);
    }

    /// Is the path known to carry less than was sent, or limited by what the receiver reports?
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.source == Source::Reports || self.backlog.cap().is_some() || self.probing.is_slow()
    }

    /// The connection is not over TCP any more: its backlog says nothing.
    pub fn clear_backlog(&mut self) {
        self.backlog = Backlog::default();
    }

    /// What waits in our process for a connection over TCP, and how much has left since it began, in bytes. To be called
    /// several times a second; of a connection over UDP never.
    pub fn backlog(&mut self, now: Instant, unsent: usize, left: u64) {
        let now = self.micros(now);
        let useful = self.probing.useful().min(self.limits.max) + self.audio;
        self.backlog.observe(now, unsent, left, (self.limits.min, useful));
    }

    /// What could be used at most, with all wanted layers, what is allocated now, and with how much padding the path is
    /// tried ([`SentKind::Filler`]); bits per second on the wire. Probes do not go beyond what is useful, and go on only
    /// while something is held back and the path is not tried.
    pub fn set_demand(&mut self, now: Instant, wanted: u64, allocated: u64, filler: u64) {
        let now = self.micros(now);
        let limit = |rate: u64| rate.min(self.limits.max);
        let (wanted, allocated, filler) = (limit(wanted), limit(allocated), limit(filler));
        if self.probing.is_trial_passed(allocated) {
            self.caused_until = now + KEY_FRAME + CAUSED;
        }
        if self.probing.is_layer_step(allocated) {
            self.begins_until = now + BEGINNING;
        }
        self.probing.set_demand(now, &mut self.gcc, wanted, allocated, filler);
        if !self.probing.is_starved() {
            self.starved_after = MIN_STARVED;
        }
        if wanted > 0 {
            self.reported.set_useful(self.probing.useful().min(self.limits.max));
        }
        if self.probing.wants_more() {
            self.next_process.get_or_insert(now + INTERVAL);
        }
    }

    /// When [`Self::handle_timeout`] is to be called; none while nothing is sent.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.next_process?;
        Some(self.began + Duration::from_micros(next.saturating_sub(EPOCH)))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.micros(now);
        if self.next_process.is_none_or(|next| now < next) {
            return;
        }
        let active = now.saturating_sub(self.last_sent) < IDLE || self.probing.wants_more();
        self.next_process = active.then_some(now + INTERVAL);
        if self.source == Source::Reports {
            self.reported.process(now);
            return;
        }
        if let Some(slow) = self.queue.end_cap(now) {
            self.carried = None;
            if self.gcc.target() > slow.carried {
                // It saw too little of a queue that was kept short.
                self.replace_estimator(now, slow.cap(), FirstProbes::Later);
            }
            if !self.queue.is_filled(now) {
                // The path may have been slow for a moment only: a probe measures it.
                self.probing.shorten_hold(now);
            }
        }
        let before = self.gcc.target();
        self.gcc.process(now);
        self.note_fall(now, before);
        if let Some(left) = self.silence.ended_idle(now) {
            // Nothing is sent that the receiver could report: only probes show what the path carries.
            self.history.clear();
            self.replace_estimator(now, left, FirstProbes::Usual);
            return;
        }
        if self.is_starved(now) {
            self.starved_after = (2 * self.starved_after).min(MAX_STARVED);
            self.replace_estimator(now, self.gcc.target(), FirstProbes::Cautious);
            return;
        }
        if self.source == Source::TransportWide {
            self.silence.process(now, self.estimate(), self.round_trip.unwrap_or(0));
        }
        if self.silence.cap().is_none() {
            self.probing.process(now, &mut self.gcc, self.queue.is_filled(now));
        }
    }

    /// Bits per second that may be allocated: without audio.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        let target = match self.source {
            Source::Reports => self.reported.estimate(self.audio),
            Source::Unknown | Source::TransportWide => self.gcc.target().max(self.carried.unwrap_or(0)),
        };
        let backlog = self.backlog.cap().map(|cap| cap.saturating_sub(self.audio));
        let target =
            [self.silence.cap(), self.queue.cap(), backlog].into_iter().flatten().fold(target, u64::min);
        target.clamp(self.limits.min, self.limits.max)
    }

    /// Bits per second for the [`crate::Pacer`] of media: a fifth more than the estimate, so that what waits
    /// drains. A key frame that leaves faster fills the bottleneck's queue, which is mistaken for congestion,
    /// and packets that leave at short and even distances show real congestion sooner. Not more than the estimate while
    /// a higher layer begins, and a fifth less after the estimate fell below what was sent.
    #[must_use]
    pub fn pacing_rate(&self) -> u64 {
        let fifths = match self.latest {
            now if now < self.drain_until => 4,
            now if now < self.begins_until => 5,
            _ => 6,
        };
        self.estimate() / 5 * fifths
    }

    /// What the [`crate::Pacer`] of media lets through at once: less after the path was too slow, and while it has little room.
    #[must_use]
    pub fn pacing_burst(&self) -> Duration {
        let is_tight = self.estimate() < self.probing.allocated() / 100 * ROOM_PERCENT;
        if is_tight || self.is_slow() || self.latest < self.careful_until {
            return SHORT_BURST;
        }
        let most = MAX_BURST_BITS.saturating_mul(1_000_000) / self.pacing_rate().max(1);
        FRAME_BURST.min(Duration::from_micros(most))
    }

    /// Would padding show what the path carries? Not if the receiver does not report it, and not behind a backlog.
    #[must_use]
    pub fn takes_fillers(&self) -> bool {
        self.source != Source::Reports && self.backlog.cap().is_none()
    }

    /// The probe to send now, if any: send its bytes at its rate, then call this again.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let now = self.micros(now);
        if !self.takes_fillers() || self.silence.cap().is_some() || self.queue.is_filled(now) {
            return None;
        }
        self.probing.poll(now)
    }

    /// Has nothing been sent for a while because all video is held back? Google congestion control asks for probes only
    /// while packets are sent, so its estimate would stay as it is.
    fn is_starved(&self, now: Micros) -> bool {
        let is_idle = now.saturating_sub(self.last_sent) >= self.starved_after;
        is_idle && self.first_sent.is_some() && self.takes_fillers() && self.probing.is_starved()
    }

    /// A new estimator that begins with an estimate of `start`.
    fn replace_estimator(&mut self, now: Micros, start: u64, probes: FirstProbes) {
        *self.gcc = Gcc::new(now, &self.limits_from(start), probes);
        self.carried = None;
        self.probing.restart(now, &mut self.gcc, probes);
    }

    fn limits_from(&self, start: u64) -> BitrateLimits {
        BitrateLimits { start: start.clamp(self.limits.min, self.limits.max), ..self.limits }
    }

    /// Never goes back.
    fn micros(&mut self, now: Instant) -> Micros {
        let elapsed = now.saturating_duration_since(self.began).as_micros();
        self.latest = self.latest.max(EPOCH + u64::try_from(elapsed).unwrap_or(0));
        self.latest
    }
}
