//! The media half of a link that stands: its connections, its flows, its numbers.

use super::connection::Lane;
use super::flow_table::FlowTable;
use super::router::{Router, worth};
use crate::event::{DownReason, LinkNumber};
use crate::flow::{FlowId, Parity};
use crate::nack;
use crate::queue::CLASSES;
use crate::stats::LinkStats;
use bytes::Bytes;
use quinn::{ConnectionStats, VarInt};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use systir_forwarding::batch::Priority;
use tokio::sync::{mpsc, oneshot};

/// The media half of a link.
pub(super) struct Trunk {
    number: LinkNumber,
    lanes: Vec<Rc<Lane>>,
    flows: RefCell<FlowTable>,
    pub(super) router: Rc<Router>,
    stats: Rc<RefCell<LinkStats>>,
    published: Arc<Mutex<LinkStats>>,
    messages: mpsc::Sender<Bytes>,
    down: RefCell<Option<oneshot::Sender<DownReason>>>,
}

impl Trunk {
    pub(super) fn new(
        number: LinkNumber,
        parity: Parity,
        lanes: Vec<Rc<Lane>>,
        router: Rc<Router>,
        stats: Rc<RefCell<LinkStats>>,
        published: Arc<Mutex<LinkStats>>,
        messages: mpsc::Sender<Bytes>,
        down: oneshot::Sender<DownReason>,
    ) -> Self {
        Self {
            number,
            lanes,
            flows: RefCell::new(FlowTable::new(parity)),
            router,
            stats,
            published,
            messages,
            down: RefCell::new(Some(down)),
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut LinkStats)) {
        count(&mut self.stats.borrow_mut());
    }

    pub(super) fn deliver(&self, flow: FlowId, packet: &[u8]) {
        let worker = self.flows.borrow().receiver(flow);
        let delivered = worker.is_some_and(|worker| self.router.deliver(worker, self.number, flow, packet));
        self.count(|stats| {
            if delivered {
                stats.packets_in += 1;
                stats.bytes_in += packet.len() as u64;
                if worth(packet) == Priority::Control {
                    stats.asked_in += nack::asked(packet);
                }
            } else {
                stats.unroutable += 1;
            }
        });
    }

    /// A worker sends feedback: what it asks for is counted.
    pub(super) fn note_feedback(&self, packet: &[u8]) {
        self.count(|stats| stats.asked_out += nack::asked(packet));
    }

    /// A message came; the control half looks whether its room is open here.
    pub(super) fn hear(&self, message: &[u8]) {
        let taken = self.messages.try_send(Bytes::copy_from_slice(message)).is_ok();
        self.count(|stats| {
            stats.messages_in += u64::from(taken);
            stats.messages_lost += u64::from(!taken);
        });
    }

    /// Sends a message of somebody; it may be lost.
    pub(super) fn send_message(&self, now: Instant, frame: Bytes) {
        let Some(lane) = self.lanes.first() else { return };
        self.count(|stats| stats.messages_out += 1);
        lane.push_message(now, frame);
        lane.pump(now);
    }

    /// Tells the control half; only the first reason counts. The connections close.
    pub(super) fn end(&self, reason: DownReason) {
        let text = reason.to_string();
        if let Some(down) = self.down.borrow_mut().take() {
            let _ = down.send(reason);
        }
        for lane in &self.lanes {
            lane.connection.close(VarInt::from_u32(0), text.as_bytes());
        }
    }

    /// Has the control half let go of the link without saying so?
    pub(super) fn is_abandoned(&self) -> bool {
        self.down.borrow().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    pub(super) fn publish(&self, lane: &Lane, connection: &ConnectionStats, rate: u64) {
        let mut stats = self.stats.borrow_mut();
        let lanes = &self.lanes;
        stats.dropped = [0; CLASSES];
        for lane in lanes {
            for (sum, dropped) in stats.dropped.iter_mut().zip(lane.dropped()) {
                *sum += dropped;
            }
        }
        let first =
            lanes.first().is_some_and(|first| first.connection.stable_id() == lane.connection.stable_id());
        if first {
            stats.rtt = connection.path.rtt;
            stats.mtu = connection.path.current_mtu;
            stats.rate = rate.saturating_mul(lanes.len() as u64);
            stats.lost = connection.path.lost_packets;
            stats.sent = connection.path.sent_packets;
        }
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// The connection for a flow that a worker sends; feedback for the flow will go back to it.
    pub(super) fn sending(&self, flow: FlowId, worker: u8) -> Option<&Rc<Lane>> {
        self.flows.borrow_mut().sent(flow, worker);
        self.lanes.get(flow.counter() as usize % self.lanes.len().max(1))
    }

    /// Gives the connections what they have room for.
    pub(super) fn pump(&self, now: Instant) {
        for lane in &self.lanes {
            lane.pump(now);
        }
    }
}
