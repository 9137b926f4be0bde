//! A waker that exists before its worker: rings that lead to a worker need it when they are made.

use std::sync::Arc;
use std::task::{Wake, Waker};

use tokio::sync::Notify;

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// The worker's end: tells when somebody woke it.
pub struct WorkerWaker(Arc<Bell>);

impl std::fmt::Debug for WorkerWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkerWaker")
    }
}

impl WorkerWaker {
    /// A waker for the rings that lead to a worker (`systir_forwarding::batch::batch_ring`), and the end
    /// that goes into that worker's configuration.
    #[must_use]
    pub fn new() -> (Waker, Self) {
        let bell = Arc::new(Bell(Notify::new()));
        (Waker::from(Arc::clone(&bell)), Self(bell))
    }

    /// Returns once the waker was used since the last return.
    pub(super) async fn woken(&self) {
        self.0.0.notified().await;
    }
}
