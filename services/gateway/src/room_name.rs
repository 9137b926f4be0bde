//! The room's name in messages to the client. Sessions do not know it: a media node may hold no room key.

use livekit_protocol::SignalResponse;
use livekit_protocol::signal_response::Message;

/// Writes the room's name where a message describes the room.
pub(crate) fn fill(response: &mut SignalResponse, name: &str) {
    let room = match &mut response.message {
        Some(Message::Join(join)) => join.room.as_mut(),
        Some(Message::RoomUpdate(update)) => update.room.as_mut(),
        _ => None,
    };
    if let Some(room) = room {
        name.clone_into(&mut room.name);
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{JoinResponse, LeaveRequest, Room, RoomUpdate};

    use super::*;

    #[test]
    fn each_description_of_the_room_gets_its_name() {
        let room = || Some(Room { sid: "RM_1".to_owned(), ..Room::default() });
        let messages = [
            Message::Join(JoinResponse { room: room(), ..JoinResponse::default() }),
            Message::RoomUpdate(RoomUpdate { room: room() }),
        ];
        for message in messages {
            let mut response = SignalResponse { message: Some(message) };
            fill(&mut response, "lecture");
            let text = format!("{response:?}");
            assert!(text.contains("name: \"lecture\"") && text.contains("RM_1"), "{text}");
        }
        let other = SignalResponse { message: Some(Message::Leave(LeaveRequest::default())) };
        let mut filled = other.clone();
        fill(&mut filled, "lecture");
        assert_eq!(filled, other);
    }
}
