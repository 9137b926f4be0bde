//! People made of `systir-load` who come, stay while a test does something to their meeting, and
//! tell in the end what they saw and heard.

use std::time::Duration;

use anyhow::{Context as _, Result};
use systir_load::{Config, Progress, Report, run_with};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long they may take to come, and again to go.
const PATIENCE: Duration = Duration::from_secs(45);

/// People who are in a meeting.
#[derive(Debug)]
pub struct Crowd {
    run: JoinHandle<Result<Report>>,
    over: CancellationToken,
}

impl Crowd {
    /// They come; returns when all are there or were refused. Their measure begins here.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn come(config: Config) -> Result<Self> {
        Self::come_until(config, &CancellationToken::new()).await
    }

    /// They come, and go when `over` is cancelled: so that several crowds end at one time.
    ///
    /// # Errors
    /// When it takes too long until all are there.
    pub async fn come_until(config: Config, over: &CancellationToken) -> Result<Self> {
        let what = format!("{} people called {}", config.participants, config.identity_prefix);
        let over = over.child_token();
        let (told, mut there) = watch::channel(false);
        let watcher = move |progress| {
            if matches!(progress, Progress::Measuring(_) | Progress::Leaving) {
                told.send_replace(true);
            }
        };
        let config = Config { stay: true, ..config };
        let run = tokio::spawn(run_with(config, over.clone(), watcher));
        let crowd = Self { run, over };
        let _waiting = crate::scenario::waiting(&what);
        let all = tokio::time::timeout(PATIENCE, there.wait_for(|all| *all)).await;
        all.with_context(|| format!("{what} did not come within {PATIENCE:?}"))??;
        Ok(crowd)
    }

    /// They go.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn go(self) -> Result<Report> {
        self.over.cancel();
        let _waiting = crate::scenario::waiting("a crowd goes");
        tokio::time::timeout(PATIENCE, self.run).await.context("a crowd did not go")??
    }
}
