//! Participants of `systir-load` that stay in a meeting while a test acts on the cluster.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::{Config, Progress, Report, run_with};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::process::eventually;

/// Limit for all to join, and again for all to leave.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Participants of the room `senate` who join through this gateway and publish video and audio.
#[must_use]
pub fn publishers(cluster: &Cluster, gateway: &str, prefix: &str, count: usize) -> Config {
    Config {
        url: cluster.url(gateway),
        room: "senate".to_owned(),
        identity_prefix: prefix.to_owned(),
        participants: count,
        publishers: Some(count),
        audio: true,
        ..Config::default()
    }
}

/// Participants in a meeting.
#[derive(Debug)]
pub struct Participants {
    run: JoinHandle<Result<Report>>,
    stop: CancellationToken,
}

impl Participants {
    /// Returns when each participant has joined or was refused. Measuring starts then.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn join(config: Config) -> Result<Self> {
        Self::join_until(config, &CancellationToken::new()).await
    }

    /// As [`Participants::join`]; they leave when `stop` is cancelled, so that several groups can
    /// leave at the same time.
    ///
    /// # Errors
    /// When it takes too long until all have joined.
    pub async fn join_until(config: Config, stop: &CancellationToken) -> Result<Self> {
        let what = format!("{} participants named {}-*", config.participants, config.identity_prefix);
        let stop = stop.child_token();
        let (sender, mut joined) = watch::channel(false);
        let watcher = move |progress| {
            if matches!(progress, Progress::Measuring(_) | Progress::Leaving) {
                sender.send_replace(true);
            }
        };
        let config = Config { stay: true, ..config };
        let run = tokio::spawn(run_with(config, stop.clone(), watcher));
        let participants = Self { run, stop };
        let _waiting = crate::scenario::waiting(&what);
        let all = tokio::time::timeout(TIMEOUT, joined.wait_for(|all| *all)).await;
        all.with_context(|| format!("{what} did not join within {TIMEOUT:?}"))??;
        Ok(participants)
    }

    /// They leave; returns what they measured.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn leave(self) -> Result<Report> {
        self.stop.cancel();
        let _waiting = crate::scenario::waiting("participants leave");
        tokio::time::timeout(TIMEOUT, self.run).await.context("participants did not leave")??
    }
}

/// Waits until one more participant, who joins as `load` says, publishes nothing and leaves at once, receives that many
/// tracks and expects no others.
///
/// # Errors
/// When no participant does within the limit.
pub async fn wait_until_observer_receives(load: Config, tracks: usize, limit: Duration) -> Result<()> {
    let observer = Config {
        identity_prefix: "observer".to_owned(),
        participants: 1,
        publishers: Some(0),
        duration: Duration::from_secs(1),
        no_rejoin: true,
        ..load
    };
    eventually(&format!("{tracks} tracks at {}", observer.url), limit, || async {
        let seen = systir_load::run(observer.clone()).await.ok()?;
        (seen.joined == 1 && seen.tracks_expected == tracks && seen.tracks_received == tracks).then_some(())
    })
    .await
}
