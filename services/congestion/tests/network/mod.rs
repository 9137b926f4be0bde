//! A sender and a receiver on a path with one bottleneck, in simulated time.
//!
//! The sender has one audio stream and one video track with three simulcast layers of three temporal layers each, of
//! which it sends what the allocator chooses. A layer begins with a key frame, which comes some time after it was
//! requested. The receiver writes transport-wide feedback as it is on the wire, or only receiver reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use systir_allocation::{Allocator, Importance, LayerRates, Rung, VideoDemand, VideoSource};
use systir_congestion::{BitrateLimits, CongestionControl, Pacer, Probe, SentKind};
use systir_rtp::packet::{Layer, LayerSet};
use systir_rtp::rtcp::{RtcpPacket, parse};
use systir_rtp::twcc::{Feedback, TwccRecorder};

pub(crate) const MEGABIT: u64 = 1_000_000;
pub(crate) const KILOBIT: u64 = 1_000;
/// Bits per second of the layers of the video.
pub(crate) const LAYERS: [u64; 3] = [150 * KILOBIT, 500 * KILOBIT, 1_700 * KILOBIT];
/// Every 20 ms; has no transport-wide numbers.
const AUDIO_PACKET: usize = 120;
const LIMITS: BitrateLimits = BitrateLimits { min: 30 * KILOBIT, start: 300 * KILOBIT, max: 10 * MEGABIT };
const PACKET: usize = 1_200;
/// A packet of padding.
const PADDING: usize = 340;
const FRAME_MS: u64 = 40;
/// The temporal layers of frames, and a frame's size in percent of the mean.
const TEMPORAL: [(u8, usize); 4] = [(0, 160), (2, 80), (1, 80), (2, 80)];
/// The part of a layer's rate that its lowest temporal layers have, percent.
const TEMPORAL_PART: [u64; 4] = [40, 60, 100, 100];
/// Time between receiver reports.
const REPORT_MS: u64 = 1000;
/// The estimate is divided five times a second, and soon after it fell.
const ALLOCATION_MS: u64 = 200;
const FALL_MS: u64 = 50;
/// From the request of a key frame until it is there.
const KEY_FRAME_MS: u64 = 120;

/// The path. All times are in milliseconds.
pub(crate) struct Path {
    /// Bits per second of the bottleneck, each from a time on. Zero: nothing passes, in both directions.
    pub(crate) capacity: Vec<(u64, u64)>,
    /// How long a packet waits in the bottleneck's queue at most; those that would wait longer are dropped.
    pub(crate) queue_ms: u64,
    /// Bytes that the bottleneck lets through at once after a pause: a token bucket.
    pub(crate) burst: usize,
    /// One way.
    pub(crate) propagation_ms: u64,
    /// Part of the packets that is lost at random.
    pub(crate) loss: f64,
    /// Random delay added to each packet, without reordering: up to twice this.
    pub(crate) jitter_ms: u64,
    /// The bottleneck serves nothing for a while again and again, as a radio does that listens elsewhere: how often, how
    /// long. Nothing is lost. Zero: never.
    pub(crate) stall: (u64, u64),
    /// A constant flow through the bottleneck: from, until, bits per second.
    pub(crate) competing: (u64, u64, u64),
    pub(crate) seed: u64,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            capacity: vec![(0, 100 * MEGABIT)],
            queue_ms: 200,
            burst: 0,
            propagation_ms: 20,
            loss: 0.0,
            jitter_ms: 0,
            stall: (0, 0),
            competing: (0, 0, 0),
            seed: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// With its transport-wide number.
    Video(u16),
    Audio,
    Competing,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    kind: Flow,
    size: usize,
    /// The last packet of a video frame.
    frame: bool,
    /// Microseconds.
    queued_at: u64,
    bits_left: f64,
}

/// What happened in one millisecond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) estimate: u64,
    /// Bits per second of the layer that is sent; zero: none.
    pub(crate) layer: u64,
    pub(crate) received_bits: u64,
    pub(crate) probe_bits: u64,
    /// Bits of padding in the place of a higher layer.
    pub(crate) trial_bits: u64,
    /// Delay in the bottleneck's queue of packets that left it, in milliseconds.
    pub(crate) queue_ms: f64,
    pub(crate) frames: u32,
    pub(crate) lost: u32,
    pub(crate) audio_lost: u32,
}

/// What a receiver counts that gives no transport-wide feedback.
#[derive(Debug, Default)]
struct Reports {
    sent: u16,
    highest: u16,
    reported: u16,
    received: u16,
    /// Receiver reports on their way: arrival in milliseconds, fraction lost, packets.
    on_their_way: VecDeque<(u64, u8, u16)>,
}

pub(crate) struct Simulation {
    path: Path,
    random: fastrand::Rng,
    start: Instant,
    ms: u64,
    pub(crate) control: CongestionControl,
    pacer: Pacer,
    /// Bytes of packets of frames that wait for the pacer; true: the last of its frame.
    waiting: VecDeque<(usize, bool)>,
    probe: Option<(Probe, Pacer)>,
    /// Bytes of the newest packet of video, which is sent once more to probe.
    repeated: usize,
    /// Padding in the place of a higher layer.
    trial: Option<Pacer>,
    allocator: Allocator<u32>,
    rungs: Vec<(u32, Option<Rung>)>,
    allocated_at: u64,
    /// The estimate that was divided last.
    divided: u64,
    layer: Option<usize>,
    /// The highest temporal layer that is sent.
    temporal: u8,
    /// A layer whose key frame was requested, and when it comes.
    key_frame: Option<(usize, u64)>,
    /// The next frame is a key frame.
    is_key_frame: bool,
    queue: VecDeque<Packet>,
    /// Bits that the token bucket has.
    tokens: f64,
    competing_bits: u64,
    /// Arrivals in order: microseconds, number, whether it ends a frame, bytes.
    arriving: VecDeque<(u64, u16, bool, usize)>,
    receiver: TwccRecorder,
    /// Feedback on its way: milliseconds at which it arrives.
    feedback: VecDeque<(u64, Vec<u8>)>,
    /// None: it gives transport-wide feedback.
    reports: Option<Reports>,
    /// Wanted layers.
    pub(crate) wanted: u64,
    pub(crate) samples: Vec<Sample>,
}

impl Simulation {
    pub(crate) fn new(path: Path) -> Self {
        let start = Instant::now();
        let control = CongestionControl::new(start, LIMITS);
        Self {
            random: fastrand::Rng::with_seed(path.seed),
            path,
            start,
            ms: 0,
            pacer: Pacer::new(start, control.pacing_rate()),
            control,
            waiting: VecDeque::new(),
            probe: None,
            repeated: PADDING,
            trial: None,
            allocator: Allocator::new(),
            rungs: Vec::new(),
            allocated_at: 0,
            divided: 0,
            layer: None,
            temporal: 3,
            key_frame: None,
            is_key_frame: true,
            queue: VecDeque::new(),
            tokens: 0.0,
            competing_bits: 0,
            arriving: VecDeque::new(),
            receiver: TwccRecorder::new(start),
            feedback: VecDeque::new(),
            reports: None,
            wanted: LAYERS[2],
            samples: Vec::new(),
        }
    }

    /// The receiver gives no transport-wide feedback.
    pub(crate) fn without_feedback(path: Path) -> Self {
        let mut simulation = Self::new(path);
        simulation.control = CongestionControl::without_feedback(simulation.start, LIMITS);
        simulation.reports = Some(Reports::default());
        simulation
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    pub(crate) fn run_until(&mut self, ms: u64) {
        while self.ms < ms {
            self.samples.push(Sample {
                estimate: 0,
                layer: 0,
                received_bits: 0,
                probe_bits: 0,
                trial_bits: 0,
                queue_ms: 0.0,
                frames: 0,
                lost: 0,
                audio_lost: 0,
            });
            self.allocate();
            self.produce();
            self.send();
            self.bottleneck();
            self.receive();
            self.report();
            let now = self.now();
            if self.control.poll_timeout().is_some_and(|due| due <= now) {
                self.control.handle_timeout(now);
            }
            let (estimate, layer) = (self.control.estimate(), self.layer);
            let sample = self.sample();
            sample.estimate = estimate;
            sample.layer = layer.map_or(0, |layer| LAYERS[layer]);
            self.ms += 1;
        }
    }

    fn sample(&mut self) -> &mut Sample {
        self.samples.last_mut().unwrap()
    }

    fn capacity(&self) -> u64 {
        self.path.capacity.iter().rev().find(|(from, _)| *from <= self.ms).map_or(0, |(_, rate)| *rate)
    }

    /// Divides the estimate, as a worker does.
    fn allocate(&mut self) {
        let estimate = self.control.estimate();
        let since = self.ms - self.allocated_at;
        let fell = estimate < self.divided / 100 * 95 && since >= FALL_MS;
        if self.ms > 0 && since < ALLOCATION_MS && !fell {
            return;
        }
        (self.allocated_at, self.divided) = (self.ms, estimate);
        let now = self.now();
        // The rates are measured, so they vary.
        let factor = self.random.u64(94..107);
        let rates = LAYERS.map(|rate| TEMPORAL_PART.map(|part| (rate * part / 100 * factor / 100) as u32));
        let wanted = LAYERS.iter().position(|rate| *rate == self.wanted).unwrap();
        let demand = VideoDemand {
            source: VideoSource::Camera,
            wanted: Some(Layer(wanted as u8)),
            shown_pixels: 1280 * 720,
            importance: Importance::Ordinary,
            rates: LayerRates(rates),
            declared: LayerSet(0b111),
            live: LayerSet(0b111),
            current: None,
        };
        let mut outcome = self.allocator.allocate(now, estimate, &[(1, demand)], &mut self.rungs);
        for _ in 1..4 {
            if self.allocator.has_lowered() {
                break;
            }
            outcome = self.allocator.allocate(now, estimate, &[(1, demand)], &mut self.rungs);
        }
        self.apply(self.rungs[0].1);
        match &mut self.trial {
            _ if outcome.trial == 0 => self.trial = None,
            Some(pacer) => pacer.set_rate(now, outcome.trial),
            None => self.trial = Some(Pacer::with_burst(now, outcome.trial, Duration::ZERO)),
        }
        self.control.set_demand(now, outcome.wanted, outcome.allocated, outcome.trial);
        self.pacer.set_rate(now, self.control.pacing_rate());
        self.pacer.set_burst(self.control.pacing_burst());
    }

    /// Sends what was chosen; another layer begins with its key frame.
    fn apply(&mut self, rung: Option<Rung>) {
        let Some(rung) = rung else {
            (self.layer, self.key_frame) = (None, None);
            return;
        };
        let chosen = usize::from(rung.layer.0);
        let current = self.layer.map(|layer| Rung::all_of(Layer(layer as u8)));
        self.temporal = current.map_or(rung, |current| rung.until_key_frame(current)).temporal;
        match self.key_frame {
            _ if self.layer == Some(chosen) => self.key_frame = None,
            Some((requested, _)) if requested == chosen => {}
            _ => self.key_frame = Some((chosen, self.ms + KEY_FRAME_MS)),
        }
    }

    fn produce(&mut self) {
        if self.ms.is_multiple_of(20) {
            self.enqueue(Packet {
                kind: Flow::Audio,
                size: AUDIO_PACKET,
                frame: false,
                queued_at: self.ms * 1000,
                bits_left: 8.0 * AUDIO_PACKET as f64,
            });
        }
        if let Some((layer, _)) = self.key_frame.take_if(|(_, at)| *at <= self.ms) {
            (self.layer, self.temporal, self.is_key_frame) = (Some(layer), 3, true);
        }
        let Some(layer) = self.layer else {
            self.waiting.clear();
            return;
        };
        if self.ms.is_multiple_of(FRAME_MS) {
            let mean = (LAYERS[layer] * FRAME_MS / 8_000) as usize;
            let (temporal, percent) = TEMPORAL[(self.ms / FRAME_MS) as usize % TEMPORAL.len()];
            if temporal > self.temporal && !self.is_key_frame {
                return;
            }
            let factor = if std::mem::take(&mut self.is_key_frame) {
                4.0
            } else {
                (self.random.f64() * 0.4 + 0.8) * percent as f64 / 100.0
            };
            let mut left = (mean as f64 * factor) as usize;
            while left > 0 {
                let size = left.min(PACKET);
                left -= size;
                self.waiting.push_back((size.max(80), left == 0));
            }
        }
    }

    fn send(&mut self) {
        let now = self.now();
        while !self.waiting.is_empty() && self.pacer.may_send(now) {
            let (size, frame) = self.waiting.pop_front().unwrap();
            self.pacer.sent(now, size);
            self.repeated = size;
            self.transmit(size, SentKind::Media, frame);
        }
        let fillers = self.control.takes_fillers();
        while let Some(pacer) = &mut self.trial
            && fillers
            && self.waiting.is_empty()
            && pacer.may_send(now)
        {
            pacer.sent(now, 600);
            self.sample().trial_bits += 8 * 600;
            self.transmit(600, SentKind::Filler, false);
        }
        loop {
            if self.probe.is_none() {
                let Some(probe) = self.control.poll_probe(now) else { return };
                self.probe = Some((probe, Pacer::with_burst(now, probe.rate, Duration::ZERO)));
            }
            let Some((probe, pacer)) = &mut self.probe else { return };
            if !pacer.may_send(now) {
                return;
            }
            // Recent packets once more, in a slow probe padding.
            let size = if probe.takes_long_packets() { self.repeated } else { PADDING };
            pacer.sent(now, size);
            let id = probe.id;
            probe.packets = probe.packets.saturating_sub(1);
            probe.bytes = probe.bytes.saturating_sub(size);
            if probe.packets == 0 && probe.bytes == 0 {
                self.probe = None;
            }
            self.sample().probe_bits += 8 * size as u64;
            self.transmit(size, SentKind::Probe(id), false);
        }
    }

    fn transmit(&mut self, size: usize, kind: SentKind, frame: bool) {
        let now = self.now();
        let seq = match &mut self.reports {
            None => self.control.sent(now, size, kind),
            Some(reports) => {
                self.control.sent_unnumbered(now);
                reports.sent = reports.sent.wrapping_add(1);
                reports.sent
            }
        };
        let bits_left = 8.0 * size as f64;
        self.enqueue(Packet { kind: Flow::Video(seq), size, frame, queued_at: self.ms * 1000, bits_left });
    }

    fn enqueue(&mut self, packet: Packet) {
        let waiting: f64 = self.queue.iter().map(|packet| packet.bits_left).sum();
        let capacity = self.capacity();
        let lost = packet.kind != Flow::Competing && self.random.f64() < self.path.loss;
        if lost || capacity == 0 || waiting * 1000.0 / capacity as f64 > self.path.queue_ms as f64 {
            let sample = self.sample();
            match packet.kind {
                Flow::Video(_) => sample.lost += 1,
                Flow::Audio => sample.audio_lost += 1,
                Flow::Competing => {}
            }
        } else {
            self.queue.push_back(packet);
        }
    }

    fn bottleneck(&mut self) {
        let (from, until, rate) = self.path.competing;
        if (from..until).contains(&self.ms) {
            self.competing_bits += rate / 1000;
            while self.competing_bits >= 8 * PACKET as u64 {
                self.competing_bits -= 8 * PACKET as u64;
                let (queued_at, bits_left) = (self.ms * 1000, 8.0 * PACKET as f64);
                self.enqueue(Packet {
                    kind: Flow::Competing,
                    size: PACKET,
                    frame: false,
                    queued_at,
                    bits_left,
                });
            }
        }
        let (every, length) = self.path.stall;
        if every > 0 && self.ms % every < length {
            return;
        }
        let capacity = self.capacity() as f64;
        let budget = capacity / 1000.0;
        let mut left = budget + self.tokens;
        let full = left;
        while let Some(packet) = self.queue.front_mut() {
            if packet.bits_left > left {
                packet.bits_left -= left;
                self.tokens = 0.0;
                return;
            }
            left -= packet.bits_left;
            let packet = self.queue.pop_front().unwrap();
            let departed = self.ms * 1000 + ((full - left) / full * 1000.0) as u64;
            let Flow::Video(seq) = packet.kind else { continue };
            let jitter = (self.random.f64() * 2000.0 * self.path.jitter_ms as f64) as u64;
            let arrival = departed + self.path.propagation_ms * 1000 + jitter;
            let arrival = self.arriving.back().map_or(arrival, |(last, ..)| arrival.max(*last));
            self.arriving.push_back((arrival, seq, packet.frame, packet.size));
            let waited = departed.saturating_sub(packet.queued_at) as f64 / 1000.0;
            let sample = self.sample();
            sample.queue_ms = sample.queue_ms.max(waited);
        }
        self.tokens = left.min(8.0 * self.path.burst as f64);
    }

    fn receive(&mut self) {
        while let Some((at, seq, frame, size)) = self.arriving.front().copied() {
            if at >= (self.ms + 1) * 1000 {
                return;
            }
            self.arriving.pop_front();
            match &mut self.reports {
                None => self.receiver.record(self.start + Duration::from_micros(at), seq, 1),
                Some(reports) => (reports.highest, reports.received) = (seq, reports.received + 1),
            }
            let sample = self.sample();
            sample.received_bits += 8 * size as u64;
            sample.frames += u32::from(frame);
        }
    }

    fn report(&mut self) {
        if let Some(reports) = &mut self.reports {
            if self.ms.is_multiple_of(REPORT_MS) {
                let packets = reports.highest.wrapping_sub(reports.reported);
                let lost = u64::from(packets.saturating_sub(std::mem::take(&mut reports.received)));
                let fraction = (lost * 256).checked_div(packets.into()).unwrap_or(0).min(255) as u8;
                reports.reported = reports.highest;
                reports.on_their_way.push_back((self.ms + self.path.propagation_ms, fraction, packets));
            }
            while let Some((_, fraction, packets)) =
                reports.on_their_way.pop_front_if(|next| next.0 <= self.ms)
            {
                let now = self.start + Duration::from_millis(self.ms);
                self.control.receiver_report(now, fraction, packets.into());
            }
            return;
        }
        let mut out = Vec::new();
        while self.receiver.write(self.now(), 1, &mut out) {}
        if !out.is_empty() && self.capacity() > 0 {
            self.feedback.push_back((self.ms + self.path.propagation_ms, out));
        }
        while self.feedback.front().is_some_and(|(at, _)| *at <= self.ms) {
            let (_, out) = self.feedback.pop_front().unwrap();
            let now = self.now();
            for packet in parse(&out) {
                let RtcpPacket::TransportCc { fci } = packet else { panic!("{packet:?}") };
                self.control.feedback(now, &Feedback::parse(fci).unwrap());
            }
        }
    }

    pub(crate) fn between(&self, from: u64, until: u64) -> &[Sample] {
        &self.samples[from as usize..until as usize]
    }

    pub(crate) fn mean_estimate(&self, from: u64, until: u64) -> f64 {
        mean(self.between(from, until).iter().map(|sample| sample.estimate as f64))
    }

    pub(crate) fn lowest_estimate(&self, from: u64, until: u64) -> u64 {
        self.between(from, until).iter().map(|sample| sample.estimate).min().unwrap()
    }

    pub(crate) fn received(&self, from: u64, until: u64) -> f64 {
        mean(self.between(from, until).iter().map(|sample| sample.received_bits as f64)) * 1000.0
    }

    /// The part of the time in which no packet of the sender waited longer than this in the queue.
    pub(crate) fn queue_below(&self, from: u64, until: u64, ms: f64) -> f64 {
        mean(self.between(from, until).iter().map(|sample| f64::from(u8::from(sample.queue_ms < ms))))
    }

    pub(crate) fn worst_queue(&self, from: u64, until: u64) -> f64 {
        self.between(from, until).iter().map(|sample| sample.queue_ms).fold(0.0, f64::max)
    }

    /// The longest time without a frame, in milliseconds.
    pub(crate) fn longest_freeze(&self, from: u64, until: u64) -> u64 {
        let (mut longest, mut since) = (0, 0);
        for sample in self.between(from, until) {
            since = if sample.frames > 0 { 0 } else { since + 1 };
            longest = longest.max(since);
        }
        longest
    }

    pub(crate) fn audio_lost_percent(&self, from: u64, until: u64) -> f64 {
        let lost: u32 = self.between(from, until).iter().map(|sample| sample.audio_lost).sum();
        f64::from(lost) * 100.0 / ((until - from) / 20) as f64
    }

    /// Milliseconds without a frame, beyond 200 ms each time.
    pub(crate) fn frozen(&self, from: u64, until: u64) -> u64 {
        let (mut frozen, mut since) = (0, 0);
        for sample in self.between(from, until) {
            since = if sample.frames > 0 { 0 } else { since + 1 };
            frozen += u64::from(since > 200);
        }
        frozen
    }

    /// Milliseconds after `from` until a layer of at least that rate is sent.
    pub(crate) fn time_to_layer(&self, from: u64, layer: u64) -> u64 {
        let at = self.samples[from as usize..].iter().position(|sample| sample.layer >= layer);
        at.map_or(u64::MAX, |at| at as u64)
    }

    /// One line for each step, for the log of a failed test.
    pub(crate) fn print(&self, step: usize) {
        for (at, samples) in self.samples.chunks(step).enumerate() {
            let last = samples.last().unwrap();
            let bits = |value: u64| value * 1000 / samples.len() as u64 / KILOBIT;
            println!(
                "{:6} ms estimate {:5} layer {:4} received {:5} probes {:4} trial {:4} queue {:5.0} ms lost {} {}",
                at * step,
                last.estimate / KILOBIT,
                last.layer / KILOBIT,
                bits(samples.iter().map(|sample| sample.received_bits).sum()),
                bits(samples.iter().map(|sample| sample.probe_bits).sum()),
                bits(samples.iter().map(|sample| sample.trial_bits).sum()),
                samples.iter().map(|sample| sample.queue_ms).fold(0.0, f64::max),
                samples.iter().map(|sample| sample.lost).sum::<u32>(),
                samples.iter().map(|sample| sample.audio_lost).sum::<u32>(),
            );
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    values.sum::<f64>() / count as f64
}
