//! Subscribing: offers to the client, its answers and its requests.

use super::*;

#[test]
fn join_comes_first_and_an_empty_room_gets_an_offer() {
    let client = Client::new(config(vec![]));
    assert_eq!(names(&client.outputs), ["media:Join", "Join", "out:Own", "Offer"]);
    let Some(Message::Join(join)) = client.signals().first().copied().cloned() else { panic!("no join") };
    assert!(join.subscriber_primary && join.fast_publish);
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    let server = join.server_info.unwrap();
    assert_eq!((server.version.as_str(), server.protocol, server.region.as_str()), ("1.13.7", 16, "cph"));
    let own = join.participant.unwrap();
    assert_eq!((own.state, own.sid.as_str(), own.identity.as_str()), (State::Joined as i32, "PA_ada", "ada"));
    assert_eq!(own.attributes.get("systir.node").map(String::as_str), Some("cph-1"));
    assert_eq!(own.joined_at, 1_800_000_000);
    assert!(own.permission.unwrap().can_publish);
    let offer = client.last_offer().unwrap();
    assert_eq!((offer.id, offer.r#type.as_str()), (1, "offer"));
    assert!(offer.sdp.contains("m=application") && offer.sdp.contains("a=ice-ufrag:ourSub01"));
}

#[test]
fn tracks_that_are_already_published_are_in_the_first_offer() {
    let mut client = Client::new(config(vec![bob()]));
    let offer = client.last_offer().unwrap();
    assert_eq!(offer.mid_to_track_id.get("1").map(String::as_str), Some("TR_AMbob"));
    assert!(offer.sdp.contains("a=msid:PA_bob|TR_VCbob TR_VCbob"));
    let cnames: std::collections::BTreeSet<&str> =
        offer.sdp.lines().filter_map(|line| line.split_once(" cname:")).map(|(_, name)| name).collect();
    assert_eq!(cnames.into_iter().collect::<Vec<_>>(), ["PA_bob"], "audio and video are synchronised");
    assert_eq!(
        names(&client.take()),
        ["media:Join", "Join", "out:Own", "out:Subscribed", "out:Subscribed", "Offer"]
    );
    client.answer_to(&offer, &[]);
    assert_eq!(
        names(&client.outputs),
        ["media:Remote", "media:Subscribe", "media:Subscribe", "media:Demand"]
    );
    assert!(matches!(
        client.commands()[3],
        WorkerCommand::Demand { track: TrackKey(101), demand: TrackDemand::HIGHEST, .. }
    ));
    client.take();
    client.media(MediaEvent::Connected(Side::Subscriber));
    assert_eq!(names(&client.take()), ["out:Own", "Update", "ConnectionQuality"]);
    assert_eq!(client.session.info().state, State::Active as i32);
    client.media(MediaEvent::Connected(Side::Subscriber));
    assert!(client.outputs.is_empty(), "connected once");
}

#[test]
fn track_may_be_requested_before_it_can_be_received() {
    let mut config = config(vec![]);
    config.auto_subscribe = false;
    let mut client = Client::active_with(config);
    client.room(shown(vec![RemoteParticipant { tracks: Vec::new(), ..bob() }]));
    client.take();
    client.send(Request::Subscription(proto::UpdateSubscription {
        track_sids: vec!["TR_VCbob".into()],
        subscribe: true,
        ..Default::default()
    }));
    assert!(client.outputs.is_empty(), "the client sees the track, so this is no error");
    client.room(shown(vec![bob()]));
    assert_eq!(names(&client.take()), ["Update", "out:Subscribed"]);
}

#[test]
fn new_participants_are_sent_and_then_offered_together() {
    let mut client = Client::active(vec![]);
    client.room(shown(vec![bob(), remote("eve", 1, &[("TR_AMeve", 102, Codec::Opus)])]));
    assert_eq!(names(&client.take()), ["Update", "out:Subscribed", "out:Subscribed", "out:Subscribed"]);
    assert_eq!(client.session.poll_timeout(), Some(client.now + Duration::from_millis(50)));
    client.advance(Duration::from_millis(50));
    let offer = client.last_offer().unwrap();
    assert_eq!((offer.id, offer.mid_to_track_id.len()), (2, 3));
}

#[test]
fn one_offer_at_a_time_waits_for_its_answer() {
    let mut client = Client::new(config(vec![]));
    let first = client.last_offer().unwrap();
    client.take();
    client.room(shown(vec![bob()]));
    client.advance(Duration::from_secs(1));
    assert!(client.last_offer().is_none(), "the first one is not answered");
    let stale = proto::SessionDescription { id: 7, ..first.clone() };
    client.answer_to(&stale, &[]);
    client.advance(Duration::from_secs(1));
    assert!(client.last_offer().is_none(), "an answer to another offer");
    client.answer_to(&first, &[]);
    assert!(!client.commands().iter().any(|command| matches!(command, WorkerCommand::Subscribe { .. })));
    client.advance(Duration::from_millis(50));
    assert_eq!(client.last_offer().unwrap().mid_to_track_id.len(), 2);
    client.answer(&[]);
    assert_eq!(
        client.commands().iter().filter(|one| matches!(one, WorkerCommand::Subscribe { .. })).count(),
        2
    );
}

#[test]
fn client_that_never_answers_is_told_to_reconnect() {
    let mut client = Client::new(config(vec![]));
    let due = client.session.poll_timeout().unwrap();
    assert_eq!(due, client.now + Duration::from_secs(15));
    client.advance(Duration::from_secs(15));
    assert_eq!(client.leave(), Some((Action::Reconnect, LeaveReason::ConnectionTimeout)));
    assert_eq!(client.session.poll_timeout(), None);
}

#[test]
fn client_that_never_connects_is_told_to_reconnect() {
    let mut client = Client::new(config(vec![]));
    client.answer(&[]);
    client.advance(Duration::from_secs(30));
    assert_eq!(client.leave(), Some((Action::Reconnect, LeaveReason::ConnectionTimeout)));
}

#[test]
fn codec_that_the_client_lacks_is_an_explicit_error() {
    let mut client = Client::new(config(vec![bob()]));
    client.answer(&["2"]);
    let error = client.signals().into_iter().find_map(|message| match message {
        Message::SubscriptionResponse(response) => Some((response.track_sid.clone(), response.err)),
        _ => None,
    });
    assert_eq!(error, Some(("TR_VCbob".into(), proto::SubscriptionError::SeCodecUnsupported as i32)));
    assert!(names(&client.outputs).contains(&"out:Unsubscribed".into()));
    client.take();
    client.room(shown(vec![RemoteParticipant {
        info: proto::ParticipantInfo { version: 4, ..bob().info },
        ..bob()
    }]));
    assert_eq!(names(&client.take()), ["Update"], "not tried again");
    let other = remote("bob", 5, &[("TR_AMbob", 100, Codec::Opus), ("TR_VCbob", 103, Codec::H264)]);
    client.room(shown(vec![other]));
    assert_eq!(names(&client.take()), ["Update", "out:Subscribed"], "but another codec is");
}

#[test]
fn without_auto_subscribe_the_client_chooses() {
    let mut client = Client::active_with(SessionConfig { auto_subscribe: false, ..config(vec![bob()]) });
    let subscribe = |subscribe, sid: &str| {
        Request::Subscription(proto::UpdateSubscription {
            participant_tracks: vec![proto::ParticipantTracks {
                participant_sid: "PA_bob".into(),
                track_sids: vec![sid.into()],
            }],
            subscribe,
            ..Default::default()
        })
    };
    client.send(subscribe(true, "TR_VCbob"));
    client.send(subscribe(true, "TR_VCbob"));
    assert_eq!(names(&client.take()), ["out:Subscribed"]);
    client.advance(Duration::from_millis(50));
    client.answer(&[]);
    client.take();
    client.send(subscribe(false, "TR_VCbob"));
    assert_eq!(names(&client.take()), ["media:Unsubscribe", "out:Unsubscribed"]);
    client.advance(Duration::from_millis(50));
    assert!(client.last_offer().unwrap().sdp.contains("a=inactive"));
    client.send(subscribe(true, "TR_none"));
    assert!(
        matches!(client.signals().last(), Some(Message::SubscriptionResponse(response)) if response.err == 2)
    );
}

#[test]
fn participant_who_may_not_subscribe_gets_nothing() {
    let mut denied = config(vec![bob()]);
    denied.grants.can_subscribe = false;
    let mut client = Client::new(denied);
    assert!(client.last_offer().unwrap().mid_to_track_id.is_empty());
    client.send(Request::Subscription(proto::UpdateSubscription {
        track_sids: vec!["TR_AMbob".into()],
        subscribe: true,
        ..Default::default()
    }));
    assert!(
        matches!(client.signals().last(), Some(Message::SubscriptionPermissionUpdate(update)) if !update.allowed)
    );
    assert!(!names(&client.outputs).contains(&"out:Subscribed".into()));
}

#[test]
fn settings_select_the_layer_even_before_the_answer() {
    let mut client = Client::new(config(vec![bob()]));
    let set = |settings: proto::UpdateTrackSettings| {
        Request::TrackSetting(proto::UpdateTrackSettings { track_sids: vec!["TR_VCbob".into()], ..settings })
    };
    client.send(set(proto::UpdateTrackSettings { disabled: true, ..Default::default() }));
    client.answer(&[]);
    let targets = |client: &Client| {
        client
            .commands()
            .into_iter()
            .filter_map(|command| match command {
                WorkerCommand::Demand { demand, .. } => Some(demand.layer),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(targets(&client).last(), Some(&None));
    client.take();
    client.send(set(proto::UpdateTrackSettings { quality: 1, ..Default::default() }));
    client.send(set(proto::UpdateTrackSettings { width: 320, height: 180, ..Default::default() }));
    assert_eq!(targets(&client), [Some(Layer(1)), Some(Layer(0))]);
}

#[test]
fn a_request_that_repeats_a_sid_counts_once() {
    let mut client = Client::active(vec![bob()]);
    client.take();
    let track_sids = vec!["TR_VCbob".to_owned(); 9_000];
    let quality = proto::VideoQuality::Medium as i32;
    client.send(Request::TrackSetting(proto::UpdateTrackSettings {
        track_sids,
        quality,
        ..Default::default()
    }));
    assert_eq!(names(&client.take()), ["media:Demand"]);
    let participant_tracks = vec![
        proto::ParticipantTracks {
            track_sids: vec!["TR_nobody".to_owned(); 9_000],
            ..Default::default()
        };
        2
    ];
    client.send(Request::Subscription(proto::UpdateSubscription {
        participant_tracks,
        subscribe: true,
        ..Default::default()
    }));
    assert_eq!(names(&client.take()), ["SubscriptionResponse"]);
}

#[test]
fn few_unknown_sids_of_one_request_are_answered_and_all_counted() {
    let mut client = Client::active(vec![bob()]);
    client.take();
    let track_sids = (0..5_000).map(|number| format!("TR_{number}")).chain(["TR_VCbob".to_owned()]).collect();
    client.send(Request::Subscription(proto::UpdateSubscription {
        track_sids,
        subscribe: true,
        ..Default::default()
    }));
    assert_eq!(names(&client.take()), vec!["SubscriptionResponse"; 64]);
    assert_eq!(client.session.counts().refused, 5_000);
}

#[test]
fn tracks_of_a_participant_who_leaves_are_removed() {
    let mut client = Client::active(vec![bob()]);
    client.room(RoomEvent::Left { sid: "PA_bob".into(), reason: LeaveReason::ClientInitiated });
    assert_eq!(
        names(&client.outputs),
        ["Update", "media:Unsubscribe", "out:Unsubscribed", "media:Unsubscribe", "out:Unsubscribed"]
    );
    let Some(Message::Update(update)) = client.signals().first().copied().cloned() else {
        panic!("no update")
    };
    assert_eq!(
        (update.participants[0].state, update.participants[0].version),
        (State::Disconnected as i32, 4)
    );
    client.take();
    client.room(RoomEvent::Left { sid: "PA_bob".into(), reason: LeaveReason::ClientInitiated });
    assert!(client.outputs.is_empty());
}

#[test]
fn sids_that_are_not_safe_in_sdp_are_ignored() {
    let mut injecting = remote("bob", 9, &[("TR_1\r\na=x", 100, Codec::Opus)]);
    let mut client = Client::active(vec![injecting.clone()]);
    client.advance(Duration::from_secs(1));
    assert!(client.last_offer().is_none());
    injecting.info.sid = "PA_x\r\na=y".into();
    client.room(shown(vec![injecting]));
    assert!(client.outputs.is_empty());
    let mut spaced = remote("eve", 1, &[("TR_AMeve", 7, Codec::Opus)]);
    spaced.info.tracks[0].stream = "cam\r\na=z".into();
    client.room(shown(vec![spaced]));
    client.advance(Duration::from_secs(1));
    assert!(client.last_offer().unwrap().sdp.contains("a=msid:PA_eve|TR_AMeve TR_AMeve"));
}

#[test]
fn client_is_told_which_streams_are_paused_for_lack_of_bandwidth() {
    let mut client = Client::active(vec![bob()]);
    client.media(MediaEvent::StreamState { changes: vec![(TrackKey(101), true), (TrackKey(999), true)] });
    client.media(MediaEvent::StreamState { changes: vec![(TrackKey(101), false)] });
    client.media(MediaEvent::StreamState { changes: vec![(TrackKey(999), false)] });
    let states: Vec<_> = client
        .signals()
        .into_iter()
        .filter_map(|message| match message {
            Message::StreamStateUpdate(update) => Some(update.stream_states.clone()),
            _ => None,
        })
        .collect();
    let state = |state: proto::StreamState| {
        vec![proto::StreamStateInfo {
            participant_sid: "PA_bob".into(),
            track_sid: "TR_VCbob".into(),
            state: state as i32,
        }]
    };
    assert_eq!(states, [state(proto::StreamState::Paused), state(proto::StreamState::Active)]);
}

#[test]
fn the_worker_learns_what_a_track_captures() {
    let mut alice = remote("alice", 1, &[("TR_VCalice", 1, Codec::Vp8), ("TR_VSalice", 2, Codec::Vp8)]);
    alice.info.tracks[1].source = proto::TrackSource::ScreenShare as i32;
    let mut client = Client::new(config(vec![alice, bob()]));
    client.answer(&[]);
    let sources: BTreeMap<u64, CaptureSource> = client
        .commands()
        .into_iter()
        .filter_map(|command| match command {
            WorkerCommand::Subscribe { downtrack, .. } => Some((downtrack.track.0, downtrack.source)),
            _ => None,
        })
        .collect();
    let expected = [
        (1, CaptureSource::Camera),
        (2, CaptureSource::ScreenShare),
        (100, CaptureSource::Microphone),
        (101, CaptureSource::Camera),
    ];
    assert_eq!(sources, expected.into());
}
