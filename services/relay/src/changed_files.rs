//! Files that are read again and again, so that a change needs no restart.

use std::time::Duration;

use anyhow::Result;

/// How often files are read. New content is used once it was read twice in a row: only one of several files may have
/// been replaced so far.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads forever, and calls `changed` with each new content. `known` is the content that is in use. What cannot be
/// read counts as unchanged: a missing file is about to be replaced.
pub(crate) async fn follow<T: PartialEq + Send + 'static>(
    mut known: T,
    read: impl Fn() -> Result<T> + Clone + Send + 'static,
    mut changed: impl FnMut(&T),
) {
    let mut seen = None;
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Ok(Ok(now)) = tokio::task::spawn_blocking(read.clone()).await else { continue };
        if now == known {
            seen = None;
            continue;
        }
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            continue;
        }
        changed(&now);
        known = now;
        seen = None;
    }
}
