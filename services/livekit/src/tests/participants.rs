//! Other participants, metadata, data messages, speakers, permissions and leaving.

use super::*;

#[test]
fn older_state_of_a_participant_is_ignored() {
    let mut client = Client::active(vec![bob()]);
    client.room(shown(vec![remote("bob", 2, &[])]));
    assert!(client.outputs.is_empty());
    client.room(shown(vec![remote("bob", 4, &[("TR_AMbob", 100, Codec::Opus)])]));
    assert_eq!(names(&client.outputs), ["media:Unsubscribe", "out:Unsubscribed", "Update"]);
}

#[test]
fn revoked_permission_ends_what_it_allowed() {
    let mut client = Client::active(vec![bob()]);
    client.publish();
    client.take();
    let fewer = Grants {
        can_publish_sources: Some(vec![PublishSource::Microphone]),
        can_subscribe: false,
        identity: "mallory".into(),
        ..grants("ada")
    };
    client.room(RoomEvent::Permission(Box::new(fewer)));
    let outputs = names(&client.outputs);
    for expected in
        ["media:RemoveTrack", "out:Unpublished", "TrackUnpublished", "Update", "media:Unsubscribe"]
    {
        assert!(outputs.contains(&expected.into()), "{expected} in {outputs:?}");
    }
    assert_eq!(client.session.info().tracks.len(), 1);
    assert_eq!(client.session.info().identity, "ada");
    assert!(!client.session.info().permission.clone().unwrap().can_subscribe);
}

#[test]
fn metadata_needs_permission_and_is_limited() {
    let update = |name: &str, attributes: &[(&str, &str)]| {
        Request::UpdateMetadata(proto::UpdateParticipantMetadata {
            name: name.into(),
            attributes: attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            request_id: 5,
            ..Default::default()
        })
    };
    let mut client = Client::active(vec![]);
    client.send(update("Countess", &[("seat", ""), ("hand", "up")]));
    assert_eq!(names(&client.take()), ["out:Own", "Update", "RequestResponse"]);
    let own = client.session.info();
    assert_eq!(own.name, "Countess");
    assert!(!own.attributes.contains_key("seat") && own.attributes.contains_key("hand"));
    client.send(update("", &[("systir.node", "mine")]));
    assert_eq!(client.refusal(), Some(Reason::NotAllowed));
    client.send(update(&"x".repeat(257), &[]));
    assert_eq!(client.refusal(), Some(Reason::LimitExceeded));
    client.send(update("", &[("a", &"x".repeat(65_536))]));
    assert_eq!(client.refusal(), Some(Reason::LimitExceeded));
    let mut denied = config(vec![]);
    denied.grants.can_update_own_metadata = false;
    let mut client = Client::active_with(denied);
    client.send(update("Countess", &[]));
    assert_eq!(client.refusal(), Some(Reason::NotAllowed));
    assert_eq!(client.session.info().name, "Ada");
}

#[test]
fn data_is_forwarded_with_its_sender_or_dropped() {
    use prost::Message as _;
    let packet = proto::DataPacket { destination_identities: vec!["bob".into()], ..Default::default() };
    let event = || MediaEvent::Data { channel: DataChannel::Reliable, packet: packet.encode_to_vec().into() };
    let mut client = Client::active(vec![bob()]);
    client.media(event());
    let Some(Output::Data { packet: stamped, destinations, channel }) = client.outputs.first() else {
        panic!("no data")
    };
    assert_eq!((destinations.as_slice(), *channel), (&["bob".to_owned()][..], DataChannel::Reliable));
    assert_eq!(proto::DataPacket::decode(stamped.clone()).unwrap().participant_sid, "PA_ada");
    let mut denied = config(vec![]);
    denied.grants.can_publish_data = false;
    let mut client = Client::active_with(denied);
    client.media(event());
    assert!(client.outputs.is_empty());
    assert_eq!(client.session.counts().data_dropped, 1);
    client.room(RoomEvent::Data { channel: DataChannel::Lossy, packet: bytes::Bytes::from_static(b"x") });
    assert_eq!(names(&client.outputs), ["media:SendData"]);
}

#[test]
fn only_speakers_that_the_client_sees_are_sent() {
    let mut client = Client::active(vec![bob()]);
    let speaker = |sid: &str| proto::SpeakerInfo { sid: sid.into(), level: 0.5, active: true };
    client.room(RoomEvent::Speakers(vec![speaker("PA_bob"), speaker("PA_hidden"), speaker("PA_ada")]));
    let Some(Message::SpeakersChanged(changed)) = client.signals().pop().cloned() else {
        panic!("no speakers")
    };
    assert_eq!(changed.speakers.len(), 2);
    client.take();
    client.room(RoomEvent::Speakers(vec![speaker("PA_hidden")]));
    assert!(client.outputs.is_empty());
}

#[test]
fn hidden_participants_are_not_sent() {
    let mut hidden = bob();
    hidden.info.permission = Some(proto::ParticipantPermission { hidden: true, ..Default::default() });
    let mut client = Client::new(config(vec![hidden.clone()]));
    let Some(Message::Join(join)) = client.signals().first().copied().cloned() else { panic!("no join") };
    assert!(join.other_participants.is_empty());
    client.take();
    client.room(shown(vec![hidden]));
    assert!(client.outputs.is_empty());
}

#[test]
fn pings_are_answered_with_the_servers_time() {
    let mut client = Client::active(vec![]);
    client.advance(Duration::from_millis(1500));
    client.take();
    client.send(Request::Ping(12));
    client.send(Request::PingReq(proto::Ping { timestamp: 77, rtt: 1 }));
    assert_eq!(*client.signals()[0], Message::Pong(1_800_000_001_500));
    let pong = proto::Pong { last_ping_timestamp: 77, timestamp: 1_800_000_001_500 };
    assert_eq!(*client.signals()[1], Message::PongResp(pong));
}

#[test]
fn leaving_ends_the_session_once() {
    let mut client = Client::active(vec![bob()]);
    client.publish();
    client.take();
    client.send(Request::Leave(proto::LeaveRequest { reason: 1, ..Default::default() }));
    let outputs = names(&client.outputs);
    assert_eq!(outputs.iter().filter(|name| *name == "media:RemoveTrack").count(), 2);
    assert_eq!(&outputs[outputs.len() - 3..], ["media:Leave", "out:Own", "out:Left"]);
    assert_eq!(client.session.info().state, State::Disconnected as i32);
    assert_eq!(client.session.info().disconnect_reason, LeaveReason::ClientInitiated as i32);
    client.take();
    client.send(Request::Ping(1));
    client.room(shown(vec![bob()]));
    client.advance(Duration::from_secs(100));
    assert!(client.outputs.is_empty());
}

#[test]
fn leave_message_has_the_right_action_for_lost_media_drain_and_removal() {
    let end = |event: Box<dyn Fn(&mut Client)>| {
        let mut client = Client::active(vec![]);
        event(&mut client);
        client.leave()
    };
    let lost = end(Box::new(|client| client.media(MediaEvent::Closed(Side::Publisher))));
    assert_eq!(lost, Some((Action::Reconnect, LeaveReason::MediaFailure)));
    let drained = end(Box::new(|client| client.room(RoomEvent::Reconnect(LeaveReason::ServerShutdown))));
    assert_eq!(drained, Some((Action::Reconnect, LeaveReason::ServerShutdown)));
    let duplicate = end(Box::new(|client| client.room(RoomEvent::Remove(LeaveReason::DuplicateIdentity))));
    assert_eq!(duplicate, Some((Action::Disconnect, LeaveReason::DuplicateIdentity)));
}

#[test]
fn malformed_and_unexpected_requests_are_counted() {
    let mut client = Client::active(vec![]);
    client.session.handle(proto::SignalRequest { message: None }, client.now);
    client.offer("hello");
    assert_eq!(client.refusal(), Some(Reason::InvalidRequest));
    client.send(Request::Answer(proto::SessionDescription::default()));
    client.send(Request::SyncState(proto::SyncState::default()));
    client.send(Request::Simulate(proto::SimulateScenario::default()));
    let counts = client.session.counts();
    assert_eq!((counts.malformed, counts.ignored), (2, 3));
    assert!(!client.session.is_ended());
}

#[test]
fn quality_is_sent_once_for_each_participant() {
    let mut client = Client::active(vec![]);
    client.advance(Duration::from_secs(5));
    assert!(client.outputs.is_empty());
    client.room(shown(vec![remote("bob", 1, &[])]));
    client.take();
    client.advance(Duration::from_secs(5));
    let Some(Message::ConnectionQuality(update)) = client.signals().pop().cloned() else {
        panic!("no quality")
    };
    assert_eq!(update.updates.len(), 1);
    assert_eq!(update.updates[0].quality, proto::ConnectionQuality::Excellent as i32);
}

#[test]
fn a_dismissed_participant_is_told_why_and_does_not_return_by_itself() {
    let mut client = Client::active(vec![bob()]);
    client.room(RoomEvent::Dismiss { why: "no rule permits join".into() });
    let told = client.signals().into_iter().find_map(|message| match message {
        Message::RequestResponse(response) => Some((response.reason, response.message.clone())),
        _ => None,
    });
    assert_eq!(told, Some((Reason::NotAllowed as i32, "no rule permits join".to_owned())));
    let leave = client.signals().into_iter().find_map(|message| match message {
        Message::Leave(leave) => Some((leave.action, leave.reason)),
        _ => None,
    });
    assert_eq!(leave, Some((Action::Disconnect as i32, LeaveReason::ParticipantRemoved as i32)));
    assert!(client.session.is_ended());
}

#[test]
fn quality_that_changed_is_sent_with_the_next_update() {
    let mut client = Client::active(vec![bob()]);
    client.advance(Duration::from_secs(5));
    client.take();
    let info = |sid: &str, quality: proto::ConnectionQuality, score| proto::ConnectionQualityInfo {
        participant_sid: sid.into(),
        quality: quality as i32,
        score,
    };
    let poor = info("PA_ada", proto::ConnectionQuality::Poor, 2.0);
    client.room(RoomEvent::Quality(info("PA_ada", proto::ConnectionQuality::Good, 3.5)));
    client.room(RoomEvent::Quality(poor.clone()));
    client.room(RoomEvent::Quality(info("PA_unknown", proto::ConnectionQuality::Poor, 2.0)));
    client.advance(Duration::from_secs(5));
    let sent: Vec<_> = client
        .signals()
        .into_iter()
        .filter_map(|message| match message {
            Message::ConnectionQuality(update) => Some(update.updates.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [[poor]]);
    client.take();
    client.advance(Duration::from_secs(5));
    assert!(client.outputs.is_empty(), "once");
}
