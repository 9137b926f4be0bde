//! When to probe, and what is known about the probes that were sent. How fast a probe is, whether a further
//! one follows, and what its result means is the estimator's.

use std::collections::VecDeque;

use crate::gcc::{Cluster, FirstProbes, Gcc, Micros};
use crate::probe::{MAX_PAUSE, Probe, ProbeId, SentKind};

/// Probes that wait to be sent; the estimator asks for two at once.
const MAX_WAITING: usize = 4;
/// A probe that could not be sent for this long is outdated.
const MAX_WAIT: Micros = 500_000;
/// Probes whose packets may still be reported.
const MAX_KNOWN: usize = 8;
/// Time between probes while something is held back: short after the estimate changed much, longer after
/// probes that found nothing.
const MIN_INTERVAL: Micros = 1_000_000;
const MAX_INTERVAL: Micros = 2_500_000;
/// An access link is often slow for seconds only, so the interval grows slowly.
const INTERVAL_GROWTH_PERCENT: Micros = 125;
/// If the estimator refused, the path is congested or its rate is used: asked again after this.
const RETRY: Micros = 250_000;
/// A raise or a trial that is taken back before this time has failed.
const SHORT: Micros = 4_000_000;
/// Time without probes after that.
const HOLD: Micros = 2_000_000;
/// A demand that changes by less is no reason to probe.
const DEMAND_STEP: f64 = 0.1;
/// A layer has at least this many times the rate of the one below.
const LAYER_STEP: f64 = 1.5;
/// Room above what is wanted, so that layers which vary fit into the estimate.
const HEADROOM: f64 = 1.35;

/// Is the second rate so much higher that another layer is sent?
fn is_step(from: u64, to: u64) -> bool {
    to as f64 > from as f64 * LAYER_STEP
}

/// The probe that is being sent.
#[derive(Debug)]
struct UnderWay {
    id: ProbeId,
    /// When its last packet was sent.
    last: Micros,
    /// What is left.
    packets: usize,
    bytes: usize,
}

/// The probes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    waiting: VecDeque<(Micros, Probe)>,
    known: VecDeque<(ProbeId, Cluster)>,
    under_way: Option<UnderWay>,
    last: u16,
    wanted: u64,
    allocated: u64,
    filler: u64,
    /// The demand that the estimator knows.
    known_demand: u64,
    /// What was allocated when the path was last probed, or when that changed.
    probed_with: u64,
    interval: Micros,
    next: Micros,
    odd: bool,
    /// When more was allocated or tried for the last time.
    raised: Micros,
    /// No probes until then.
    hold: Micros,
    /// Did the path carry less than was sent, since all that is wanted was sent?
    is_slow: bool,
    /// When a probe was asked for.
    asked: Micros,
    /// The estimate then.
    asked_with: Option<u64>,
    /// Since when the path is tried.
    tried_since: Option<Micros>,
    /// The estimate at which a further probe was put off.
    put_off_at: Option<u64>,
    started: bool,
}

impl Probing {
    /// Bits per second that could be used. Probes and the estimate need not be higher.
    pub(crate) fn useful(&self) -> u64 {
        (self.wanted as f64 * HEADROOM) as u64
    }

    /// Is less allocated than is wanted?
    pub(crate) fn wants_more(&self) -> bool {
        self.wanted > self.sending()
    }

    /// Is nothing of what is wanted allocated?
    pub(crate) fn is_starved(&self) -> bool {
        self.wanted > 0 && self.sending() == 0
    }

    /// Is as much allocated now as was tried?
    pub(crate) fn is_trial_passed(&self, allocated: u64) -> bool {
        self.filler > 0 && allocated > self.allocated + self.filler / 2
    }

    /// Does a higher layer begin, if that is allocated?
    pub(crate) fn is_layer_step(&self, allocated: u64) -> bool {
        is_step(self.allocated, allocated)
    }

    /// The path carries less than is sent.
    pub(crate) fn note_slow(&mut self) {
        self.is_slow = true;
    }

    /// Did the path carry less than was sent, since all that is wanted was sent?
    pub(crate) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Bits per second that are allocated.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bits per second that are allocated, with the padding of a trial.
    pub(crate) fn sending(&self) -> u64 {
        self.allocated + self.filler
    }

    fn is_held_back(&self, estimate: u64) -> bool {
        self.wants_more() && estimate < self.useful()
    }

    pub(crate) fn set_demand(
        &mut self,
        now: Micros,
        gcc: &mut Gcc,
        wanted: u64,
        allocated: u64,
        filler: u64,
    ) {
        self.note_raise(now, wanted, allocated + filler);
        (self.wanted, self.allocated, self.filler) = (wanted, allocated, filler);
        self.tried_since = (filler > 0).then(|| self.tried_since.unwrap_or(now));
        self.is_slow &= self.wants_more();
        if wanted == 0 {
            self.waiting.clear();
            return;
        }
        if !self.started {
            self.started = true;
            self.known_demand = wanted;
            self.next = now + MAX_INTERVAL;
            gcc.start_probing(now, self.useful());
        } else if wanted.abs_diff(self.known_demand) as f64 > self.known_demand as f64 * DEMAND_STEP {
            self.known_demand = wanted;
            gcc.set_useful(now, self.useful());
        }
        self.take(now, gcc);
    }

    /// A raise or a trial that does not last was too much for the path, although its probe succeeded. What is allocated
    /// varies with the measured rates of the layers; only a step to another layer counts.
    fn note_raise(&mut self, now: Micros, wanted: u64, total: u64) {
        let before = self.sending();
        let still_wanted = wanted >= self.wanted / 4 * 3;
        if is_step(total, before) && still_wanted && now.saturating_sub(self.raised) < SHORT {
            self.hold = now + HOLD;
        } else if is_step(before, total) {
            self.raised = now;
        }
    }

    /// The path was just seen to carry less than is sent: probes wait.
    pub(crate) fn hold(&mut self, now: Micros) {
        self.waiting.clear();
        self.hold = now + HOLD;
    }

    /// The next probe need not wait any more.
    pub(crate) fn shorten_hold(&mut self, now: Micros) {
        self.hold = self.hold.min(now);
        self.next = self.next.min(now);
    }

    /// A new estimator: it begins with probing if anything is wanted.
    pub(crate) fn restart(&mut self, now: Micros, gcc: &mut Gcc, probes: FirstProbes) {
        self.waiting.clear();
        self.known.clear();
        self.asked_with = None;
        if probes != FirstProbes::Later {
            self.hold = 0;
        }
        self.interval = MIN_INTERVAL;
        self.next = now + MIN_INTERVAL;
        if self.started {
            gcc.start_probing(now, self.useful());
            self.take(now, gcc);
        }
    }

    /// Asks the estimator for a probe if it is time to.
    /// `is_filled`: packets wait in the bottleneck's queue.
    pub(crate) fn process(&mut self, now: Micros, gcc: &mut Gcc, is_filled: bool) {
        self.take(now, gcc);
        // Another layer is sent: what is known about the path is outdated.
        let (less, more) = (self.allocated.min(self.probed_with), self.allocated.max(self.probed_with));
        if is_step(less, more) {
            self.probed_with = self.allocated;
            self.interval = MIN_INTERVAL;
            self.next = self.next.min(now + MIN_INTERVAL);
        }
        // The probe before found much more: the path is perhaps free again.
        if (self.asked + MIN_INTERVAL..self.asked + MAX_INTERVAL).contains(&now)
            && self.asked_with.take_if(|estimate| gcc.target() >= *estimate / 4 * 5).is_some()
        {
            self.interval = MIN_INTERVAL;
            self.next = self.next.min(now);
        }
        // What the probe before found still holds.
        if now >= self.asked + MIN_INTERVAL
            && self.put_off_at.take().is_some_and(|estimate| gcc.target() >= estimate / 10 * 9)
        {
            self.next = self.next.min(now);
        }
        // On a path that was too slow, a probe beside a trial would fill the queue.
        let is_tried = self.is_slow && self.tried_since.is_some_and(|since| now < since + MAX_INTERVAL);
        if now < self.next.max(self.hold)
            || !self.started
            || !self.waiting.is_empty()
            || is_tried
            || !self.is_held_back(gcc.target())
        {
            return;
        }
        if is_filled {
            self.next = now + RETRY;
            return;
        }
        // The estimator probes when the demand changes, so the demand changes by one bit per second.
        self.odd = !self.odd;
        gcc.set_useful(now, self.useful() + u64::from(self.odd));
        if !self.take(now, gcc) {
            self.next = now + RETRY;
            return;
        }
        self.interval = (self.interval * INTERVAL_GROWTH_PERCENT / 100).clamp(MIN_INTERVAL, MAX_INTERVAL);
        self.next = now + self.interval;
    }

    /// Takes the probes that the estimator asks for, no faster than is useful. Returns whether there are any.
    pub(crate) fn take(&mut self, now: Micros, gcc: &mut Gcc) -> bool {
        let (useful, estimate) = (self.useful(), gcc.target());
        let before = self.waiting.len();
        for mut cluster in gcc.clusters() {
            if cluster.rate > useful {
                cluster.bytes =
                    (cluster.bytes as u64).saturating_mul(useful).checked_div(cluster.rate).unwrap_or(0)
                        as usize;
                cluster.rate = useful;
            }
            // Behind a bottleneck that lets bursts through, a probe seems to succeed, and a further one of twice its rate
            // would only delay audio and video.
            if self.is_slow && now < self.asked + MIN_INTERVAL {
                self.put_off_at = Some(estimate);
                continue;
            }
            if now < self.hold || cluster.rate <= estimate || self.waiting.len() >= MAX_WAITING {
                continue;
            }
            (self.asked, self.asked_with, self.put_off_at) = (now, Some(estimate), None);
            self.last = self.last.wrapping_add(1);
            let id = ProbeId(self.last);
            if self.known.len() >= MAX_KNOWN {
                self.known.pop_front();
            }
            self.known.push_back((id, cluster));
            let Cluster { rate, bytes, packets, .. } = cluster;
            self.waiting.push_back((now, Probe { id, rate, bytes, packets }));
        }
        self.waiting.len() > before
    }

    pub(crate) fn poll(&mut self, now: Micros) -> Option<Probe> {
        loop {
            let (since, probe) = self.waiting.pop_front()?;
            if now.saturating_sub(since) <= MAX_WAIT {
                return Some(probe);
            }
        }
    }

    /// The probe that a packet belongs to. What else is sent while a probe is under way is a part of it: it
    /// is between the probe's packets in every queue.
    pub(crate) fn sent(&mut self, now: Micros, size: usize, kind: SentKind) -> Option<ProbeId> {
        if let SentKind::Probe(id) = kind
            && self.under_way.as_ref().is_none_or(|probe| probe.id != id)
        {
            let Cluster { packets, bytes, .. } = self.cluster(id)?;
            self.under_way = Some(UnderWay { id, last: now, packets, bytes });
        }
        let probe = self.under_way.as_mut()?;
        let id = probe.id;
        if now.saturating_sub(probe.last) > MAX_PAUSE {
            self.under_way = None;
            return None;
        }
        if matches!(kind, SentKind::Probe(_)) {
            probe.last = now;
            probe.packets = probe.packets.saturating_sub(1);
            probe.bytes = probe.bytes.saturating_sub(size);
            if probe.packets == 0 && probe.bytes == 0 {
                self.under_way = None;
            }
        }
        Some(id)
    }

    pub(crate) fn cluster(&self, id: ProbeId) -> Option<Cluster> {
        self.known.iter().find(|(known, _)| *known == id).map(|(_, cluster)| *cluster)
    }
}
