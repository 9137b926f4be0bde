//! Invariants of a session, tested with random inputs.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Announce(u8, bool),
    Offer(u8),
    Answer(u8),
    Join(u8, u8),
    Leave(u8),
    Subscribe(u8, bool),
    Mute(u8),
    Advance(u16),
    Bytes(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..3, any::<bool>()).prop_map(|(n, video)| Step::Announce(n, video)),
        (0_u8..4).prop_map(Step::Offer),
        (0_u8..6).prop_map(Step::Answer),
        (0_u8..4, 0_u8..4).prop_map(|(who, tracks)| Step::Join(who, tracks)),
        (0_u8..4).prop_map(Step::Leave),
        (0_u8..16, any::<bool>()).prop_map(|(track, on)| Step::Subscribe(track, on)),
        (0_u8..3).prop_map(Step::Mute),
        (0_u16..4000).prop_map(Step::Advance),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Versions only increase, there is one offer at a time, the worker gets a track before it is used, and no
    /// track is subscribed to twice.
    #[test]
    fn sessions_keep_their_invariants(steps in proptest::collection::vec(step(), 1..60)) {
        let mut client = Client::new(config(vec![bob()]));
        let mut pending: Option<proto::SessionDescription> = None;
        let (mut version, mut subscribed, mut known) = (0, std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut clock = 10;
        // The first step checks the outputs of the beginning.
        for step in std::iter::once(Step::Advance(0)).chain(steps) {
            match step {
                Step::Announce(n, video) => {
                    let kind = if video { proto::TrackType::Video } else { proto::TrackType::Audio };
                    client.announce(&format!("track{n}"), kind, if video { "vp8" } else { "opus" });
                }
                Step::Offer(n) => {
                    let text = match n {
                        0 => CHROME.to_owned(),
                        1 => CHROME.replace("a=sendonly", "a=inactive"),
                        2 => CHROME.replace("m=video 9", "m=video 0").replace("BUNDLE 0 1 2", "BUNDLE 0 1"),
                        _ => CHROME.replace("VP8", "VP7"),
                    };
                    client.offer(&text);
                }
                Step::Answer(lacks) => {
                    if let Some(offer) = pending.take() {
                        client.answer_to(&offer, &[&(lacks + 1).to_string()]);
                    }
                }
                Step::Join(who, tracks) => {
                    clock += 1;
                    let sids: Vec<String> = (0..tracks).map(|n| format!("TR_{}", who * 4 + n)).collect();
                    let tracks: Vec<_> = sids
                        .iter()
                        .zip(0_u64..)
                        .map(|(sid, n)| (sid.as_str(), 1000 + u64::from(who) * 4 + n, if n % 2 == 0 { Codec::Opus } else { Codec::Vp8 }))
                        .collect();
                    client.room(shown(vec![remote(&format!("p{who}"), clock, &tracks)]));
                }
                Step::Leave(who) => client.room(RoomEvent::Left { sid: format!("PA_p{who}"), reason: LeaveReason::ClientInitiated }),
                Step::Subscribe(track, subscribe) => client.send(Request::Subscription(proto::UpdateSubscription {
                    track_sids: vec![format!("TR_{track}")],
                    subscribe,
                    ..Default::default()
                })),
                Step::Mute(n) => {
                    let sid = client.session.info().tracks.get(usize::from(n)).map(|track| track.sid.clone());
                    client.send(Request::Mute(proto::MuteTrackRequest { sid: sid.unwrap_or_default(), muted: n != 1 }));
                }
                Step::Advance(millis) => client.advance(Duration::from_millis(millis.into())),
                Step::Bytes(bytes) => {
                    use prost::Message as _;
                    if let Ok(request) = proto::SignalRequest::decode(bytes.as_slice()) {
                        client.session.handle(request, client.now);
                        client.drain();
                    }
                    client.media(MediaEvent::Data { channel: DataChannel::Lossy, packet: bytes.into() });
                }
            }
            for output in client.take() {
                match output {
                    Output::Own(info) => {
                        prop_assert!(info.version > version, "versions only increase");
                        version = info.version;
                    }
                    Output::Signal(response) => {
                        if let Some(Message::Offer(offer)) = response.message {
                            prop_assert!(pending.is_none(), "one offer at a time");
                            prop_assert!(offer.sdp.matches("m=").count() <= MAX_SECTIONS);
                            pending = Some(offer);
                        }
                    }
                    Output::Subscribed { key, .. } => prop_assert!(subscribed.insert(key), "subscribed once"),
                    Output::Unsubscribed { key, .. } => prop_assert!(subscribed.remove(&key), "was subscribed"),
                    Output::Media(WorkerCommand::AddTrack { track, .. }) => prop_assert!(known.insert(track)),
                    Output::Media(WorkerCommand::RemoveTrack { track }) => prop_assert!(known.remove(&track)),
                    Output::Media(WorkerCommand::Receive { sections, .. }) => {
                        prop_assert!(sections.iter().filter_map(|section| section.track).all(|track| known.contains(&track)));
                    }
                    Output::Media(WorkerCommand::Subscribe { downtrack, .. }) => prop_assert!(subscribed.contains(&downtrack.track)),
                    _ => {}
                }
            }
            if client.session.is_ended() {
                break;
            }
        }
        if client.session.is_ended() {
            prop_assert!(subscribed.is_empty() && known.is_empty(), "at the end no track and no subscription is left");
        }
    }
}
