//! Forwards packets from the workers' rings to the links.

use super::state::QuicState;
use crate::flow::FlowId;
use crate::frame;
use bytes::BytesMut;
use std::time::Instant;
use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::{Batch, Priority};

/// Batches taken from workers before the connections get their turn.
const MAX_BATCHES: usize = 64;

/// Bytes of the buffer that frames are split off from.
pub(super) const ARENA: usize = 64 << 10;

/// Moves the workers' batches to the send queues. Returns how many packets named no link.
pub(super) fn forward_batches(state: &QuicState, notifier: &ThreadNotifier, arena: &mut BytesMut) -> u64 {
    for media in state.links.borrow().values() {
        media.refresh_open_flows();
    }
    let mut lost = 0;
    for batches in 1.. {
        let Some((worker, batch)) = state.workers.take() else { break };
        let now = Instant::now();
        lost += forward_batch(state, arena, now, worker, &batch);
        state.workers.recycle(worker, batch);
        if batches == MAX_BATCHES {
            // Run again after the connections had their turn.
            notifier.waker().wake();
            break;
        }
    }
    let now = Instant::now();
    for media in state.links.borrow().values() {
        media.send_queued(now);
    }
    lost
}

fn forward_batch(state: &QuicState, arena: &mut BytesMut, now: Instant, worker: u8, batch: &Batch) -> u64 {
    let mut lost = 0;
    let links = state.links.borrow();
    for (entry, packet) in batch.iter() {
        let target = links.get(&entry.peer).zip(FlowId::from_raw(entry.flow));
        let Some((media, flow)) = target else {
            lost += 1;
            continue;
        };
        let Some(connection) = media.connection_for(flow, worker) else { continue };
        if entry.priority == Priority::Control {
            media.count_sent_nacks(packet);
        }
        if arena.capacity() - arena.len() < packet.len() + frame::PACKET_HEADER {
            arena.reserve(ARENA.max(packet.len() + frame::PACKET_HEADER));
        }
        frame::write_packet(arena, flow, packet);
        connection.push(now, entry.priority, arena.split().freeze());
    }
    lost
}
