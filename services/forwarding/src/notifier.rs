//! Wakes a thread that waits for batches. A ring needs the waker of its receiving thread when it is made,
//! which may be before the thread starts.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// Notified by any number of threads, awaited by one task. A notification that is not awaited yet is kept;
/// several count as one.
#[derive(Debug, Clone, Default)]
pub struct ThreadNotifier(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    notified: AtomicBool,
    waiting: AtomicWaker,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notified.store(true, Ordering::Release);
        self.waiting.wake();
    }
}

impl ThreadNotifier {
    /// A notifier without a pending notification.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A waker that notifies; for [`crate::batch::batch_ring`].
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Waits for a notification since the last return. Only one task may wait at a time.
    pub async fn notified(&self) {
        poll_fn(|context| {
            // Register first, so that a notification between the two lines is not missed.
            self.0.waiting.register(context.waker());
            if self.0.notified.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll(notifier: &ThreadNotifier) -> Poll<()> {
        pin!(notifier.notified()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_notification_is_kept_until_it_is_awaited_and_counts_once() {
        let notifier = ThreadNotifier::new();
        assert!(poll(&notifier).is_pending());
        notifier.waker().wake_by_ref();
        notifier.waker().wake();
        assert!(poll(&notifier).is_ready());
        assert!(poll(&notifier).is_pending());
    }

    #[test]
    fn the_waiting_task_is_woken() {
        let (notifier, task) = (ThreadNotifier::new(), ThreadNotifier::new());
        let waker = task.waker();
        let mut context = Context::from_waker(&waker);
        let mut waiting = pin!(notifier.notified());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        notifier.waker().wake();
        assert!(poll(&task).is_ready(), "the waiting task was not woken");
        assert!(waiting.poll(&mut context).is_ready());
    }
}
