use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use livekit_protocol::{
    self as proto, leave_request::Action, participant_info::State, request_response::Reason,
    signal_request::Message as Request, signal_response::Message,
};
use proptest::prelude::*;
use systir_media::packet::{Codec, Kind, Layer, LayerSet};

use super::*;
use crate::sdp::{Candidate, CandidateProtocol, MAX_SECTIONS};
use crate::token::{Grants, Source};
use crate::worker::command::{
    Command, DataChannel, IceCredentials, ParticipantKey, RoomKey, Side, TrackKey, TrackSource,
};

pub(super) fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.into(),
        name: "Ada".into(),
        metadata: String::new(),
        attributes: BTreeMap::from([("seat".into(), "4".into())]),
        kind: 0,
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        can_publish_sources: None,
        can_update_own_metadata: true,
        hidden: false,
        recorder: false,
        agent: false,
        room_admin: false,
        room: "seminar".into(),
        institution: "ku.dk".into(),
        expires: 0,
    }
}

fn ice(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: "0123456789abcdefABCDEF".into() }
}

fn config(others: Vec<RemoteParticipant>) -> SessionConfig {
    SessionConfig {
        participant: ParticipantKey(1),
        sid: "PA_ada".into(),
        room_key: RoomKey(1),
        room: proto::Room { sid: "RM_1".into(), name: "seminar".into(), ..Default::default() },
        grants: grants("ada"),
        client: proto::ClientInfo::default(),
        server: ServerFacts {
            version: ServerFacts::VERSION.into(),
            region: "cph".into(),
            node_id: "cph-1".into(),
        },
        media: MediaDescription {
            candidates: vec![Candidate {
                address: "192.0.2.10:7882".parse().unwrap(),
                protocol: CandidateProtocol::Udp,
            }],
            fingerprint: [1; 32],
            publisher: ice("ourPub01"),
            subscriber: ice("ourSub01"),
        },
        ice_servers: Vec::new(),
        auto_subscribe: true,
        codecs: vec![Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
        red: false,
        attributes: vec![("systir.node".into(), "cph-1".into())],
        version: 0,
        others,
        limits: Limits::default(),
        keys: std::sync::Arc::new(KeyMint::new()),
        node_tag: "c1".into(),
        seed: [3; 32],
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        now: Instant::now(),
    }
}

/// A participant with an audio and a video track; `version` as their node counts it.
fn remote(name: &str, version: u32, tracks: &[(&str, u64, Codec)]) -> RemoteParticipant {
    let info = |(sid, _, codec): &(&str, u64, Codec)| proto::TrackInfo {
        sid: (*sid).into(),
        r#type: i32::from(codec.kind() == Kind::Video),
        width: 1280,
        height: 720,
        ..Default::default()
    };
    RemoteParticipant {
        info: proto::ParticipantInfo {
            sid: format!("PA_{name}"),
            identity: name.into(),
            state: State::Active as i32,
            version,
            tracks: tracks.iter().map(info).collect(),
            ..Default::default()
        },
        tracks: tracks
            .iter()
            .map(|(sid, key, codec)| RemoteTrack { sid: (*sid).into(), key: TrackKey(*key), codec: *codec })
            .collect(),
    }
}

fn bob() -> RemoteParticipant {
    remote("bob", 3, &[("TR_AMbob", 100, Codec::Opus), ("TR_VCbob", 101, Codec::Vp8)])
}

/// A session, its clock, and a client that answers as a browser with every codec does.
struct Client {
    session: Session,
    now: Instant,
    outputs: Vec<Output>,
}

impl Client {
    fn new(config: SessionConfig) -> Self {
        let now = config.now;
        let mut client = Self { session: Session::new(config), now, outputs: Vec::new() };
        client.drain();
        client
    }

    /// Joined, connected, everything answered, nothing left to read.
    fn active(others: Vec<RemoteParticipant>) -> Self {
        Self::active_with(config(others))
    }

    fn active_with(config: SessionConfig) -> Self {
        let mut client = Self::new(config);
        client.answer(&[]);
        client.media(MediaEvent::Connected(Side::Subscriber));
        client.outputs.clear();
        client
    }

    fn drain(&mut self) {
        self.outputs.extend(std::iter::from_fn(|| self.session.poll_output()));
    }

    fn send(&mut self, message: Request) {
        self.session.handle(proto::SignalRequest { message: Some(message) }, self.now);
        self.drain();
    }

    fn room(&mut self, event: RoomEvent) {
        self.session.room_event(event, self.now);
        self.drain();
    }

    fn media(&mut self, event: MediaEvent) {
        self.session.media_event(event, self.now);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.drain();
    }

    /// Answers the last offer; port zero on the lines in `lacks`.
    fn answer(&mut self, lacks: &[&str]) {
        let Some(offer) = self.last_offer() else { panic!("nothing was offered") };
        self.answer_to(&offer, lacks);
    }

    fn answer_to(&mut self, offer: &proto::SessionDescription, lacks: &[&str]) {
        let mut text = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        for section in offer.sdp.split("m=").skip(1) {
            let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap();
            let line = section.lines().next().unwrap();
            let line = if lacks.contains(&mid) { line.replacen(" 9 ", " 0 ", 1) } else { line.into() };
            text += &format!("m={line}\r\na=mid:{mid}\r\na=setup:active\r\na=ice-ufrag:abcd\r\n");
            text += "a=ice-pwd:0123456789012345678901\r\na=recvonly\r\n";
            text += &format!("a=fingerprint:sha-256 {}\r\n", ["0F"; 32].join(":"));
        }
        let id = offer.id;
        self.send(Request::Answer(proto::SessionDescription {
            r#type: "answer".into(),
            sdp: text,
            id,
            ..Default::default()
        }));
    }

    fn last_offer(&self) -> Option<proto::SessionDescription> {
        self.signals().into_iter().rev().find_map(|message| match message {
            Message::Offer(offer) => Some(offer.clone()),
            _ => None,
        })
    }

    fn signals(&self) -> Vec<&Message> {
        let signal = |output: &'_ Output| matches!(output, Output::Signal(_));
        self.outputs
            .iter()
            .filter(|output| signal(output))
            .filter_map(|output| match output {
                Output::Signal(response) => response.message.as_ref(),
                _ => None,
            })
            .collect()
    }

    fn commands(&self) -> Vec<&Command> {
        let command = |output: &'_ Output| matches!(output, Output::Media(_));
        self.outputs
            .iter()
            .filter(|output| command(output))
            .filter_map(|output| match output {
                Output::Media(command) => Some(command),
                _ => None,
            })
            .collect()
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn refusal(&self) -> Option<Reason> {
        self.signals().into_iter().rev().find_map(|message| match message {
            Message::RequestResponse(response) => Reason::try_from(response.reason).ok(),
            _ => None,
        })
    }

    fn left(&self) -> Option<(Action, LeaveReason)> {
        let ends = self.outputs.iter().any(|output| matches!(output, Output::Left { .. }));
        self.signals().into_iter().rev().find_map(|message| match message {
            Message::Leave(leave) if ends => {
                Some((Action::try_from(leave.action).ok()?, LeaveReason::try_from(leave.reason).ok()?))
            }
            _ => None,
        })
    }

    fn announce(&mut self, cid: &str, kind: proto::TrackType, codec: &str) -> String {
        let source = match kind {
            proto::TrackType::Audio => proto::TrackSource::Microphone,
            _ => proto::TrackSource::Camera,
        };
        self.send(Request::AddTrack(proto::AddTrackRequest {
            cid: cid.into(),
            name: cid.into(),
            r#type: kind as i32,
            source: source as i32,
            width: 1280,
            height: 720,
            simulcast_codecs: vec![proto::SimulcastCodec {
                codec: codec.into(),
                cid: cid.into(),
                ..Default::default()
            }],
            ..Default::default()
        }));
        self.signals()
            .into_iter()
            .rev()
            .find_map(|message| match message {
                Message::TrackPublished(response) if response.cid == cid => {
                    response.track.as_ref().map(|track| track.sid.clone())
                }
                _ => None,
            })
            .unwrap_or_default()
    }

    fn offer(&mut self, sdp: &str) {
        self.send(Request::Offer(proto::SessionDescription {
            r#type: "offer".into(),
            sdp: sdp.into(),
            id: 9,
            ..Default::default()
        }));
    }

    /// Publishes Chrome's microphone and camera; the sids.
    fn publish(&mut self) -> (String, String) {
        let audio = self.announce("7d2b1c5e-mic", proto::TrackType::Audio, "");
        let video = self.announce("0a9b8c7d-cam", proto::TrackType::Video, "vp8");
        self.offer(CHROME);
        (audio, video)
    }
}

const CHROME: &str = include_str!("../../golden/offer-chrome.sdp");

fn names(outputs: &[Output]) -> Vec<String> {
    let name = |text: String| text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    outputs
        .iter()
        .map(|output| match output {
            Output::Signal(response) => name(format!("{:?}", response.message.as_ref().unwrap())),
            Output::Media(command) => format!("media:{}", name(format!("{command:?}"))),
            other => format!("out:{}", name(format!("{other:?}"))),
        })
        .collect()
}

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
fn tracks_that_are_there_are_in_the_first_offer() {
    let mut client = Client::new(config(vec![bob()]));
    let offer = client.last_offer().unwrap();
    assert_eq!(offer.mid_to_track_id.get("1").map(String::as_str), Some("TR_AMbob"));
    assert!(offer.sdp.contains("a=msid:PA_bob|TR_VCbob TR_VCbob"));
    assert_eq!(
        names(&client.take()),
        ["media:Join", "Join", "out:Own", "out:Subscribed", "out:Subscribed", "Offer"]
    );
    client.answer_to(&offer, &[]);
    assert_eq!(
        names(&client.outputs),
        ["media:Remote", "media:Subscribe", "media:Subscribe", "media:Target"]
    );
    assert!(matches!(
        client.commands()[3],
        Command::Target { track: TrackKey(101), layer: Some(Layer(2)), .. }
    ));
    client.take();
    client.media(MediaEvent::Connected(Side::Subscriber));
    assert_eq!(names(&client.take()), ["out:Own", "Update", "ConnectionQuality"]);
    assert_eq!(client.session.info().state, State::Active as i32);
    client.media(MediaEvent::Connected(Side::Subscriber));
    assert!(client.outputs.is_empty(), "connected once");
}

#[test]
fn publishing_follows_the_protocols_order() {
    let mut client = Client::active(vec![]);
    let before = client.session.info().version;
    let (audio, video) = client.publish();
    assert!(audio.starts_with("TR_AMc1") && video.starts_with("TR_VCc1"));
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
    let Command::AddTrack { spec, source, .. } = client.commands()[1] else { panic!("no track") };
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
fn announced_twice_is_one_track() {
    let mut client = Client::active(vec![]);
    let once = client.announce("mic", proto::TrackType::Audio, "opus");
    assert_eq!(client.announce("mic", proto::TrackType::Audio, "opus"), once);
}

#[test]
fn track_whose_name_changed_is_found_by_its_kind() {
    let mut client = Client::active(vec![]);
    client.announce("another-name", proto::TrackType::Video, "h264");
    client.offer(CHROME);
    let own = client.session.info();
    assert_eq!((own.tracks.len(), own.tracks[0].mid.as_str()), (1, "2"));
    assert_eq!(own.tracks[0].mime_type, "video/H264");
}

#[test]
fn track_that_is_never_brought_is_forgotten() {
    let mut client = Client::active(vec![]);
    client.announce("mic", proto::TrackType::Audio, "opus");
    client.pass(Duration::from_secs(60));
    client.take();
    client.offer(CHROME);
    assert!(client.session.info().tracks.is_empty());
}

#[test]
fn muting_tells_worker_and_room() {
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
    client.announce("somebody-elses", proto::TrackType::Video, "vp8");
    assert_eq!(names(&client.take()), ["TrackPublished"], "another track is not on that line");
    client.announce("0a9b8c7d-cam", proto::TrackType::Video, "");
    assert_eq!(
        names(&client.outputs),
        ["TrackPublished", "out:Published", "media:AddTrack", "media:Receive", "out:Own"]
    );
    let Command::Receive { sections, .. } = client.commands()[1] else { panic!("no sections") };
    let carried: Vec<bool> = sections.iter().map(|section| section.track.is_some()).collect();
    assert_eq!(carried, [false, true]);
    assert_eq!(client.session.info().tracks[0].mid, "2");
}

#[test]
fn nobody_sends_on_a_line_who_may_not_publish() {
    let mut config = config(vec![]);
    config.grants.can_publish = false;
    let mut client = Client::active_with(config);
    client.offer(CHROME);
    let Some(Message::Answer(answer)) = client.signals().pop().cloned() else { panic!("no answer") };
    assert_eq!(answer.sdp.matches("a=recvonly").count(), 0);
}

#[test]
fn line_that_is_handed_to_another_track_ends_the_first() {
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
fn layers_are_named_as_the_line_names_them() {
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
fn track_may_be_asked_for_before_it_can_be_received() {
    let mut config = config(vec![]);
    config.auto_subscribe = false;
    let mut client = Client::active_with(config);
    client.room(RoomEvent::Participants(vec![RemoteParticipant { tracks: Vec::new(), ..bob() }]));
    client.take();
    client.send(Request::Subscription(proto::UpdateSubscription {
        track_sids: vec!["TR_VCbob".into()],
        subscribe: true,
        ..Default::default()
    }));
    assert!(client.outputs.is_empty(), "it is shown, so it is no mistake");
    client.room(RoomEvent::Participants(vec![bob()]));
    assert_eq!(names(&client.take()), ["Update", "out:Subscribed"]);
}

#[test]
fn who_restricts_its_tracks_is_told_that_it_cannot() {
    let mut client = Client::active(vec![]);
    let all = proto::SubscriptionPermission { all_participants: true, ..Default::default() };
    client.send(Request::SubscriptionPermission(all));
    assert!(client.outputs.is_empty());
    client.send(Request::SubscriptionPermission(proto::SubscriptionPermission::default()));
    assert_eq!(client.refusal(), Some(Reason::UnsupportedType));
}

#[test]
fn codec_that_was_assumed_wrongly_becomes_another_track_of_the_same_sid() {
    let mut client = Client::active(vec![]);
    client.announce("7d2b1c5e-mic", proto::TrackType::Audio, "");
    let sid = client.announce("0a9b8c7d-cam", proto::TrackType::Video, "");
    client.offer(CHROME);
    let Some(Command::AddTrack { track: old, .. }) =
        client.commands().into_iter().rfind(|c| matches!(c, Command::AddTrack { .. }))
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
fn newcomers_are_told_and_then_offered_together() {
    let mut client = Client::active(vec![]);
    client.room(RoomEvent::Participants(vec![bob(), remote("eve", 1, &[("TR_AMeve", 102, Codec::Opus)])]));
    assert_eq!(names(&client.take()), ["Update", "out:Subscribed", "out:Subscribed", "out:Subscribed"]);
    assert_eq!(client.session.poll_timeout(), Some(client.now + Duration::from_millis(50)));
    client.pass(Duration::from_millis(50));
    let offer = client.last_offer().unwrap();
    assert_eq!((offer.id, offer.mid_to_track_id.len()), (2, 3));
}

#[test]
fn one_offer_waits_at_a_time() {
    let mut client = Client::new(config(vec![]));
    let first = client.last_offer().unwrap();
    client.take();
    client.room(RoomEvent::Participants(vec![bob()]));
    client.pass(Duration::from_secs(1));
    assert!(client.last_offer().is_none(), "the first one is not answered");
    let stale = proto::SessionDescription { id: 7, ..first.clone() };
    client.answer_to(&stale, &[]);
    client.pass(Duration::from_secs(1));
    assert!(client.last_offer().is_none(), "an answer to another offer");
    client.answer_to(&first, &[]);
    assert!(!client.commands().iter().any(|command| matches!(command, Command::Subscribe { .. })));
    client.pass(Duration::from_millis(50));
    assert_eq!(client.last_offer().unwrap().mid_to_track_id.len(), 2);
    client.answer(&[]);
    assert_eq!(client.commands().iter().filter(|one| matches!(one, Command::Subscribe { .. })).count(), 2);
}

#[test]
fn client_that_never_answers_is_told_to_come_back() {
    let mut client = Client::new(config(vec![]));
    let due = client.session.poll_timeout().unwrap();
    assert_eq!(due, client.now + Duration::from_secs(15));
    client.pass(Duration::from_secs(15));
    assert_eq!(client.left(), Some((Action::Reconnect, LeaveReason::ConnectionTimeout)));
    assert_eq!(client.session.poll_timeout(), None);
}

#[test]
fn client_that_never_connects_is_told_to_come_back() {
    let mut client = Client::new(config(vec![]));
    client.answer(&[]);
    client.pass(Duration::from_secs(30));
    assert_eq!(client.left(), Some((Action::Reconnect, LeaveReason::ConnectionTimeout)));
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
    client.room(RoomEvent::Participants(vec![RemoteParticipant {
        info: proto::ParticipantInfo { version: 4, ..bob().info },
        ..bob()
    }]));
    assert_eq!(names(&client.take()), ["Update"], "not tried again");
    let other = remote("bob", 5, &[("TR_AMbob", 100, Codec::Opus), ("TR_VCbob", 103, Codec::H264)]);
    client.room(RoomEvent::Participants(vec![other]));
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
    client.pass(Duration::from_millis(50));
    client.answer(&[]);
    client.take();
    client.send(subscribe(false, "TR_VCbob"));
    assert_eq!(names(&client.take()), ["media:Unsubscribe", "out:Unsubscribed"]);
    client.pass(Duration::from_millis(50));
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
fn settings_choose_the_layer_also_before_the_answer() {
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
                Command::Target { layer, .. } => Some(*layer),
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
fn those_who_leave_take_their_tracks_along() {
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
fn older_news_of_a_participant_is_no_news() {
    let mut client = Client::active(vec![bob()]);
    client.room(RoomEvent::Participants(vec![remote("bob", 2, &[])]));
    assert!(client.outputs.is_empty());
    client.room(RoomEvent::Participants(vec![remote("bob", 4, &[("TR_AMbob", 100, Codec::Opus)])]));
    assert_eq!(names(&client.outputs), ["media:Unsubscribe", "out:Unsubscribed", "Update"]);
}

#[test]
fn sids_that_would_break_a_description_are_not_believed() {
    let mut evil = remote("bob", 9, &[("TR_1\r\na=x", 100, Codec::Opus)]);
    let mut client = Client::active(vec![evil.clone()]);
    client.pass(Duration::from_secs(1));
    assert!(client.last_offer().is_none());
    evil.info.sid = "PA_x\r\na=y".into();
    client.room(RoomEvent::Participants(vec![evil]));
    assert!(client.outputs.is_empty());
    let mut spaced = remote("eve", 1, &[("TR_AMeve", 7, Codec::Opus)]);
    spaced.info.tracks[0].stream = "cam\r\na=z".into();
    client.room(RoomEvent::Participants(vec![spaced]));
    client.pass(Duration::from_secs(1));
    assert!(client.last_offer().unwrap().sdp.contains("a=msid:PA_eve|TR_AMeve TR_AMeve"));
}

#[test]
fn a_track_belongs_to_who_had_it_first() {
    let mut client = Client::active(vec![bob()]);
    client.room(RoomEvent::Participants(vec![remote("eve", 1, &[("TR_AMbob", 666, Codec::Opus)])]));
    assert_eq!(names(&client.take()), ["Update"]);
    client.room(RoomEvent::Left { sid: "PA_eve".into(), reason: LeaveReason::ClientInitiated });
    assert_eq!(names(&client.take()), ["Update"]);
}

#[test]
fn publishing_without_permission_is_refused() {
    let mut denied = config(vec![]);
    denied.grants.can_publish_sources = Some(vec![Source::Microphone]);
    let mut client = Client::active_with(denied);
    assert_eq!(client.announce("cam", proto::TrackType::Video, "vp8"), "");
    assert_eq!(client.refusal(), Some(Reason::NotAllowed));
    client.offer(CHROME);
    assert!(!client.commands().iter().any(|command| matches!(command, Command::AddTrack { .. })));
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
fn who_often_begins_to_share_a_screen_and_changes_his_mind_is_not_locked_out() {
    let mut client = Client::active(vec![]);
    for n in 0..200 {
        assert_ne!(client.announce(&format!("screen{n}"), proto::TrackType::Video, "vp8"), "");
    }
    let (_, camera) = client.publish();
    assert!(client.session.info().tracks.iter().any(|track| track.sid == camera));
}

#[test]
fn a_client_whose_offers_grew_too_long_begins_afresh() {
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
    assert_eq!(client.left(), None);
    assert_eq!(client.refusal(), None);
    client.offer(&toggled(300));
    assert_eq!(client.left(), Some((Action::Reconnect, LeaveReason::StateMismatch)));
}

#[test]
fn revoked_permission_ends_what_it_allowed() {
    let mut client = Client::active(vec![bob()]);
    client.publish();
    client.take();
    let fewer = Grants {
        can_publish_sources: Some(vec![Source::Microphone]),
        can_subscribe: false,
        identity: "mallory".into(),
        ..grants("ada")
    };
    client.room(RoomEvent::Permission(Box::new(fewer)));
    let said = names(&client.outputs);
    for expected in
        ["media:RemoveTrack", "out:Unpublished", "TrackUnpublished", "Update", "media:Unsubscribe"]
    {
        assert!(said.contains(&expected.into()), "{expected} in {said:?}");
    }
    assert_eq!(client.session.info().tracks.len(), 1);
    assert_eq!(client.session.info().identity, "ada");
    assert!(!client.session.info().permission.clone().unwrap().can_subscribe);
}

#[test]
fn metadata_needs_permission_and_room() {
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
fn data_is_stamped_routed_or_dropped() {
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
fn publisher_hears_of_the_first_subscription_once() {
    let mut client = Client::active(vec![]);
    let (audio, _) = client.publish();
    client.take();
    client.room(RoomEvent::TrackSubscribed { track_sid: audio.clone() });
    client.room(RoomEvent::TrackSubscribed { track_sid: audio });
    assert_eq!(names(&client.outputs), ["TrackSubscribed"]);
}

#[test]
fn speakers_are_those_whom_the_client_knows() {
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
fn hidden_participants_are_not_told() {
    let mut ghost = bob();
    ghost.info.permission = Some(proto::ParticipantPermission { hidden: true, ..Default::default() });
    let mut client = Client::new(config(vec![ghost.clone()]));
    let Some(Message::Join(join)) = client.signals().first().copied().cloned() else { panic!("no join") };
    assert!(join.other_participants.is_empty());
    client.take();
    client.room(RoomEvent::Participants(vec![ghost]));
    assert!(client.outputs.is_empty());
}

#[test]
fn pings_are_answered_with_the_servers_time() {
    let mut client = Client::active(vec![]);
    client.pass(Duration::from_millis(1500));
    client.take();
    client.send(Request::Ping(12));
    client.send(Request::PingReq(proto::Ping { timestamp: 77, rtt: 1 }));
    assert_eq!(*client.signals()[0], Message::Pong(1_800_000_001_500));
    let pong = proto::Pong { last_ping_timestamp: 77, timestamp: 1_800_000_001_500 };
    assert_eq!(*client.signals()[1], Message::PongResp(pong));
}

#[test]
fn leaving_ends_everything_once() {
    let mut client = Client::active(vec![bob()]);
    client.publish();
    client.take();
    client.send(Request::Leave(proto::LeaveRequest { reason: 1, ..Default::default() }));
    let said = names(&client.outputs);
    assert_eq!(said.iter().filter(|name| *name == "media:RemoveTrack").count(), 2);
    assert_eq!(&said[said.len() - 3..], ["media:Leave", "out:Own", "out:Left"]);
    assert_eq!(client.session.info().state, State::Disconnected as i32);
    assert_eq!(client.session.info().disconnect_reason, LeaveReason::ClientInitiated as i32);
    client.take();
    client.send(Request::Ping(1));
    client.room(RoomEvent::Participants(vec![bob()]));
    client.pass(Duration::from_secs(100));
    assert!(client.outputs.is_empty());
}

#[test]
fn lost_media_drained_node_and_removal_say_what_to_do() {
    let end = |event: Box<dyn Fn(&mut Client)>| {
        let mut client = Client::active(vec![]);
        event(&mut client);
        client.left()
    };
    let lost = end(Box::new(|client| client.media(MediaEvent::Closed(Side::Publisher))));
    assert_eq!(lost, Some((Action::Reconnect, LeaveReason::MediaFailure)));
    let drained = end(Box::new(|client| client.room(RoomEvent::Reconnect(LeaveReason::ServerShutdown))));
    assert_eq!(drained, Some((Action::Reconnect, LeaveReason::ServerShutdown)));
    let twin = end(Box::new(|client| client.room(RoomEvent::Remove(LeaveReason::DuplicateIdentity))));
    assert_eq!(twin, Some((Action::Disconnect, LeaveReason::DuplicateIdentity)));
}

#[test]
fn nonsense_is_counted_or_refused() {
    let mut client = Client::active(vec![]);
    client.session.handle(proto::SignalRequest { message: None }, client.now);
    client.offer("hello");
    assert_eq!(client.refusal(), Some(Reason::InvalidRequest));
    client.send(Request::Answer(proto::SessionDescription::default()));
    client.send(Request::SyncState(proto::SyncState::default()));
    client.send(Request::Simulate(proto::SimulateScenario::default()));
    let counts = client.session.counts();
    assert_eq!((counts.garbled, counts.ignored), (2, 3));
    assert!(!client.session.is_ended());
}

#[test]
fn quality_is_told_once_for_each() {
    let mut client = Client::active(vec![]);
    client.pass(Duration::from_secs(5));
    assert!(client.outputs.is_empty());
    client.room(RoomEvent::Participants(vec![remote("bob", 1, &[])]));
    client.take();
    client.pass(Duration::from_secs(5));
    let Some(Message::ConnectionQuality(update)) = client.signals().pop().cloned() else {
        panic!("no quality")
    };
    assert_eq!(update.updates.len(), 1);
    assert_eq!(update.updates[0].quality, proto::ConnectionQuality::Excellent as i32);
}

#[derive(Debug, Clone)]
enum Step {
    Announce(u8, bool),
    Offer(u8),
    Answer(u8),
    Join(u8, u8),
    Leave(u8),
    Ask(u8, bool),
    Mute(u8),
    Pass(u16),
    Bytes(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..3, any::<bool>()).prop_map(|(n, video)| Step::Announce(n, video)),
        (0_u8..4).prop_map(Step::Offer),
        (0_u8..6).prop_map(Step::Answer),
        (0_u8..4, 0_u8..4).prop_map(|(who, tracks)| Step::Join(who, tracks)),
        (0_u8..4).prop_map(Step::Leave),
        (0_u8..16, any::<bool>()).prop_map(|(track, on)| Step::Ask(track, on)),
        (0_u8..3).prop_map(Step::Mute),
        (0_u16..4000).prop_map(Step::Pass),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever clients and rooms do: versions only go up, offers wait their turn, the worker is
    /// told of a track before it is used, and nothing is subscribed twice.
    #[test]
    fn sessions_keep_their_promises(steps in proptest::collection::vec(step(), 1..60)) {
        let mut client = Client::new(config(vec![bob()]));
        let mut pending: Option<proto::SessionDescription> = None;
        let (mut version, mut subscribed, mut known) = (0, std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut clock = 10;
        // The first step takes what a session says when it begins.
        for step in std::iter::once(Step::Pass(0)).chain(steps) {
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
                    client.room(RoomEvent::Participants(vec![remote(&format!("p{who}"), clock, &tracks)]));
                }
                Step::Leave(who) => client.room(RoomEvent::Left { sid: format!("PA_p{who}"), reason: LeaveReason::ClientInitiated }),
                Step::Ask(track, subscribe) => client.send(Request::Subscription(proto::UpdateSubscription {
                    track_sids: vec![format!("TR_{track}")],
                    subscribe,
                    ..Default::default()
                })),
                Step::Mute(n) => {
                    let sid = client.session.info().tracks.get(usize::from(n)).map(|track| track.sid.clone());
                    client.send(Request::Mute(proto::MuteTrackRequest { sid: sid.unwrap_or_default(), muted: n != 1 }));
                }
                Step::Pass(millis) => client.pass(Duration::from_millis(millis.into())),
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
                        prop_assert!(info.version > version, "versions only go up");
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
                    Output::Media(Command::AddTrack { track, .. }) => prop_assert!(known.insert(track)),
                    Output::Media(Command::RemoveTrack { track }) => prop_assert!(known.remove(&track)),
                    Output::Media(Command::Receive { sections, .. }) => {
                        prop_assert!(sections.iter().filter_map(|section| section.track).all(|track| known.contains(&track)));
                    }
                    Output::Media(Command::Subscribe { downtrack, .. }) => prop_assert!(subscribed.contains(&downtrack.track)),
                    _ => {}
                }
            }
            if client.session.is_ended() {
                break;
            }
        }
        if client.session.is_ended() {
            prop_assert!(subscribed.is_empty() && known.is_empty(), "the end leaves nothing behind");
        }
    }
}
