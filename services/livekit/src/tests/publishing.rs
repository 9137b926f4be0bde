//! Publishing: announced tracks, their m-lines and codecs.

use super::*;

#[test]
fn publishing_follows_the_protocols_order() {
    let mut client = Client::active(vec![]);
    let before = client.session.info().version;
    let (audio, video) = client.publish();
    assert!(audio.starts_with("TR_AM") && video.starts_with("TR_VC"));
    assert_eq!(
        names(&client.outputs),
        [
            "TrackPublished",
            "TrackPublished",
            "out:Published",
            "media:AddTrack",
            "out:Published",
            "media:AddTrack",
            "media:Receive",
            "media:Remote",
            "Answer",
            "out:Own",
        ]
    );
    let Some(Message::Answer(answer)) = client.signals().pop().cloned() else { panic!("no answer") };
    assert_eq!((answer.id, answer.r#type.as_str()), (9, "answer"));
    assert!(answer.sdp.contains("a=ice-ufrag:ourPub01"));
    let WorkerCommand::AddTrack { spec, source, publisher, .. } = client.commands()[1] else {
        panic!("no track")
    };
    assert_eq!(&**publisher, "PA_ada", "the cname in the descriptions of subscribers");
    assert_eq!((spec.codec, spec.layers), (Codec::Vp8, LayerSet(0b111)));
    assert_eq!(*source, TrackSource::Participant(ParticipantKey(1)));
    let own = client.session.info();
    assert!(own.is_publisher && own.version > before);
    assert_eq!(
        own.tracks.iter().map(|track| track.mime_type.as_str()).collect::<Vec<_>>(),
        ["audio/opus", "video/VP8"]
    );
    assert_eq!(own.tracks[1].mid, "2");
}

#[test]
fn track_that_is_announced_twice_is_one_track() {
    let mut client = Client::active(vec![]);
    let once = client.announce("mic", proto::TrackType::Audio, "opus");
    assert_eq!(client.announce("mic", proto::TrackType::Audio, "opus"), once);
}

#[test]
fn track_with_another_cid_is_bound_by_its_kind() {
    let mut client = Client::active(vec![]);
    client.announce("another-name", proto::TrackType::Video, "h264");
    client.offer(CHROME);
    let own = client.session.info();
    assert_eq!((own.tracks.len(), own.tracks[0].mid.as_str()), (1, "2"));
    assert_eq!(own.tracks[0].mime_type, "video/H264");
}

#[test]
fn track_that_is_never_offered_is_removed() {
    let mut client = Client::active(vec![]);
    client.announce("mic", proto::TrackType::Audio, "opus");
    client.advance(Duration::from_secs(60));
    client.take();
    client.offer(CHROME);
    assert!(client.session.info().tracks.is_empty());
}

#[test]
fn muting_reaches_worker_and_room() {
    let mut client = Client::active(vec![]);
    let (audio, _) = client.publish();
    client.take();
    client.send(Request::Mute(proto::MuteTrackRequest { sid: audio.clone(), muted: true }));
    assert_eq!(names(&client.take()), ["media:Mute", "out:Own"]);
    assert!(client.session.info().tracks[0].muted);
    client.send(Request::Mute(proto::MuteTrackRequest { sid: audio.clone(), muted: true }));
    assert!(client.outputs.is_empty(), "nothing changed");
    client.room(RoomEvent::Mute { track_sid: audio, muted: false });
    assert_eq!(names(&client.take()), ["media:Mute", "out:Own", "Mute"]);
    client.send(Request::Mute(proto::MuteTrackRequest { sid: "TR_none".into(), muted: true }));
    assert_eq!(client.refusal(), Some(Reason::NotFound));
}

#[test]
fn line_that_goes_inactive_unpublishes() {
    let mut client = Client::active(vec![]);
    client.publish();
    client.take();
    let (before, video) = CHROME.split_once("m=video").unwrap();
    client.offer(&format!("{before}m=video{}", video.replace("a=sendonly", "a=inactive")));
    assert_eq!(
        names(&client.outputs),
        ["media:RemoveTrack", "out:Unpublished", "media:Receive", "Answer", "out:Own"]
    );
    assert_eq!(client.session.info().tracks.len(), 1);
    client.take();
    let (audio, _) = CHROME
        .replace("m=audio 9", "m=audio 0")
        .split_once("m=video")
        .map(|(a, _)| (a.to_owned(), ()))
        .unwrap();
    client.offer(&audio.replace("BUNDLE 0 1 2", "BUNDLE 0"));
    assert!(client.session.info().tracks.is_empty() && !client.session.info().is_publisher);
}

#[test]
fn same_line_carries_a_second_track_after_the_first() {
    let mut client = Client::active(vec![]);
    let (_, first) = client.publish();
    let (before, video) = CHROME.split_once("m=video").unwrap();
    client.offer(&format!("{before}m=video{}", video.replace("a=sendonly", "a=inactive")));
    let second = client.announce("0a9b8c7d-cam", proto::TrackType::Video, "vp9");
    client.offer(CHROME);
    assert_ne!(first, second);
    let own = client.session.info();
    assert_eq!((own.tracks[1].sid.clone(), own.tracks[1].mime_type.as_str()), (second, "video/VP9"));
}

#[test]
fn track_that_is_announced_after_its_line_was_offered_is_bound_to_it() {
    let mut client = Client::active(vec![]);
    client.offer(CHROME);
    let Some(Message::Answer(answer)) = client.signals().pop().cloned() else { panic!("no answer") };
    assert_eq!(answer.sdp.matches("a=recvonly").count(), 2, "the client may send at once");
    client.take();
    client.announce("another-cid", proto::TrackType::Video, "vp8");
    assert_eq!(names(&client.take()), ["TrackPublished"], "another track is not on that line");
    client.announce("0a9b8c7d-cam", proto::TrackType::Video, "");
    assert_eq!(
        names(&client.outputs),
        ["TrackPublished", "out:Published", "media:AddTrack", "media:Receive", "out:Own"]
    );
    let WorkerCommand::Receive { sections, .. } = client.commands()[1] else { panic!("no sections") };
    let bound: Vec<bool> = sections.iter().map(|section| section.track.is_some()).collect();
    assert_eq!(bound, [false, true]);
    assert_eq!(client.session.info().tracks[0].mid, "2");
}

#[test]
fn lines_of_a_participant_who_may_not_publish_are_inactive() {
    let mut config = config(vec![]);
    config.grants.can_publish = false;
    let mut client = Client::active_with(config);
    client.offer(CHROME);
    let Some(Message::Answer(answer)) = client.signals().pop().cloned() else { panic!("no answer") };
    assert_eq!(answer.sdp.matches("a=recvonly").count(), 0);
}

#[test]
fn line_that_carries_another_track_unpublishes_the_first() {
    let mut client = Client::active(vec![]);
    let (_, first) = client.publish();
    let second = client.announce("screen", proto::TrackType::Video, "vp8");
    client.take();
    client.offer(&CHROME.replace("0a9b8c7d-cam", "screen"));
    assert!(names(&client.outputs).contains(&"out:Unpublished".to_owned()));
    let own = client.session.info();
    let sids: Vec<&str> = own.tracks.iter().map(|track| track.sid.as_str()).collect();
    assert!(sids.contains(&second.as_str()) && !sids.contains(&first.as_str()), "{sids:?}");
}

#[test]
fn layers_have_the_rids_of_the_line() {
    let mut client = Client::active(vec![]);
    client.send(Request::AddTrack(proto::AddTrackRequest {
        cid: "0a9b8c7d-cam".into(),
        r#type: proto::TrackType::Video as i32,
        source: proto::TrackSource::Camera as i32,
        width: 1280,
        height: 720,
        layers: [180, 720]
            .map(|height| proto::VideoLayer { width: height * 16 / 9, height, ..Default::default() })
            .to_vec(),
        ..Default::default()
    }));
    let without = CHROME.replace("a=rid:h send\r\n", "").replace("send q;h;f", "send q;f");
    client.offer(&without);
    let own = client.session.info();
    #[allow(deprecated)]
    let layers: Vec<_> =
        own.tracks[0].layers.iter().map(|one| (one.rid.as_str(), one.spatial_layer)).collect();
    assert_eq!(layers, [("q", 0), ("f", 2)]);
}

#[test]
fn restricting_subscriptions_is_refused() {
    let mut client = Client::active(vec![]);
    let all = proto::SubscriptionPermission { all_participants: true, ..Default::default() };
    client.send(Request::SubscriptionPermission(all));
    assert!(client.outputs.is_empty());
    client.send(Request::SubscriptionPermission(proto::SubscriptionPermission::default()));
    assert_eq!(client.refusal(), Some(Reason::UnsupportedType));
}

#[test]
fn another_codec_than_assumed_is_another_track_with_the_same_sid() {
    let mut client = Client::active(vec![]);
    client.announce("7d2b1c5e-mic", proto::TrackType::Audio, "");
    let sid = client.announce("0a9b8c7d-cam", proto::TrackType::Video, "");
    client.offer(CHROME);
    let Some(WorkerCommand::AddTrack { track: old, .. }) =
        client.commands().into_iter().rfind(|c| matches!(c, WorkerCommand::AddTrack { .. }))
    else {
        panic!("no track")
    };
    let old = *old;
    client.take();
    client.media(MediaEvent::Codec { track: old, codec: Codec::H264 });
    assert_eq!(
        names(&client.outputs),
        [
            "media:RemoveTrack",
            "out:Unpublished",
            "out:Published",
            "media:AddTrack",
            "media:Receive",
            "out:Own"
        ]
    );
    let track = &client.session.info().tracks[1];
    assert_eq!((track.sid.clone(), track.mime_type.as_str()), (sid, "video/H264"));
    client.take();
    client.media(MediaEvent::Codec { track: old, codec: Codec::Vp8 });
    assert!(client.outputs.is_empty(), "the old track is gone");
}

#[test]
fn publishing_without_permission_is_refused() {
    let mut denied = config(vec![]);
    denied.grants.can_publish_sources = Some(vec![PublishSource::Microphone]);
    let mut client = Client::active_with(denied);
    assert_eq!(client.announce("cam", proto::TrackType::Video, "vp8"), "");
    assert_eq!(client.refusal(), Some(Reason::NotAllowed));
    client.offer(CHROME);
    assert!(!client.commands().iter().any(|command| matches!(command, WorkerCommand::AddTrack { .. })));
    assert!(client.announce("mic", proto::TrackType::Audio, "opus").starts_with("TR_"));
}

#[test]
fn data_tracks_and_second_codecs_are_unsupported() {
    let mut client = Client::active(vec![]);
    client.send(Request::AddTrack(proto::AddTrackRequest { r#type: 2, ..Default::default() }));
    assert_eq!(client.refusal(), Some(Reason::UnsupportedType));
    client.take();
    client.send(Request::PublishDataTrackRequest(proto::PublishDataTrackRequest::default()));
    assert_eq!(client.refusal(), Some(Reason::UnsupportedType));
}

#[test]
fn tracks_are_limited() {
    let mut few = config(vec![]);
    few.limits.tracks = 2;
    let mut client = Client::active_with(few);
    client.publish();
    client.take();
    assert_eq!(client.announce("one-more", proto::TrackType::Audio, "opus"), "");
    assert_eq!(client.refusal(), Some(Reason::LimitExceeded));
}

#[test]
fn a_track_with_a_cid_that_is_too_long_is_refused() {
    let mut client = Client::active(vec![]);
    let cid = "x".repeat(1_024);
    assert_ne!(client.announce(&cid, proto::TrackType::Audio, ""), "");
    assert_eq!(client.announce(&format!("{cid}x"), proto::TrackType::Audio, ""), "");
    assert_eq!(client.refusal(), Some(Reason::LimitExceeded));
}

#[test]
fn tracks_that_were_announced_and_never_offered_do_not_use_up_the_limit() {
    let mut client = Client::active(vec![]);
    for n in 0..200 {
        assert_ne!(client.announce(&format!("screen{n}"), proto::TrackType::Video, "vp8"), "");
    }
    let (_, camera) = client.publish();
    assert!(client.session.info().tracks.iter().any(|track| track.sid == camera));
}

#[test]
fn client_whose_offer_became_too_long_reconnects() {
    let mut client = Client::active(vec![]);
    client.publish();
    client.take();
    let camera = CHROME.find("m=video").map(|at| &CHROME[at..]).unwrap();
    let toggled = |times: usize| {
        let line =
            |n: usize| camera.replace("a=mid:2", &format!("a=mid:{n}")).replace("a=sendonly", "a=inactive");
        let more: String = (3..times).map(line).collect();
        format!("{CHROME}{more}")
    };
    client.offer(&toggled(60));
    assert_eq!(client.leave(), None);
    assert_eq!(client.refusal(), None);
    client.offer(&toggled(300));
    assert_eq!(client.leave(), Some((Action::Reconnect, LeaveReason::StateMismatch)));
}

#[test]
fn publisher_is_notified_of_the_first_subscription_once() {
    let mut client = Client::active(vec![]);
    let (audio, _) = client.publish();
    client.take();
    client.room(RoomEvent::TrackSubscribed { track_sid: audio.clone() });
    client.room(RoomEvent::TrackSubscribed { track_sid: audio });
    assert_eq!(names(&client.outputs), ["TrackSubscribed"]);
}

#[test]
fn an_unencrypted_track_is_refused_in_a_room_that_requires_encryption() {
    let mut client = Client::active_with(SessionConfig { encrypted_only: true, ..config(vec![]) });
    let mut announce = |encryption: i32| {
        client.send(Request::AddTrack(proto::AddTrackRequest {
            cid: format!("mic-{encryption}"),
            source: proto::TrackSource::Microphone as i32,
            encryption,
            ..Default::default()
        }));
        let refused = client.refusal();
        client.take();
        refused
    };
    assert_eq!(announce(proto::encryption::Type::None as i32), Some(Reason::NotAllowed));
    assert_eq!(announce(99), Some(Reason::NotAllowed), "an unknown type counts as none");
    assert_eq!(announce(proto::encryption::Type::Gcm as i32), None);
    assert_eq!(announce(proto::encryption::Type::Custom as i32), None);
}

#[test]
fn unencrypted_tracks_end_when_the_room_begins_to_require_encryption() {
    let mut client = Client::active(vec![]);
    client.publish();
    client.take();
    client.room(RoomEvent::EncryptedOnly(true));
    let outputs = names(&client.take());
    for expected in ["media:RemoveTrack", "out:Unpublished", "TrackUnpublished", "out:Own"] {
        assert!(outputs.contains(&expected.into()), "{expected} in {outputs:?}");
    }
    assert!(client.session.info().tracks.is_empty());
    client.room(RoomEvent::EncryptedOnly(true));
    assert!(client.take().is_empty(), "nothing changed");
    client.room(RoomEvent::EncryptedOnly(false));
    assert_ne!(client.announce("mic", proto::TrackType::Audio, "opus"), "");
}

/// The qualities that the client was told to send, by codec, for each update.
#[allow(deprecated)]
fn told_qualities(client: &Client, sid: &str) -> Vec<(String, Vec<bool>)> {
    let updates = client.signals().into_iter().filter_map(|message| match message {
        Message::SubscribedQualityUpdate(update) => Some(update.clone()),
        _ => None,
    });
    updates
        .map(|update| {
            assert_eq!(update.track_sid, sid);
            let [codec] = update.subscribed_codecs.as_slice() else { panic!("one codec") };
            assert_eq!(codec.qualities, update.subscribed_qualities, "for clients that know no codecs");
            assert_eq!(codec.qualities.iter().map(|one| one.quality).collect::<Vec<_>>(), [0, 1, 2]);
            (codec.codec.clone(), codec.qualities.iter().map(|one| one.enabled).collect())
        })
        .collect()
}

#[test]
fn layers_that_nobody_wants_are_turned_off_at_the_client() {
    let mut client = Client::active(vec![]);
    let (_, sid) = client.publish();
    let key = client
        .outputs
        .iter()
        .find_map(|output| match output {
            Output::Published { sid: published, key, .. } => (*published == sid).then_some(*key),
            _ => None,
        })
        .unwrap();
    let layers = |of: &[u8]| of.iter().copied().map(Layer).fold(LayerSet::NONE, LayerSet::with);
    let told = |client: &mut Client| {
        let told = told_qualities(client, &sid);
        client.take();
        told
    };
    client.media(MediaEvent::Wanted { track: key, layers: layers(&[2]) });
    client.advance(Duration::from_secs(60));
    assert!(told(&mut client).is_empty(), "all layers are wanted");
    client.media(MediaEvent::Wanted { track: key, layers: layers(&[0]) });
    assert!(told(&mut client).is_empty(), "not at once");
    assert!(client.session.poll_timeout().unwrap() <= client.now + Duration::from_secs(5));
    client.advance(Duration::from_secs(5));
    assert_eq!(told(&mut client), [("vp8".to_owned(), vec![true, false, false])]);
    client.media(MediaEvent::Wanted { track: key, layers: layers(&[0, 1]) });
    assert_eq!(told(&mut client), [("vp8".to_owned(), vec![true, true, false])], "at once");
    client.media(MediaEvent::Wanted { track: key, layers: LayerSet::NONE });
    client.advance(Duration::from_secs(5));
    assert_eq!(told(&mut client), [("vp8".to_owned(), vec![false; 3])]);
    client.send(Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: true }));
    client.send(Request::Mute(proto::MuteTrackRequest { sid: sid.clone(), muted: false }));
    assert_eq!(told(&mut client), [("vp8".to_owned(), vec![false; 3])], "its encoder may have started anew");
    client.media(MediaEvent::Wanted { track: key, layers: layers(&[2]) });
    assert_eq!(told(&mut client), [("vp8".to_owned(), vec![true; 3])]);
}

#[test]
fn a_track_that_nobody_subscribes_to_is_turned_off_and_audio_never() {
    let mut client = Client::active(vec![]);
    let (_, sid) = client.publish();
    client.advance(Duration::from_secs(9));
    assert!(told_qualities(&client, &sid).is_empty(), "subscribers may be on their way");
    client.advance(Duration::from_secs(1));
    assert_eq!(told_qualities(&client, &sid), [("vp8".to_owned(), vec![false; 3])]);
    client.take();
    client.advance(Duration::from_secs(60));
    assert!(told_qualities(&client, &sid).is_empty(), "told once");
}
