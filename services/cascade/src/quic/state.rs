//! All that the thread of the links owns.

use super::config::QuicConfig;
use super::link_media::Trunk;
use super::pending_links::Meeting;
use super::router::Router;
use crate::event::LinkNumber;
use quinn::Endpoint;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// All that the thread owns.
pub(super) struct State {
    pub(super) config: QuicConfig,
    pub(super) endpoint: Endpoint,
    pub(super) router: Rc<Router>,
    pub(super) trunks: RefCell<FxHashMap<LinkNumber, Rc<Trunk>>>,
    pub(super) meeting: Meeting,
}
