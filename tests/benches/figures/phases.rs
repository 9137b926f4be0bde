//! When a load is measured.

use systir_load::Progress;
use tokio::sync::mpsc;

/// A watcher for [`systir_load::run_with`], and what it sends: false when the measurement begins, true when it ends.
pub(crate) fn phases() -> (impl Fn(Progress), mpsc::UnboundedReceiver<bool>) {
    let (sender, phases) = mpsc::unbounded_channel();
    let watcher = move |progress: Progress| {
        // The receiver is dropped only after a failure.
        let _ = match progress {
            Progress::Measuring(_) => sender.send(false),
            Progress::Leaving => sender.send(true),
            _ => Ok(()),
        };
    };
    (watcher, phases)
}
