//! A participant that keeps a room while something else is measured in it.

use anyhow::Result;
use systir_load::{Config, Progress, run_with};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Lets the participant of `host` stay in its room while `measured` runs, from the moment at which it is connected.
pub(crate) async fn with_host<T>(host: Config, measured: impl Future<Output = Result<T>>) -> Result<T> {
    let stay = CancellationToken::new();
    let (sender, mut connected) = mpsc::unbounded_channel();
    let watcher = move |progress: Progress| {
        if matches!(progress, Progress::Measuring(_)) {
            // The receiver is dropped only after a failure.
            let _ = sender.send(());
        }
    };
    let staying = run_with(Config { stay: true, ..host }, stay.clone(), watcher);
    let measuring = async {
        connected.recv().await;
        let measured = measured.await;
        stay.cancel();
        measured
    };
    let (stayed, measured) = tokio::join!(staying, measuring);
    stayed?;
    measured
}
