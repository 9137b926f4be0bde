//! The run: participants join at a steady rate, everyone is measured together, everyone leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, tls};
use crate::participant::{Note, Outcome, Participant, Phase};
use crate::playback::Experience;
use crate::report::Report;
use crate::stats::Stats;

/// How long participants may take to fix their counters, and again to leave.
const LIMIT: Duration = Duration::from_secs(12);

/// What a watcher is told while the test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// One more has joined.
    Joined,
    /// One more was refused.
    Refused {
        /// Who.
        identity: String,
        /// Why.
        reason: String,
    },
    /// Nobody is joining any more; measuring begins. None means until it is cancelled.
    Measuring(Option<Duration>),
    /// Measuring goes on for so long already.
    Measured(Duration),
    /// Everyone leaves.
    Leaving,
}

/// Runs a load test to its end. Must be called within a tokio runtime.
pub async fn run(config: Config) -> anyhow::Result<Report> {
    run_with(config, CancellationToken::new(), |_| {}).await
}

/// Runs a load test until its end or until it is cancelled, which ends it early but properly: the
/// report is of what happened until then.
pub async fn run_with(
    config: Config,
    cancel: CancellationToken,
    watcher: impl Fn(Progress),
) -> anyhow::Result<Report> {
    config.check()?;
    crate::peer::choose_cryptography();

    let config = Arc::new(config);
    let base = config.signal_url()?;
    let tls = tls(&config)?;
    let (phase, watch_phase) = watch::channel(Phase::Joining);
    let (notes, mut told) = mpsc::channel(config.participants.saturating_mul(2));
    let mut tasks = JoinSet::new();
    let mut tally = Tally::default();

    let mut pace =
        tokio::time::interval(Duration::from_secs_f64((1.0 / config.rate).clamp(0.000_1, 3_600.0)));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut index = 0;
    while (index < config.participants || tally.settled() < index) && !cancel.is_cancelled() {
        tokio::select! {
            _ = pace.tick(), if index < config.participants => {
                let participant = Participant {
                    config: config.clone(),
                    base: base.clone(),
                    tls: tls.clone(),
                    index,
                    publishes: index < config.publishers(),
                    phase: watch_phase.clone(),
                    notes: notes.clone(),
                    outcome: Outcome {
                        stats: Stats::new(),
                        tracks_expected: 0,
                        tracks_heard: 0,
                        experience: Experience::default(),
                        absences: Vec::new(),
                        interruptions: Vec::new(),
                        node: String::new(),
                        ended: None,
                    },
                    counted: false,
                };
                tasks.spawn(participant.run());
                index += 1;
            }
            Some(note) = told.recv() => tally.note(note, &watcher),
            () = cancel.cancelled() => {}
        }
    }

    let begun = Instant::now();
    phase.send_replace(Phase::Measuring);
    if !tally.joins.is_empty() {
        let length = (!config.stay).then_some(config.duration);
        watcher(Progress::Measuring(length));
        measure(&cancel, length, begun, &watcher).await;
    }
    let measured = begun.elapsed();
    phase.send_replace(Phase::Over);
    watcher(Progress::Leaving);
    let counting = async {
        while tally.counted < tally.joins.len() {
            match told.recv().await {
                Some(note) => tally.note(note, &watcher),
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(LIMIT, counting).await;
    phase.send_replace(Phase::Leave);
    let mut outcomes = Vec::new();
    let leaving = async {
        while let Some(done) = tasks.join_next().await {
            outcomes.extend(done.ok());
        }
    };
    if tokio::time::timeout(LIMIT, leaving).await.is_err() {
        tasks.shutdown().await;
    }
    Ok(Report::new(&config, &tally.joins, tally.refused, &outcomes, measured))
}

async fn measure(
    cancel: &CancellationToken,
    length: Option<Duration>,
    begun: Instant,
    watcher: &impl Fn(Progress),
) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        let left = length.map(|length| length.saturating_sub(begun.elapsed()));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => return,
            _ = tick.tick() => watcher(Progress::Measured(begun.elapsed())),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    joins: Vec<Duration>,
    refused: Vec<String>,
    counted: usize,
}

impl Tally {
    fn settled(&self) -> usize {
        self.joins.len() + self.refused.len()
    }

    fn note(&mut self, note: Note, watcher: &impl Fn(Progress)) {
        match note {
            Note::Joined(after) => {
                self.joins.push(after);
                watcher(Progress::Joined);
            }
            Note::Refused { identity, error } => {
                let reason = error.to_string();
                self.refused.push(reason.clone());
                watcher(Progress::Refused { identity, reason });
            }
            Note::Counted => self.counted += 1,
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
