//! The media of one link: its connections, flows and counters.

use super::connection::LinkConnection;
use super::flow_table::FlowTable;
use super::worker_rings::{WorkerRings, priority_of};
use crate::event::{DownReason, LinkNumber};
use crate::flow::FlowId;
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

/// The media of one link.
pub(super) struct LinkMedia {
    number: LinkNumber,
    connections: Vec<Rc<LinkConnection>>,
    flows: RefCell<FlowTable>,
    pub(super) workers: Rc<WorkerRings>,
    stats: Rc<RefCell<LinkStats>>,
    published: Arc<Mutex<LinkStats>>,
    data_messages: mpsc::Sender<Bytes>,
    down: RefCell<Option<oneshot::Sender<DownReason>>>,
}

impl LinkMedia {
    pub(super) fn new(
        number: LinkNumber,
        flows: FlowTable,
        connections: Vec<Rc<LinkConnection>>,
        workers: Rc<WorkerRings>,
        stats: Rc<RefCell<LinkStats>>,
        published: Arc<Mutex<LinkStats>>,
        data_messages: mpsc::Sender<Bytes>,
        down: oneshot::Sender<DownReason>,
    ) -> Self {
        Self {
            number,
            connections,
            flows: RefCell::new(flows),
            workers,
            stats,
            published,
            data_messages,
            down: RefCell::new(Some(down)),
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut LinkStats)) {
        count(&mut self.stats.borrow_mut());
    }

    /// Passes an arriving packet to its worker. One of a flow that nobody here subscribed to is dropped.
    pub(super) fn deliver(&self, flow: FlowId, packet: &[u8]) {
        let worker = self.flows.borrow_mut().receiver(flow);
        let delivered = worker.is_some_and(|worker| self.workers.push(worker, self.number, flow, packet));
        self.count(|stats| {
            if delivered {
                stats.packets_in += 1;
                stats.bytes_in += packet.len() as u64;
                if priority_of(packet) == Priority::Control {
                    stats.nacked_in += nack::requested_packets(packet);
                }
            } else {
                stats.unroutable += 1;
            }
        });
    }

    /// Counts the packets that a worker's feedback requests.
    pub(super) fn count_sent_nacks(&self, packet: &[u8]) {
        self.count(|stats| stats.nacked_out += nack::requested_packets(packet));
    }

    /// Passes an arriving data message to the session, which checks that its room is open.
    pub(super) fn receive_data_message(&self, message: &[u8]) {
        let taken = self.data_messages.try_send(Bytes::copy_from_slice(message)).is_ok();
        self.count(|stats| {
            stats.data_messages_in += u64::from(taken);
            stats.data_messages_lost += u64::from(!taken);
        });
    }

    /// Queues the frame of a lossy data message.
    pub(super) fn send_data_message(&self, now: Instant, frame: Bytes) {
        let Some(connection) = self.connections.first() else { return };
        self.count(|stats| stats.data_messages_out += 1);
        connection.push_data_message(now, frame);
        connection.send_queued(now);
    }

    /// Closes the connections and reports the reason to the session. Only the first reason counts.
    pub(super) fn end(&self, reason: DownReason) {
        let text = reason.to_string();
        if let Some(down) = self.down.borrow_mut().take() {
            let _ = down.send(reason);
        }
        for connection in &self.connections {
            connection.quic.close(VarInt::from_u32(0), text.as_bytes());
        }
    }

    /// Has the session ended without closing the link here?
    pub(super) fn is_abandoned(&self) -> bool {
        self.down.borrow().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Publishes the counters, and measurements of the first connection.
    pub(super) fn publish(&self, connection: &LinkConnection, measured: &ConnectionStats, rate: u64) {
        let mut stats = self.stats.borrow_mut();
        let connections = &self.connections;
        stats.dropped = [0; CLASSES];
        for connection in connections {
            for (sum, dropped) in stats.dropped.iter_mut().zip(connection.dropped()) {
                *sum += dropped;
            }
        }
        let first =
            connections.first().is_some_and(|first| first.quic.stable_id() == connection.quic.stable_id());
        if first {
            stats.rtt = measured.path.rtt;
            stats.mtu = measured.path.current_mtu;
            stats.rate = rate.saturating_mul(connections.len() as u64);
            stats.lost = measured.path.lost_packets;
            stats.sent = measured.path.sent_packets;
        }
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// Hands the packets of arriving datagrams over to the workers.
    pub(super) fn flush_to_workers(&self) {
        let dropped = self.workers.flush();
        if dropped > 0 {
            self.count(|stats| stats.over_share += dropped);
        }
    }

    /// Takes over which flows are open. Called before the workers' packets are sent, and before arriving ones are read.
    pub(super) fn refresh_open_flows(&self) {
        self.flows.borrow_mut().refresh();
    }

    /// The connection for a flow that a worker sends. Feedback for the flow will go to that worker. None when the peer chose
    /// the flow and no open room has it.
    pub(super) fn connection_for(&self, flow: FlowId, worker: u8) -> Option<&Rc<LinkConnection>> {
        let mut flows = self.flows.borrow_mut();
        if !flows.may_send(flow) {
            self.count(|stats| stats.closed_flow_packets += 1);
            return None;
        }
        flows.sent(flow, worker);
        self.connections.get(flow.counter() as usize % self.connections.len().max(1))
    }

    /// Hands queued frames of all connections to quinn.
    pub(super) fn send_queued(&self, now: Instant) {
        for connection in &self.connections {
            connection.send_queued(now);
        }
    }
}
