//! A session and the client, worker and room around it, in simulated time.

mod invariants;
mod participants;
mod publishing;
mod shared_sids;
mod subscribing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use livekit_protocol::{
    self as proto, leave_request::Action, participant_info::State, request_response::Reason,
    signal_request::Message as Request, signal_response::Message,
};
use systir_rtp::packet::{Codec, Kind, Layer, LayerSet};

use super::*;
use crate::sdp::{CandidateProtocol, IceCandidate, MAX_SECTIONS};
use crate::token::{Grants, PublishSource};
use systir_media_control::{
    CaptureSource, DataChannel, IceCredentials, KeyAllocator, ParticipantKey, RoomNumber, Side, TrackDemand,
    TrackKey, TrackSource, WorkerCommand,
};

pub(super) fn grants(identity: &str) -> Grants {
    Grants {
        name: "Ada".into(),
        attributes: BTreeMap::from([("seat".into(), "4".into())]),
        can_update_own_metadata: true,
        ..Grants::new("ku.dk", "seminar", identity)
    }
}

fn ice(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: "0123456789abcdefABCDEF".into() }
}

fn config(others: Vec<RemoteParticipant>) -> SessionConfig {
    SessionConfig {
        participant: ParticipantKey(1),
        sid: "PA_ada".into(),
        room_key: RoomNumber(1),
        room: proto::Room { sid: "RM_1".into(), name: "seminar".into(), ..Default::default() },
        grants: grants("ada"),
        client: proto::ClientInfo::default(),
        server: ServerFacts {
            version: ServerFacts::VERSION.into(),
            region: "cph".into(),
            node_id: "cph-1".into(),
        },
        media: MediaDescription {
            candidates: vec![IceCandidate {
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
        encrypted_only: false,
        red: false,
        attributes: vec![("systir.node".into(), "cph-1".into())],
        version: 0,
        others: others.into_iter().map(Arc::new).collect(),
        limits: Limits::default(),
        keys: Arc::new(KeyAllocator::new()),
        seed: [3; 32],
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        now: Instant::now(),
    }
}

/// A remote participant with these tracks: sid, key and codec. `version` is that of its media node.
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

/// The event that shows these participants.
fn shown(participants: Vec<RemoteParticipant>) -> RoomEvent {
    RoomEvent::Participants(participants.into_iter().map(Arc::new).collect())
}

fn bob() -> RemoteParticipant {
    remote("bob", 3, &[("TR_AMbob", 100, Codec::Opus), ("TR_VCbob", 101, Codec::Vp8)])
}

/// A session, its time, and a client that answers as a browser with every codec.
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

    /// A client that has joined, connected and answered the first offer; its outputs are cleared.
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

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.drain();
    }

    /// Answers the last offer, with port zero on the m-lines in `rejected`.
    fn answer(&mut self, rejected: &[&str]) {
        let Some(offer) = self.last_offer() else { panic!("nothing was offered") };
        self.answer_to(&offer, rejected);
    }

    fn answer_to(&mut self, offer: &proto::SessionDescription, rejected: &[&str]) {
        let mut text = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        for section in offer.sdp.split("m=").skip(1) {
            let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap();
            let line = section.lines().next().unwrap();
            let line = if rejected.contains(&mid) { line.replacen(" 9 ", " 0 ", 1) } else { line.into() };
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
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Signal(response) => response.message.as_ref(),
                _ => None,
            })
            .collect()
    }

    fn commands(&self) -> Vec<&WorkerCommand> {
        self.outputs
            .iter()
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

    fn leave(&self) -> Option<(Action, LeaveReason)> {
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

    /// Publishes Chrome's microphone and camera, and returns their sids.
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
