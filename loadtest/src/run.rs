//! A load test: participants join at a constant rate, are measured together, and leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, tls};
use crate::participant::{Notice, Outcome, PROGRESS_INTERVAL, Participant, Phase};
use crate::playback::PlaybackStats;
use crate::report::Report;
use crate::stats::Stats;
use crate::track_counts::{TrackCounts, TrackTotals};

/// Time limit for participants to report their results, and again to leave.
const LIMIT: Duration = Duration::from_secs(12);

/// Progress of a load test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A participant joined.
    Joined,
    /// A participant was refused.
    Refused {
        /// Identity of the participant.
        identity: String,
        /// Why it was refused.
        reason: String,
    },
    /// All participants joined or were refused; measuring begins, for this time, or until cancelled or all participants
    /// have ended.
    Measuring(Option<Duration>),
    /// Measured so far.
    Measured {
        /// For how long.
        elapsed: Duration,
        /// Which tracks arrived since measuring began.
        tracks: TrackCounts,
    },
    /// Measuring has ended; participants leave.
    Leaving,
}

/// Runs a load test to its end. Must be called within a tokio runtime.
///
/// # Errors
/// When the configuration is invalid or the file of `--ca` cannot be read.
pub async fn run(config: Config) -> anyhow::Result<Report> {
    run_with(config, CancellationToken::new(), |_| {}).await
}

/// Runs a load test until its end or until `cancel`; then participants leave as at the end, and the
/// report covers the time until then.
///
/// # Errors
/// When the configuration is invalid or the file of `--ca` cannot be read.
pub async fn run_with(
    config: Config,
    cancel: CancellationToken,
    on_progress: impl Fn(Progress),
) -> anyhow::Result<Report> {
    config.check()?;
    crate::peer::install_crypto_provider();

    let config = Arc::new(config);
    let base = config.signal_url()?;
    let tls = tls(&config)?;
    let (phase, watch_phase) = watch::channel(Phase::Joining);
    let (notices, mut received) = mpsc::channel(config.participants.saturating_mul(2));
    let mut tasks = JoinSet::new();
    let mut tally = Tally::default();
    let totals = Arc::new(TrackTotals::default());

    let mut pace =
        tokio::time::interval(Duration::from_secs_f64((1.0 / config.rate).clamp(0.000_1, 3_600.0)));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut index = 0;
    while (index < config.participants || tally.answered() < index) && !cancel.is_cancelled() {
        tokio::select! {
            _ = pace.tick(), if index < config.participants => {
                let participant = Participant {
                    config: config.clone(),
                    base: base.clone(),
                    tls: tls.clone(),
                    index,
                    publishes: index < config.publishers(),
                    phase: watch_phase.clone(),
                    notices: notices.clone(),
                    outcome: Outcome {
                        stats: Stats::new(),
                        tracks_expected: 0,
                        tracks_received: 0,
                        playback: PlaybackStats::default(),
                        absences: Vec::new(),
                        interruptions: Vec::new(),
                        node: String::new(),
                        ended: None,
                    },
                    counted: false,
                    totals: totals.clone(),
                    shown: TrackCounts::default(),
                };
                tasks.spawn(participant.run());
                index += 1;
            }
            Some(notice) = received.recv() => tally.add(notice, &on_progress),
            () = cancel.cancelled() => {}
        }
    }

    let started = Instant::now();
    let mut outcomes = Vec::new();
    phase.send_replace(Phase::Measuring);
    if !tally.joins.is_empty() {
        let length = (!config.stay).then_some(config.duration);
        on_progress(Progress::Measuring(length));
        // Without participants there is nothing to measure: their server may be gone.
        tokio::select! {
            () = measure(&cancel, length, started, &totals, &on_progress) => {}
            () = ended(&mut tasks, &mut outcomes) => {}
        }
    }
    let measured = started.elapsed();
    phase.send_replace(Phase::Counted);
    on_progress(Progress::Leaving);
    let counting = async {
        while tally.counted < tally.joins.len() {
            match received.recv().await {
                Some(notice) => tally.add(notice, &on_progress),
                None => break,
            }
        }
    };
    let _ = tokio::time::timeout(LIMIT, counting).await;
    phase.send_replace(Phase::Leave);
    if tokio::time::timeout(LIMIT, ended(&mut tasks, &mut outcomes)).await.is_err() {
        tasks.shutdown().await;
    }
    Ok(Report::new(&config, &tally.joins, tally.refused, &outcomes, measured))
}

/// Waits until all participants have ended. Safe to cancel.
async fn ended(tasks: &mut JoinSet<Outcome>, outcomes: &mut Vec<Outcome>) {
    while let Some(done) = tasks.join_next().await {
        outcomes.extend(done.ok());
    }
}

async fn measure(
    cancel: &CancellationToken,
    length: Option<Duration>,
    started: Instant,
    totals: &TrackTotals,
    on_progress: &impl Fn(Progress),
) {
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        let left = length.map(|length| length.saturating_sub(started.elapsed()));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => return,
            _ = tick.tick() => on_progress(Progress::Measured { elapsed: started.elapsed(), tracks: totals.get() }),
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
    fn answered(&self) -> usize {
        self.joins.len() + self.refused.len()
    }

    fn add(&mut self, notice: Notice, on_progress: &impl Fn(Progress)) {
        match notice {
            Notice::Joined(after) => {
                self.joins.push(after);
                on_progress(Progress::Joined);
            }
            Notice::Refused { identity, error } => {
                let reason = error.to_string();
                self.refused.push(reason.clone());
                on_progress(Progress::Refused { identity, reason });
            }
            Notice::Counted => self.counted += 1,
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
