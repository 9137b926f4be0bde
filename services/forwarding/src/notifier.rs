//! How workers wake the thread of the links: one bell for all rings that end there.

use std::sync::Arc;
use std::task::{Wake, Waker};
use tokio::sync::Notify;

/// Rung by workers, awaited by the thread of the links. A ring that nobody awaits is kept, so no
/// batch is overlooked; many rings count as one.
#[derive(Debug, Clone, Default)]
pub struct Doorbell(Arc<Bell>);

#[derive(Debug, Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl Doorbell {
    /// A bell.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For [`systir_forwarding::batch::batch_ring`] of each ring that leads to the links.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    pub(crate) async fn rung(&self) {
        self.0.0.notified().await;
    }
}
