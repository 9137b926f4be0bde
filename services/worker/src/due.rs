//! Lists of what the worker's timer visits. Work of a tick grows with what is due, not with rooms and participants.

use std::time::{Duration, Instant};

use systir_forwarding::SubscriptionId;
use systir_media_control::RoomNumber;

use super::due_queue::DueQueue;

/// How often feedback and reports that are due are written.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often RTCP reports are sent on each connection.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long each tick looks whether the first sender report of a downtrack can be written; later the periodic ones do.
pub(super) const FIRST_REPORTS_END: Duration = Duration::from_secs(5);

/// What the next ticks visit. Connections are named by their slab keys; a key that was reused is recognised by its time,
/// or visited in vain.
#[derive(Debug)]
pub(super) struct Due {
    /// Connections whose periodic RTCP reports are due.
    pub(super) reports: DueQueue<usize>,
    /// Connections with congestion control.
    pub(super) control: DueQueue<usize>,
    /// Connections of publishers that wait for feedback about packets.
    pub(super) feedback: Vec<usize>,
    /// Downtracks that had no sender report yet, and until when that is looked at.
    pub(super) first_reports: Vec<(Instant, SubscriptionId)>,
    /// Connections with readers for whom reliable messages wait.
    pub(super) readers: Vec<usize>,
    /// Rooms with slow readers on this worker.
    pub(super) slow_rooms: Vec<RoomNumber>,
    /// Connections, downtracks and rooms that ticks have visited.
    pub(super) visits: u64,
}

impl Due {
    pub(super) fn new() -> Self {
        Self {
            reports: DueQueue::new(REPORT_INTERVAL),
            control: DueQueue::new(TICK),
            feedback: Vec::new(),
            first_reports: Vec::new(),
            readers: Vec::new(),
            slow_rooms: Vec::new(),
            visits: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use systir_media_control::{IceCredentials, ParticipantKey, WorkerCommand};
    use systir_transport::Certificate;
    use tokio::sync::mpsc;

    use super::*;
    use crate::WorkerMessage;
    use crate::engine::{Engine, EngineConfig};
    use crate::links::Links;

    const ROOMS: u32 = 50;
    const PARTICIPANTS: u64 = 4;

    fn credentials(name: String) -> IceCredentials {
        IceCredentials { pwd: format!("password-of-{name}-long-enough"), ufrag: name }
    }

    #[test]
    fn ticks_visit_only_what_is_due_however_many_rooms_and_participants_there_are() {
        let start = Instant::now();
        let mut engine = Engine::new(
            EngineConfig {
                advertised: Vec::new(),
                certificate: Certificate::generate().unwrap(),
                links: Links::default(),
                seed: 1,
            },
            start,
        );
        let mut rooms = Vec::new();
        for room in 0..ROOMS {
            let (events, received) = mpsc::channel(8);
            rooms.push(received);
            let room = RoomNumber(room);
            engine.handle_message(start, WorkerMessage::OpenRoom { room, events });
            for number in 0..PARTICIPANTS {
                let key = u64::from(room.0) * PARTICIPANTS + number;
                engine.command(
                    start,
                    WorkerCommand::Join {
                        room,
                        participant: ParticipantKey(key),
                        publisher: credentials(format!("p{key}")),
                        subscriber: credentials(format!("s{key}")),
                    },
                );
            }
        }
        let connections = u64::from(ROOMS) * PARTICIPANTS * 2;
        assert_eq!(engine.egress.connections.len() as u64, connections);
        let mut visits = Vec::new();
        for tick in 1..=20 {
            let now = start + Duration::from_millis(tick * 100);
            engine.timeout(now);
            engine.finish_turn(now);
            visits.push(engine.due.visits);
        }
        assert_eq!(visits[8], 0, "no report is due in the first second");
        assert_eq!(visits[19], 2 * connections, "each connection is visited once per report");
    }
}
