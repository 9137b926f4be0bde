//! From the workers' rings to the links.

use super::state::QuicState;
use crate::flow::FlowId;
use crate::frame;
use bytes::BytesMut;
use std::time::Instant;
use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::{Batch, Priority};

/// Batches taken from workers at a stretch.
const MAX_BATCHES: usize = 64;

/// The arena that frames are cut from.
pub(super) const ARENA: usize = 64 << 10;

/// Empties the workers' rings into the lanes; the number of packets without a link.
pub(super) fn forward_batches(state: &QuicState, notifier: &ThreadNotifier, arena: &mut BytesMut) -> u64 {
    let mut lost = 0;
    for batches in 1.. {
        let Some((worker, batch)) = state.workers.take() else { break };
        let now = Instant::now();
        lost += forward_batch(state, arena, now, worker, &batch);
        state.workers.recycle(worker, batch);
        if batches == MAX_BATCHES {
            // The connections want their turn too; the rest comes right after.
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
