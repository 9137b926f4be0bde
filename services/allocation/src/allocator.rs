//! The division of one connection's bandwidth.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::demand::{Importance, Rung, VideoDemand, VideoSource};
use crate::ladder::Ladder;
use crate::track_state::TrackState;

/// Tracks go up only if all of them together then need at most this much of the budget. The rest is for an estimate
/// that wobbles by a tenth, and for the key frame with which a layer starts. Percent.
pub const ROOM_PERCENT: u64 = 85;

/// Tracks go down when all of them together need more than this much of the budget; then to the whole of it. This is
/// the only way in which more than the budget is allocated. Percent.
pub const KEEP_PERCENT: u64 = 105;

/// With a smaller budget, bits per second, all video is paused: it would only take from audio.
pub const FLOOR: u64 = 80_000;

/// If the budget drops so soon after a track was raised, raising was wrong.
const SOON: Duration = Duration::from_secs(8);
/// Time to the next attempt after the first wrong one; doubled at each further one, up to the longest.
const BACK_OFF: Duration = Duration::from_secs(3);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Another path: this many percent of the budget that was too high.
const NEW_PATH_PERCENT: u64 = 150;
/// What was just raised does not give way to a more important track for so long.
const SETTLE: Duration = Duration::from_secs(3);

/// How long the path has to carry padding in the place of a higher layer before that layer is sent. A probe is
/// shorter: a router that lets a burst through at full speed passes it. The queue of such a router fills within this
/// time, and only padding is lost then.
const TRIAL_LENGTH: Duration = Duration::from_millis(800);
/// Time to the next trial after one that failed. It costs little, so it does not grow.
const TRIAL_BACK_OFF: Duration = Duration::from_secs(3);
/// A trial goes on while the raise that it is for changes by no more than this, since rates are measured. Percent.
const TRIAL_MARGIN_PERCENT: u64 = 120;

/// What was allocated, bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What all tracks together need for the highest rungs that the subscriber asked for and that arrive.
    pub wanted: u64,
    /// What the allocated rungs need together.
    pub allocated: u64,
    /// Padding to send in addition, or repeated packets: what the next raise would add. 0: no raise is tried. If the
    /// path does not carry it, the budget of the next calls is smaller.
    pub trial: u64,
}

/// Padding is sent in the place of a higher layer.
#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    /// What is sent together with the padding, bits per second.
    total: u64,
}

/// One track during a call.
#[derive(Debug, Clone)]
struct Entry {
    /// Its place in the caller's list.
    index: usize,
    /// Its place in the allocator's list.
    state: usize,
    rank: (bool, Importance, u32),
    ladder: Ladder,
    /// Was it sent before this call?
    sent: bool,
    /// Index of its rung; none while paused.
    rung: Option<usize>,
    /// Less important than a paused track: it stays at its lowest rung.
    held_low: bool,
    recent: bool,
}

impl Entry {
    fn cost(&self) -> u64 {
        self.rung.map_or(0, |rung| self.ladder.cost(rung))
    }

    /// Cost of one rung more.
    fn step_up(&self) -> u64 {
        self.rung.map_or(0, |rung| self.ladder.cost(rung + 1).saturating_sub(self.ladder.cost(rung)))
    }

    fn may_rise(&self) -> bool {
        !self.held_low && self.rung.is_some_and(|rung| rung < self.ladder.top())
    }
}

/// Place of a step, the raise of a track by one rung, in the order in which steps are made: by group of tracks that
/// are equally important, then by rung, then by track.
type StepPlace = (usize, usize, usize);

/// Divides the bandwidth of one connection. `K` identifies a track.
#[derive(Debug, Clone)]
pub struct Allocator<K> {
    states: Vec<TrackState<K>>,
    entries: Vec<Entry>,
    /// When a track was last raised, unless the budget dropped since.
    raised_at: Option<Instant>,
    /// Wrong raises in a row.
    failures: u32,
    /// No track is raised before.
    wait_until: Option<Instant>,
    /// The highest budget since a track was last raised. If raising was wrong, that budget was too high.
    trusted: u64,
    /// Bits per second that the path has carried. More is tried with padding first. Unlimited until the budget was too
    /// small for the first time: so long the estimate is believed.
    proven: u64,
    trial: Option<Trial>,
    /// The rungs before a raise that is only tried; reused.
    before: Vec<Option<usize>>,
}

impl<K> Default for Allocator<K> {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            entries: Vec::new(),
            raised_at: None,
            failures: 0,
            wait_until: None,
            trusted: 0,
            proven: u64::MAX,
            trial: None,
            before: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> Allocator<K> {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Divides `budget`, bits per second without audio, among the tracks. `out` is replaced: a rung for each track,
    /// or none to pause it, in the order of `tracks`. Of a lower layer than the one that is sent now, the caller
    /// sends what [`Rung::until_key_frame`] says, and asks for the key frame. Each key occurs once. Call it when the
    /// budget changed, and about 5 times a second while [`Outcome::allocated`] is less than [`Outcome::wanted`].
    pub fn allocate(
        &mut self,
        now: Instant,
        budget: u64,
        tracks: &[(K, VideoDemand)],
        out: &mut Vec<(K, Option<Rung>)>,
    ) -> Outcome {
        self.begin(now, tracks);
        let keep = if budget < FLOOR { 0 } else { budget.saturating_mul(KEEP_PERCENT) / 100 };
        let room = budget.saturating_mul(ROOM_PERCENT) / 100;
        let room = if room < FLOOR { 0 } else { room };
        if self.raised_at.is_some() {
            self.trusted = self.trusted.max(budget);
        }
        // The path has changed: what failed on it before says nothing.
        if self.wait_until.is_some() && budget > self.trusted / 100 * NEW_PATH_PERCENT {
            (self.wait_until, self.failures) = (None, 0);
        }
        let paused = self.give_lowest(keep, room);
        let lowered = self.lower(keep, budget);
        let trial_failed = self.trial.take_if(|trial| trial.total > keep).is_some();
        if paused || lowered {
            (self.proven, self.trial) = (budget, None);
            self.budget_dropped(now);
        } else if trial_failed {
            self.wait_until = Some(now + TRIAL_BACK_OFF);
        } else if self.wait_until.is_none_or(|until| now >= until) {
            // A trial that began with room goes on without.
            let room = self.trial.map_or(room, |trial| room.max(keep.min(trial.total)));
            self.raise(now, budget, room);
        }
        self.finish(tracks, out)
    }

    /// Was the budget ever too small for what was sent? Until then it is believed, and a caller may raise several tracks at
    /// once by several calls; afterwards one by each division, so that their key frames do not come together.
    #[must_use]
    pub fn has_lowered(&self) -> bool {
        self.proven != u64::MAX
    }

    /// The padding of the trial was not sent: it begins anew.
    pub fn restart_trial(&mut self, now: Instant) {
        if let Some(trial) = &mut self.trial {
            trial.since = now;
        }
    }

    /// Brings states and entries in line with the tracks, most important first.
    fn begin(&mut self, now: Instant, tracks: &[(K, VideoDemand)]) {
        for state in &mut self.states {
            state.seen = false;
        }
        for (key, demand) in tracks {
            match self.states.binary_search_by_key(key, |state| state.key) {
                Ok(at) => {
                    if let Some(state) = self.states.get_mut(at) {
                        state.seen = true;
                    }
                }
                Err(at) => self.states.insert(at, TrackState::new(*key, demand)),
            }
        }
        self.states.retain(|state| state.seen);
        self.entries.clear();
        for (index, (key, demand)) in tracks.iter().enumerate() {
            let Ok(at) = self.states.binary_search_by_key(key, |state| state.key) else { continue };
            let Some(state) = self.states.get_mut(at) else { continue };
            state.observe(now, demand);
            let ladder = Ladder::new(state, demand);
            let screen = demand.source == VideoSource::ScreenShare;
            let recently = |at: Instant| now.saturating_duration_since(at) < SETTLE;
            self.entries.push(Entry {
                index,
                state: at,
                rank: (screen, demand.importance, demand.shown_pixels),
                ladder,
                sent: state.rung.is_some(),
                rung: state.rung.filter(|_| !ladder.is_empty()).map(|rung| ladder.position(rung)),
                held_low: false,
                recent: state.raised_at.is_some_and(recently),
            });
        }
        // By state last: states are in the order of keys.
        self.entries.sort_unstable_by_key(|entry| (Reverse(entry.rank), entry.state));
    }

    /// Gives each track its lowest rung, the most important one first, as far as they fit, and pauses the others.
    /// True when one that was sent is paused.
    fn give_lowest(&mut self, keep: u64, room: u64) -> bool {
        let (mut total, mut dropped, mut held_low) = (0, false, false);
        for entry in self.entries.iter_mut().filter(|entry| !entry.ladder.is_empty()) {
            let lowest = entry.ladder.cost(0);
            entry.held_low = held_low;
            if total + lowest <= if entry.sent { keep } else { room } {
                total += lowest;
                let rung = entry.rung.unwrap_or(0);
                entry.rung = Some(if held_low { 0 } else { rung });
            } else {
                dropped |= entry.sent;
                held_low = true;
                entry.rung = None;
            }
        }
        dropped
    }

    fn total(&self) -> u64 {
        self.entries.iter().map(Entry::cost).sum()
    }

    /// Makes the tracks fit by undoing the latest steps. True when it did.
    fn lower(&mut self, keep: u64, budget: u64) -> bool {
        let mut total = self.total();
        if total <= keep {
            return false;
        }
        let mut lowered = false;
        while total > budget
            && let Some((_, at)) = self.last_step(|_| true)
        {
            total -= self.undo_step(at);
            lowered = true;
        }
        lowered
    }

    /// Raises one track, if it fits, by as much as the path has been shown to carry, and tries the rest.
    fn raise(&mut self, now: Instant, budget: u64, room: u64) {
        self.keep_rungs();
        let (mut stepped, mut raised) = (None, None);
        // What is tried is raised before more is tried.
        let room = self.trial.map_or(room, |trial| room.min(trial.total * TRIAL_MARGIN_PERCENT / 100));
        while let Some((place, at)) = self.next_step() {
            if stepped.is_some_and(|before| before != at) || !self.make_step(place, at, room) {
                break;
            }
            stepped = Some(at);
            if self.total() <= self.proven {
                raised = stepped;
                self.keep_rungs();
            }
        }
        let total = self.total();
        if total <= self.proven {
            self.trial = None;
        } else if self.is_tried(now, total) {
            (self.proven, self.trial, raised) = (total, None, stepped);
        } else {
            self.restore_rungs();
        }
        let Some(at) = raised else { return };
        self.trusted = budget;
        if self.raised_at.replace(now).is_some_and(|before| now.saturating_duration_since(before) >= SOON) {
            self.failures = 0;
        }
        let state = self.entries.get(at).map(|entry| entry.state);
        if let Some(state) = state.and_then(|state| self.states.get_mut(state)) {
            state.raised_at = Some(now);
        }
    }

    /// Has the path carried that much for long enough? If not, the trial begins or goes on.
    fn is_tried(&mut self, now: Instant, total: u64) -> bool {
        let near = |one: u64, other: u64| one * 100 <= other * TRIAL_MARGIN_PERCENT;
        let trial = self.trial.filter(|trial| near(total, trial.total) && near(trial.total, total));
        let since = trial.map_or(now, |trial| trial.since);
        self.trial = Some(Trial { since, total });
        now.saturating_duration_since(since) >= TRIAL_LENGTH
    }

    fn keep_rungs(&mut self) {
        self.before.clear();
        self.before.extend(self.entries.iter().map(|entry| entry.rung));
    }

    fn restore_rungs(&mut self) {
        for (entry, before) in self.entries.iter_mut().zip(&self.before) {
            entry.rung = *before;
        }
    }

    /// Makes a step. Later steps are undone if it does not fit otherwise. False if it does not fit.
    fn make_step(&mut self, place: StepPlace, at: usize, room: u64) -> bool {
        let Some(step) = self.entries.get(at).map(Entry::step_up) else { return false };
        let total = self.total();
        let yields = |entry: &Entry| !entry.recent;
        let later: u64 = self.later_steps(place, yields);
        if (total + step).saturating_sub(later) > room {
            return false;
        }
        let mut excess = (total + step).saturating_sub(room);
        while excess > 0
            && let Some((_, other)) = self.last_step(yields).filter(|(other, _)| *other > place)
        {
            excess = excess.saturating_sub(self.undo_step(other));
        }
        if let Some(entry) = self.entries.get_mut(at) {
            entry.rung = entry.rung.map(|rung| rung + 1);
        }
        true
    }

    /// The first step, in order, that is not made yet.
    fn next_step(&self) -> Option<(StepPlace, usize)> {
        let places = self.entries.iter().enumerate().filter(|(_, entry)| entry.may_rise());
        places.map(|(at, entry)| ((self.group(at), entry.rung.unwrap_or(0) + 1, at), at)).min()
    }

    /// The last step, in order, that was made by a track that `may`.
    fn last_step(&self, may: impl Fn(&Entry) -> bool) -> Option<(StepPlace, usize)> {
        let raised = self.entries.iter().enumerate().filter(|(_, entry)| entry.rung > Some(0) && may(entry));
        raised.map(|(at, entry)| ((self.group(at), entry.rung.unwrap_or(0), at), at)).max()
    }

    /// What all steps after this one cost, of tracks that `may`.
    fn later_steps(&self, place: StepPlace, may: impl Fn(&Entry) -> bool) -> u64 {
        let entries = self.entries.iter().enumerate().filter(|(_, entry)| may(entry));
        let costs = entries.map(|(at, entry)| {
            let Some(rung) = entry.rung else { return 0 };
            let group = self.group(at);
            let first = (1..=rung).find(|step| (group, *step, at) > place);
            first.map_or(0, |first| entry.ladder.cost(rung).saturating_sub(entry.ladder.cost(first - 1)))
        });
        costs.sum()
    }

    /// The place of the first track that is as important as this one.
    fn group(&self, at: usize) -> usize {
        let rank = self.entries.get(at).map(|entry| entry.rank);
        self.entries.partition_point(|entry| Some(entry.rank) > rank)
    }

    /// Lowers a track by one rung. Returns what that saves.
    fn undo_step(&mut self, at: usize) -> u64 {
        let Some(entry) = self.entries.get_mut(at) else { return 0 };
        let before = entry.cost();
        entry.rung = entry.rung.map(|rung| rung.saturating_sub(1));
        before.saturating_sub(entry.cost())
    }

    fn budget_dropped(&mut self, now: Instant) {
        let Some(raised_at) = self.raised_at.take() else { return };
        if now.saturating_duration_since(raised_at) >= SOON {
            self.failures = 0;
            return;
        }
        let wait = BACK_OFF.saturating_mul(1 << self.failures.min(6)).min(MAX_BACK_OFF);
        self.failures = self.failures.saturating_add(1);
        self.wait_until = Some(now + wait);
    }

    fn finish(&mut self, tracks: &[(K, VideoDemand)], out: &mut Vec<(K, Option<Rung>)>) -> Outcome {
        out.clear();
        out.extend(tracks.iter().map(|(key, _)| (*key, None)));
        let mut outcome = Outcome::default();
        for entry in &self.entries {
            outcome.wanted += entry.ladder.cost(entry.ladder.top());
            outcome.allocated += entry.cost();
            let rung = entry.rung.and_then(|rung| entry.ladder.get(rung));
            if let Some(slot) = out.get_mut(entry.index) {
                slot.1 = rung;
            }
            if let Some(state) = self.states.get_mut(entry.state) {
                state.rung = rung;
            }
        }
        outcome.trial = self.trial.map_or(0, |trial| trial.total.saturating_sub(outcome.allocated));
        outcome
    }
}

#[cfg(test)]
mod tests;
