//! From the workers' rings to the links.

use super::state::State;
use crate::flow::FlowId;
use crate::frame;
use bytes::BytesMut;
use std::time::Instant;
use systir_forwarding::ThreadNotifier;
use systir_forwarding::batch::{Batch, Priority};

/// Batches taken from workers at a stretch.
const STRETCH: usize = 64;

/// The arena that frames are cut from.
pub(super) const ARENA: usize = 64 << 10;

/// Empties the workers' rings into the lanes; the number of packets without a link.
pub(super) fn drain(state: &State, notifier: &ThreadNotifier, arena: &mut BytesMut) -> u64 {
    let mut lost = 0;
    for batches in 1.. {
        let Some((worker, batch)) = state.router.take() else { break };
        let now = Instant::now();
        lost += spread(state, arena, now, worker, &batch);
        state.router.recycle(worker, batch);
        if batches == STRETCH {
            // The connections want their turn too; the rest comes right after.
            notifier.waker().wake();
            break;
        }
    }
    let now = Instant::now();
    for trunk in state.trunks.borrow().values() {
        trunk.pump(now);
    }
    lost
}

fn spread(state: &State, arena: &mut BytesMut, now: Instant, worker: u8, batch: &Batch) -> u64 {
    let mut lost = 0;
    let trunks = state.trunks.borrow();
    for (entry, packet) in batch.iter() {
        let target = trunks.get(&entry.peer).zip(FlowId::from_raw(entry.flow));
        let Some((trunk, flow)) = target else {
            lost += 1;
            continue;
        };
        let Some(lane) = trunk.sending(flow, worker) else { continue };
        if entry.priority == Priority::Control {
            trunk.note_feedback(packet);
        }
        if arena.capacity() - arena.len() < packet.len() + frame::PACKET_HEADER {
            arena.reserve(ARENA.max(packet.len() + frame::PACKET_HEADER));
        }
        frame::write_packet(arena, flow, packet);
        lane.push(now, entry.priority, arena.split().freeze());
    }
    lost
}
