//! The state of the QUIC thread.

use super::config::QuicConfig;
use super::link_media::LinkMedia;
use super::pending_links::PendingLinks;
use super::worker_rings::WorkerRings;
use crate::event::LinkNumber;
use quinn::Endpoint;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// The state of the QUIC thread.
pub(super) struct QuicState {
    pub(super) config: QuicConfig,
    pub(super) endpoint: Endpoint,
    pub(super) workers: Rc<WorkerRings>,
    pub(super) links: RefCell<FxHashMap<LinkNumber, Rc<LinkMedia>>>,
    pub(super) pending: PendingLinks,
}
