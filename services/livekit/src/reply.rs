//! Builds messages to the client.

use livekit_protocol::{
    self as proto, leave_request::Action, request_response as rr, signal_response::Message,
};

use super::event::LeaveReason;

pub(super) fn response(message: Message) -> Box<proto::SignalResponse> {
    Box::new(proto::SignalResponse { message: Some(message) })
}

pub(super) fn update(participants: Vec<proto::ParticipantInfo>) -> Message {
    Message::Update(proto::ParticipantUpdate { participants })
}

pub(super) fn request_response(
    request_id: u32,
    reason: rr::Reason,
    message: &str,
    of: Option<rr::Request>,
) -> Message {
    Message::RequestResponse(proto::RequestResponse {
        request_id,
        reason: reason as i32,
        message: message.to_owned(),
        request: of,
    })
}

/// Clients before protocol 13 read `can_reconnect` instead of `action`.
pub(super) fn leave(action: Action, reason: LeaveReason) -> Message {
    Message::Leave(proto::LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    })
}

pub(super) fn subscription_failed(track_sid: &str, error: proto::SubscriptionError) -> Message {
    Message::SubscriptionResponse(proto::SubscriptionResponse {
        track_sid: track_sid.to_owned(),
        err: error as i32,
    })
}

pub(super) fn subscription_permission(participant_sid: &str, track_sid: &str, allowed: bool) -> Message {
    Message::SubscriptionPermissionUpdate(proto::SubscriptionPermissionUpdate {
        participant_sid: participant_sid.to_owned(),
        track_sid: track_sid.to_owned(),
        allowed,
    })
}
